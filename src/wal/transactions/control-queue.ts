/**
 * Begins, commits and rollbacks on their way into the log. Those of one vchannel that come in one turn share a frame, so
 * that many transactions at once are cheap; those of others do not, since each waits for the exclusive messages of its
 * own vchannel alone.
 */
import type { RecordInput } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import type { NodeAppender } from '../pipeline/node-appender.ts'
import type { WalError } from '../types.ts'

export interface ControlPlace {
  readonly lsn: number
  readonly timeTick: bigint
}

interface Entry {
  readonly record: RecordInput
  /** Why it may not be written any more; null: it may. Asked before each attempt. */
  readonly refusal: () => WalError | null
  readonly resolve: (place: ControlPlace) => void
  readonly reject: (error: unknown) => void
}

/** Records of one frame. */
export const CONTROL_RECORDS_MAX = 1_024

export class ControlQueue {
  readonly #appender: Pick<NodeAppender, 'appendControl'>
  /** By vchannel: what came in this turn. */
  #gathered = new Map<string, Entry[]>()

  constructor(appender: Pick<NodeAppender, 'appendControl'>) {
    this.#appender = appender
  }

  /** Settles when the record is durable. Rejects with `refusal`'s answer, or as the append of its frame. */
  append(record: RecordInput, refusal: () => WalError | null): Promise<ControlPlace> {
    return new Promise((resolve, reject) => {
      if (this.#gathered.size === 0) queueMicrotask(() => this.#flush())
      const entry: Entry = { record, refusal, resolve, reject }
      const others = this.#gathered.get(record.vchannel)
      if (others === undefined) this.#gathered.set(record.vchannel, [entry])
      else others.push(entry)
    })
  }

  #flush(): void {
    const gathered = this.#gathered
    this.#gathered = new Map()
    for (const entries of gathered.values()) {
      for (let from = 0; from < entries.length; from += CONTROL_RECORDS_MAX) {
        void this.#write(entries.slice(from, from + CONTROL_RECORDS_MAX))
      }
    }
  }

  /** Never rejects. A frame is refused as a whole: it is tried again without those that are refused, while there are any. */
  async #write(entries: readonly Entry[]): Promise<void> {
    let left = withoutRefused(entries)
    while (left.length > 0) {
      try {
        const { range } = await this.#appender.appendControl(left.map(({ record }) => record))
        for (const [index, { resolve }] of left.entries()) {
          resolve({ lsn: range.firstLsn + index, timeTick: range.firstTimeTick + BigInt(index) })
        }
        return
      } catch (error) {
        const mayTryAgain = error instanceof TidelogError && error.outcome === 'not-written'
        const kept = mayTryAgain ? withoutRefused(left) : left
        if (kept.length === left.length) {
          for (const { reject } of left) reject(error)
          return
        }
        left = kept
      }
    }
  }
}

/** Those that are refused are told so. */
function withoutRefused(entries: readonly Entry[]): Entry[] {
  return entries.filter(({ refusal, reject }) => {
    const error = refusal()
    if (error !== null) reject(error)
    return error === null
  })
}
