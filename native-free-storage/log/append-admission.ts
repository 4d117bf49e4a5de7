/**
 * How an append comes into the queue: it is refused, or checked and measured, and then enters at once or when there is
 * room. Holds nothing itself: what was admitted is the queue's.
 */
import type { TidelogError } from '../errors.ts'
import { type BodyLimits, planBody, type RecordInput } from '../format/body-plan.ts'
import { refused } from './append-errors.ts'
import type { AppendOptions, AppendRecordsOptions } from './append-options.ts'
import { type AppendQueue, aborted } from './append-queue.ts'
import {
  type AppendResult,
  BatchFrame,
  type PendingFrame,
  type ReceivedBody,
  ReceivedFrame,
  TickFrame,
} from './pending-frame.ts'

export class AppendAdmission {
  readonly #limits: BodyLimits
  readonly #queue: AppendQueue
  readonly #ended: () => TidelogError | null
  readonly #onAdmitted: () => void

  /** `ended`: why nothing is admitted any more. `onAdmitted`: there is something in the queue. */
  constructor(limits: BodyLimits, queue: AppendQueue, ended: () => TidelogError | null, onAdmitted: () => void) {
    this.#limits = limits
    this.#queue = queue
    this.#ended = ended
    this.#onAdmitted = onAdmitted
  }

  /** A batch is a frame of its own; a single record may share one with other callers'. Must not change until it settles. */
  append(records: readonly RecordInput[], options: AppendRecordsOptions | undefined): Promise<AppendResult> {
    const barrierTick = options?.barrierTick ?? 0n
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) {
        reject(refusal)
        return
      }
      try {
        if (records.length === 1 && !needsOwnFrame(options)) {
          this.#gather(records[0]!, barrierTick, signal, resolve, reject)
        } else {
          const plan = planBody(records, this.#limits, options?.contexts)
          this.#admit(new BatchFrame(plan, barrierTick, options?.admit ?? null, resolve, reject), signal, reject)
        }
      } catch (error) {
        reject(refused(error))
      }
    })
  }

  /** A body that was encoded elsewhere, as it is. */
  appendBody(
    body: ReceivedBody,
    nodeSection: Buffer | null,
    options: AppendOptions | undefined,
  ): Promise<AppendResult> {
    const signal = options?.signal
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) {
        reject(refusal)
        return
      }
      const { barrierTick = 0n, admit = null } = options ?? {}
      const frame = new ReceivedFrame(body, nodeSection, barrierTick, admit, resolve, reject)
      this.#admit(frame, signal, reject)
    })
  }

  /** A stored time tick, behind all that was given before. Settles with the tick. */
  appendTick(signal: AbortSignal | undefined): Promise<bigint> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal(signal)
      if (refusal !== null) reject(refusal)
      else this.#admit(new TickFrame(resolve, reject), signal, reject)
    })
  }

  #gather(
    record: RecordInput,
    barrierTick: bigint,
    signal: AbortSignal | undefined,
    resolve: (result: AppendResult) => void,
    reject: (error: TidelogError) => void,
  ): void {
    const bytes = record.payload == null ? 0 : record.payload.length
    const admit = () => {
      this.#queue.gather(record, bytes, barrierTick, resolve, reject)
      this.#onAdmitted()
    }
    if (this.#queue.hasRoom(bytes)) {
      admit()
      return
    }
    // Checked before it waits, so that a wrong record is refused at once.
    planBody([record], this.#limits)
    this.#queue.whenRoom(bytes, admit, reject, signal)
  }

  #admit(frame: PendingFrame, signal: AbortSignal | undefined, reject: (error: TidelogError) => void): void {
    const admit = () => {
      this.#queue.push(frame)
      this.#onAdmitted()
    }
    if (this.#queue.hasRoom(frame.queuedBytes)) admit()
    else this.#queue.whenRoom(frame.queuedBytes, admit, reject, signal)
  }

  #refusal(signal: AbortSignal | undefined): TidelogError | null {
    return this.#ended() ?? (signal?.aborted ? aborted(signal) : null)
  }
}

function needsOwnFrame(options: AppendRecordsOptions | undefined): boolean {
  return options?.ownFrame === true || options?.contexts !== undefined || options?.admit != null
}
