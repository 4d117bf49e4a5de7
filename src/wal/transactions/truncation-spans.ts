/**
 * Where committed transactions reach back to: a reader that starts at or below a commit needs the log from its begin on.
 * A staircase of (commit, begin): both ascend, since a transaction that committed later and began earlier asks for all
 * that the other one asks for. With too many steps neighbours become one, which asks for more than each of them.
 */

/** Commits and begins of transactions in a snapshot: two numbers a step. */
export const SPANS_MAX = 4_096

interface Span {
  /** LSN of the (last) commit. */
  readonly commit: number
  readonly begin: number
}

export class TruncationSpans {
  readonly #spansMax: number
  #spans: Span[] = []

  constructor(spansMax = SPANS_MAX) {
    this.#spansMax = spansMax
  }

  get size(): number {
    return this.#spans.length
  }

  /** Commits are told in the order of their LSNs. */
  add(commit: number, begin: number): void {
    const spans = this.#spans
    while (spans.length > 0 && spans.at(-1)!.begin >= begin) spans.pop()
    spans.push({ commit, begin })
    if (spans.length > this.#spansMax) this.#merge()
  }

  /** How far the log must be kept for a reader that starts at `lsn`; at most `lsn`. */
  floor(lsn: number): number {
    const spans = this.#spans
    let low = 0
    let high = spans.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (spans[middle]!.commit >= lsn) high = middle
      else low = middle + 1
    }
    return low === spans.length ? lsn : Math.min(lsn, spans[low]!.begin)
  }

  /** The log begins at `lsn` now: no commit below is read any more. */
  dropBelow(lsn: number): void {
    const kept = this.#spans.findIndex(({ commit }) => commit >= lsn)
    this.#spans = kept < 0 ? [] : this.#spans.slice(kept)
  }

  /** Commit and begin of each step in turn, for a snapshot. */
  encode(): number[] {
    return this.#spans.flatMap(({ commit, begin }) => [commit, begin])
  }

  /** Throws an Error for what `encode` cannot have given. */
  static decode(value: unknown, spansMax = SPANS_MAX): TruncationSpans {
    if (!Array.isArray(value) || value.length % 2 !== 0 || value.length > 2 * spansMax) {
      throw new Error('the spans of transactions are no list of pairs')
    }
    const spans = new TruncationSpans(spansMax)
    let last: Span | null = null
    for (let index = 0; index < value.length; index += 2) {
      const [commit, begin] = [value[index] as unknown, value[index + 1] as unknown]
      if (!isLsn(commit) || !isLsn(begin) || begin >= commit) throw new Error('a span of a transaction is none')
      if (last !== null && (commit <= last.commit || begin <= last.begin)) {
        throw new Error('the spans of transactions do not ascend')
      }
      last = { commit, begin }
      spans.#spans.push(last)
    }
    return spans
  }

  /** The older half becomes half as many: it is what truncation has left behind, or will next. */
  #merge(): void {
    const half = this.#spansMax >>> 1
    const merged: Span[] = []
    for (let index = 0; index < half; index += 2) {
      const [first, second] = [this.#spans[index]!, this.#spans[index + 1]!]
      merged.push({ commit: second.commit, begin: first.begin })
    }
    this.#spans = [...merged, ...this.#spans.slice(2 * merged.length)]
  }
}

function isLsn(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
