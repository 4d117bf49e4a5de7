/**
 * Tells what became of each record of `produce`, in the order of the input and as soon as it is known: one line of JSON
 * each with `--json`, counts otherwise. Bounded: `room` makes the reader of the input wait while too many are unsettled.
 */
import type { AppendOutcome } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { reportOf } from './error-report.ts'
import type { Output } from './output.ts'

export interface Acknowledgement {
  /** Left out where it is not known: the record was written by an earlier run. */
  lsn?: number | undefined
  /** Left out in a transaction: readers are given the commit's. */
  timeTick?: bigint | undefined
  /** It was in the log before. */
  duplicate?: boolean | undefined
  transaction?: number | undefined
  sequence?: number | undefined
}

interface Entry {
  index: number
  acknowledged: Promise<Acknowledgement>
}

/** Records read and not yet told of. */
const entriesMax = 65_536

export class AcknowledgementReport {
  readonly #vchannel: string
  readonly #json: boolean
  readonly #out: Output
  #queue: Entry[] = []
  #head = 0
  #ended = false
  #wake: (() => void) | undefined
  #roomWanted: (() => void) | undefined
  readonly #telling: Promise<void>
  #outputFailed = false
  /** The first record of the input that was not acknowledged. */
  firstFailure: { index: number; error: unknown } | undefined
  /** Known as soon as any record failed, before those in front of it have been told of. */
  anyFailure = false
  acknowledgedCount = 0
  /** Of those that were acknowledged: they were in the log before. */
  duplicateCount = 0
  failedCount = 0
  firstLsn: number | undefined
  lastLsn: number | undefined

  constructor(vchannel: string, json: boolean, out: Output) {
    this.#vchannel = vchannel
    this.#json = json
    this.#out = out
    this.#telling = this.#tell()
    this.#telling.catch(() => {
      this.#outputFailed = true
      this.#roomWanted?.()
    })
  }

  /** The next record of the input was handed over. */
  submitted(index: number, acknowledged: Promise<Acknowledgement>): void {
    // It is awaited in its turn; that it failed counts at once, and until then it is not unhandled.
    acknowledged.catch(() => {
      this.anyFailure = true
    })
    this.#queue.push({ index, acknowledged })
    this.#wake?.()
  }

  /** The next record of the input was not sent. */
  refused(index: number, error: unknown): void {
    this.submitted(index, Promise.reject(error))
  }

  /** Whether too many records wait to be told of: await `room` before the next one. */
  get isFull(): boolean {
    return this.#queue.length - this.#head >= entriesMax || this.#outputFailed
  }

  /** Settles when there is room for another record. Throws when the output cannot be written. */
  async room(): Promise<void> {
    if (this.#outputFailed) await this.#telling
    while (this.#queue.length - this.#head >= entriesMax) {
      await Promise.race([this.#telling, new Promise<void>((resolve) => (this.#roomWanted = resolve))])
    }
  }

  /** No more records come; settles when the last one was told of. */
  async end(): Promise<void> {
    this.#ended = true
    this.#wake?.()
    await this.#telling
  }

  async #tell(): Promise<void> {
    for (;;) {
      const entry = this.#queue[this.#head]
      if (!entry) {
        this.#queue = []
        this.#head = 0
        if (this.#ended) return
        await new Promise<void>((resolve) => (this.#wake = resolve))
        continue
      }
      await this.#tellOf(entry)
      this.#queue[this.#head++] = undefined as unknown as Entry
      if (this.#head >= 8192) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
      this.#roomWanted?.()
    }
  }

  async #tellOf({ index, acknowledged }: Entry): Promise<void> {
    let line: string
    try {
      const known = await acknowledged
      this.acknowledgedCount++
      if (known.duplicate === true) this.duplicateCount++
      else if (known.lsn !== undefined) {
        this.firstLsn ??= known.lsn
        this.lastLsn = known.lsn
      }
      if (!this.#json) return
      line = `{"index":${index},"vchannel":${JSON.stringify(this.#vchannel)}${fieldsOf(known)}}\n`
    } catch (error) {
      this.failedCount++
      this.firstFailure ??= { index, error }
      if (!this.#json) return
      const { code, retriable } = reportOf(error)
      line = `${JSON.stringify({ index, error: { code, retriable, outcome: outcomeOf(error) } })}\n`
    }
    const behind = this.#out.write(line)
    if (behind !== undefined) await behind
  }
}

function fieldsOf({ lsn, timeTick, duplicate, transaction, sequence }: Acknowledgement): string {
  let fields = ''
  if (lsn !== undefined) fields += `,"lsn":${lsn}`
  if (timeTick !== undefined) fields += `,"timeTick":"${timeTick}"`
  if (transaction !== undefined) fields += `,"transaction":${transaction}`
  if (sequence !== undefined) fields += `,"sequence":${sequence}`
  return duplicate === true ? `${fields},"duplicate":true` : fields
}

/** What is not known to be unwritten may be written. */
function outcomeOf(error: unknown): AppendOutcome {
  return error instanceof TidelogError && error.outcome ? error.outcome : 'unknown'
}
