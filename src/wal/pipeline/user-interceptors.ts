/** The user's own part of the pipeline (types.ts: UserInterceptor). */
import type { AppendContext, MutableMessage, UserInterceptor, WalAppended } from '../types.ts'
import type { UnitResult } from './interceptor.ts'

/** Told what an `afterAppend` threw. What it throws itself is dropped. */
export type OnInterceptorError = (error: unknown, name: string) => void

export class UserInterceptors {
  readonly #before: readonly UserInterceptor[]
  readonly #after: readonly UserInterceptor[]
  readonly #onError: OnInterceptorError
  #errors = 0

  constructor(interceptors: readonly UserInterceptor[], onError: OnInterceptorError) {
    this.#before = interceptors.filter(({ beforeAppend }) => beforeAppend !== undefined)
    this.#after = interceptors.filter(({ afterAppend }) => afterAppend !== undefined)
    this.#onError = onError
  }

  get hasBefore(): boolean {
    return this.#before.length > 0
  }

  get hasAfter(): boolean {
    return this.#after.length > 0
  }

  /** What `afterAppend` has thrown so far. */
  get errors(): number {
    return this.#errors
  }

  /** Throws, or rejects with, what an interceptor refuses with: the very same thing. A promise is made only for a promise. */
  before(messages: readonly MutableMessage[], barrierTick: bigint): Promise<void> | undefined {
    const batchSize = messages.length
    for (let index = 0; index < batchSize; index++) {
      for (let at = 0; at < this.#before.length; at++) {
        const context: AppendContext = { batchSize, index, barrierTick }
        const waiting = this.#before[at]!.beforeAppend!(messages[index]!, context)
        if (waiting !== undefined) return this.#rest(waiting, messages, index, at + 1, barrierTick)
      }
    }
    return undefined
  }

  async #rest(
    waiting: Promise<void>,
    messages: readonly MutableMessage[],
    fromIndex: number,
    fromInterceptor: number,
    barrierTick: bigint,
  ): Promise<void> {
    await waiting
    const batchSize = messages.length
    let at = fromInterceptor
    for (let index = fromIndex; index < batchSize; index++) {
      for (; at < this.#before.length; at++) {
        await this.#before[at]!.beforeAppend!(messages[index]!, { batchSize, index, barrierTick })
      }
      at = 0
    }
  }

  /** In LSN order, of what was written: a record that was in the log before is told nobody again. Never throws. */
  after(messages: readonly MutableMessage[], { range, duplicates }: UnitResult): void {
    const before = duplicates.length === 0 ? null : new Set(duplicates.map(({ row }) => row))
    for (let index = 0; index < messages.length; index++) {
      if (before?.has(index)) continue
      const result: WalAppended = {
        lsn: range.firstLsn + index,
        timeTick: range.firstTimeTick + BigInt(index),
        duplicate: false,
      }
      for (const interceptor of this.#after) {
        try {
          const returned: unknown = interceptor.afterAppend!(messages[index]!, result)
          // It is not waited for; but what it rejects with is told, and ends no process.
          if (returned instanceof Promise) returned.catch((error: unknown) => this.#report(error, interceptor.name))
        } catch (error) {
          this.#report(error, interceptor.name)
        }
      }
    }
  }

  #report(error: unknown, name: string): void {
    this.#errors++
    try {
      this.#onError(error, name)
    } catch {
      // Whoever is told has nobody to tell.
    }
  }
}

/** Copies that interceptors may change: the caller's own objects stay as they are. */
export function copiesOf(messages: readonly MutableMessage[]): MutableMessage[] {
  return messages.map((message) => ({
    ...message,
    ...(message.properties === undefined ? {} : { properties: { ...message.properties } }),
    ...(message.header === undefined ? {} : { header: { ...message.header } }),
  }))
}
