/** Percentiles and medians. */

/** @param {readonly number[]} values */
export function median(values) {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >>> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Latencies, at most `max` of them; the room is there before the measurement begins. */
export class Samples {
  #values
  #count = 0

  constructor(max = 1_000_000) {
    this.#values = new Float64Array(max)
  }

  get count() {
    return this.#count
  }

  /** Beyond its room it drops, and `count` shows it. @param {number} value */
  add(value) {
    if (this.#count < this.#values.length) this.#values[this.#count++] = value
  }

  /** Nearest rank. @param {number} part 0 to 1 @returns {number} NaN without samples */
  percentile(part) {
    if (this.#count === 0) return Number.NaN
    const sorted = this.#values.slice(0, this.#count).sort()
    return sorted[Math.min(this.#count - 1, Math.max(0, Math.ceil(part * this.#count) - 1))]
  }
}
