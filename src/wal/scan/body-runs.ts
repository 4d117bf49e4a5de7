/**
 * Where the bodies of an open transaction stand: a bounded number of ranges of LSNs, which may cover more than the
 * bodies, and never less. With them a transaction that is not in memory is read again without reading all that was
 * written beside it.
 */

/** Ranges that are kept; with one more, the two that are nearest to each other become one. */
const RUNS_MAX = 32
/** LSNs that are read over sooner than a read is begun anew. */
const NEAR = 256

export class BodyRuns {
  /** First and last LSN of each, ascending. */
  readonly #bounds: number[] = []

  /** Bodies of one frame, behind all before. */
  add(first: number, last: number): void {
    const bounds = this.#bounds
    const end = bounds.length - 1
    if (end > 0 && first - bounds[end]! <= NEAR) {
      bounds[end] = Math.max(bounds[end]!, last)
      return
    }
    bounds.push(first, last)
    if (bounds.length > 2 * RUNS_MAX) this.#joinNearest()
  }

  /** Those of `later`, which stand behind all of these. */
  append(later: BodyRuns): void {
    for (const { first, last } of later) this.add(first, last)
  }

  *[Symbol.iterator](): Generator<{ first: number; last: number }, void, undefined> {
    for (let i = 0; i < this.#bounds.length; i += 2) yield { first: this.#bounds[i]!, last: this.#bounds[i + 1]! }
  }

  #joinNearest(): void {
    const bounds = this.#bounds
    let nearest = 1
    for (let i = 3; i < bounds.length - 1; i += 2) {
      if (bounds[i + 1]! - bounds[i]! < bounds[nearest + 1]! - bounds[nearest]!) nearest = i
    }
    bounds.splice(nearest, 2)
  }
}
