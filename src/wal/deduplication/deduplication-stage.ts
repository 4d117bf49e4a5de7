/**
 * The stage that recognizes what was written before: frames of producers by their sequences, single records by their
 * idempotency keys. It asks the state what is in the log, and itself what is under way.
 */
import { TidelogError } from '../../errors.ts'
import type { KeyEffect, SequenceEffect } from '../effect.ts'
import type { AppendUnit, DuplicateRow, Stage, UnitResult } from '../pipeline/interceptor.ts'
import type { WalError } from '../types.ts'
import type { KeyPlace, KeyTable } from './key-table.ts'
import { KEY_WAITERS_MAX, LiveKeys } from './live-keys.ts'
import { fenced, type LiveProducer } from './live-producer.ts'
import type { LiveProducers } from './live-producers.ts'

/** What a unit holds while it is under way. */
interface Held {
  producer: LiveProducer | null
  sequence: SequenceEffect | null
  keys: KeyEffect[]
  /** Rows that repeat a row of the same unit. */
  inner: { row: number; of: number }[]
}

export interface DeduplicationCounts {
  /** Frames and records that were answered as the first was. */
  repeats: number
  refused: number
}

export class DeduplicationStage implements Stage {
  readonly name = 'deduplication'
  readonly #producers: LiveProducers
  readonly #keys: KeyTable
  readonly #liveKeys = new LiveKeys()
  readonly #held = new Map<AppendUnit, Held>()
  readonly #counts: DeduplicationCounts = { repeats: 0, refused: 0 }
  #waiting = 0

  constructor(producers: LiveProducers, keys: KeyTable) {
    this.#producers = producers
    this.#keys = keys
  }

  get counts(): Readonly<DeduplicationCounts> {
    return this.#counts
  }

  /**
   * Throws KEY_FORGOTTEN, PRODUCER_FENCED, PRODUCER_UNKNOWN, SEQUENCE_GAP, SEQUENCE_STRADDLED, SEQUENCE_FORGOTTEN,
   * INVALID_ARGUMENT, QUEUE_FULL, ABORTED: not written.
   */
  before(unit: AppendUnit): void | Promise<void> {
    let sequence: SequenceEffect | null = null
    let keys: KeyEffect[] | null = null
    for (const effect of unit.effects) {
      if (effect.kind === 'key') {
        keys ??= []
        keys.push(effect)
      } else if (effect.kind === 'sequence') {
        if (sequence !== null) throw invalid('a frame of a producer holds consecutive records of that producer alone')
        sequence = effect
      }
    }
    if (sequence === null && keys === null) return
    try {
      if (sequence !== null) return this.#askProducer(unit, sequence, keys)
      return this.#askKeys(unit, keys!)
    } catch (error) {
      this.#counts.refused++
      throw error
    }
  }

  admit(unit: AppendUnit): WalError | null {
    for (const effect of unit.effects) if (effect.kind === 'epoch') this.#producers.epochPlaced(effect)
    const held = this.#held.get(unit)
    if (held === undefined || held.producer === null) return null
    const { firstSequence, count } = held.sequence!
    return held.producer.place(firstSequence, count)
  }

  after(unit: AppendUnit, result: UnitResult): void {
    const held = this.#held.get(unit)
    if (held === undefined) return
    const { firstLsn, firstTimeTick } = result.range
    for (const { row, of } of held.inner) {
      const repeat = unit.duplicates.find((duplicate) => duplicate.row === row)!
      repeat.lsn = firstLsn + of
      repeat.timeTick = firstTimeTick + BigInt(of)
    }
    this.#counts.repeats += unit.duplicates.length
    if (held.producer === null) return
    held.producer.settled(held.sequence!.firstSequence, { ...result, duplicate: true })
    held.producer = null
  }

  failed(unit: AppendUnit, error: unknown): void {
    const held = this.#held.get(unit)
    if (held === undefined || held.producer === null) return
    held.producer.failed(held.sequence!.firstSequence, !isNotWritten(error))
    held.producer = null
  }

  leave(unit: AppendUnit): void {
    const held = this.#held.get(unit)
    if (held === undefined) return
    this.#held.delete(unit)
    for (const { vchannel, key } of held.keys) this.#liveKeys.release(vchannel, key)
  }

  // --- single records with keys, past the other stages -------------------------------------------------------------

  /**
   * As `before`, of one plain record with a key: null means that it is held, until `released`. A place is the answer. What
   * is under way has to be waited for, by the way past all stages. Throws KEY_FORGOTTEN, not written.
   */
  claim(vchannel: string, key: string, firstTriedAt: bigint): KeyPlace | 'under way' | null {
    if (this.#liveKeys.has(vchannel, key)) return 'under way'
    const known = this.#keys.get(vchannel, key)
    if (known !== undefined) {
      this.#counts.repeats++
      return known
    }
    if (firstTriedAt > 0n && firstTriedAt < this.#keys.horizon(vchannel)) {
      this.#counts.refused++
      throw forgotten(vchannel, key, this.#keys.horizon(vchannel))
    }
    this.#liveKeys.hold(vchannel, key)
    return null
  }

  /** The append of a key that was claimed has settled. */
  released(vchannel: string, key: string): void {
    this.#liveKeys.release(vchannel, key)
  }

  // --- producers ------------------------------------------------------------------------------------------------

  #askProducer(unit: AppendUnit, sequence: SequenceEffect, keys: KeyEffect[] | null): void | Promise<void> {
    if (keys !== null) throw invalid('a record of a producer needs no idempotency key: its sequence is one')
    if (unit.effects.some(({ kind }) => kind === 'body')) throw invalid('a frame of a producer and of a transaction')
    if (sequence.count !== unit.recordCount) {
      throw invalid('a frame of a producer holds consecutive records of that producer alone')
    }
    if (sequence.firstSequence < 1) throw invalid('sequences begin at 1')
    const producer = this.#producers.get(sequence.producer)
    if (producer === undefined || producer.record.vchannel !== sequence.vchannel) {
      const message = `there is no producer ${sequence.producer} of "${sequence.vchannel}"; open it first`
      throw new TidelogError('PRODUCER_UNKNOWN', message, { outcome: 'not-written' })
    }
    if (sequence.epoch < producer.epoch || producer.isFenced) throw fenced(producer.record, sequence.epoch)
    if (sequence.epoch > producer.epoch) {
      const message = `the producer "${producer.record.name}" has no epoch ${sequence.epoch} yet`
      throw new TidelogError('PRODUCER_UNKNOWN', message, { outcome: 'not-written' })
    }
    const verdict = producer.ask(sequence.firstSequence, sequence.count)
    if (verdict.kind === 'reserved') {
      this.#held.set(unit, { producer, sequence, keys: [], inner: [] })
      return
    }
    if (verdict.kind === 'repeat') {
      this.#counts.repeats++
      unit.answer = verdict.result
      return
    }
    const { flight } = verdict
    return this.#wait(unit, flight.settled).then((outcome) => {
      if (outcome.result === null) return this.before(unit)
      this.#counts.repeats++
      unit.answer = outcome.result
    })
  }

  // --- keys -----------------------------------------------------------------------------------------------------

  #askKeys(unit: AppendUnit, keys: readonly KeyEffect[]): void | Promise<void> {
    if (unit.effects.some(({ kind }) => kind === 'body')) {
      throw invalid('a record of a transaction has no idempotency key: repeat its commit instead')
    }
    for (const { vchannel, key } of keys) {
      const underWay = this.#liveKeys.held(vchannel, key)
      // It holds nothing while it waits: so two of them cannot wait for each other.
      if (underWay !== undefined) return this.#wait(unit, underWay).then(() => this.before(unit))
    }
    const repeats: DuplicateRow[] = []
    const held: Held = { producer: null, sequence: null, keys: [], inner: [] }
    const seen = new Map<string, Map<string, number>>()
    let lastVchannel = keys[0]!.vchannel
    let rows = new Map<string, number>()
    for (const effect of keys) {
      const { vchannel, key, row } = effect
      const known = this.#keys.get(vchannel, key)
      if (vchannel !== lastVchannel) {
        seen.set(lastVchannel, rows)
        lastVchannel = vchannel
        rows = seen.get(vchannel) ?? new Map()
      }
      const earlier = rows.get(key)
      if (known !== undefined) repeats.push({ row, lsn: known.lsn, timeTick: known.timeTick })
      else if (earlier !== undefined) {
        repeats.push({ row, lsn: -1, timeTick: 0n })
        held.inner.push({ row, of: earlier })
      } else {
        const horizon = this.#keys.horizon(vchannel)
        if (unit.firstTriedAt > 0n && unit.firstTriedAt < horizon) throw forgotten(vchannel, key, horizon)
        rows.set(key, row)
        held.keys.push(effect)
      }
    }
    if (repeats.length === unit.recordCount) {
      this.#counts.repeats += repeats.length
      unit.answer = { range: rangeOf(repeats), duplicate: true, duplicates: repeats }
      return
    }
    for (const { vchannel, key } of held.keys) this.#liveKeys.hold(vchannel, key)
    this.#held.set(unit, held)
    for (const repeat of repeats) {
      unit.duplicates.push(repeat)
      unit.voids.push(repeat.row)
    }
  }

  /** Its end is that of an append, which has a deadline. */
  #wait<T>(unit: AppendUnit, settled: Promise<T>): Promise<T> {
    const { signal } = unit
    if (this.#waiting >= KEY_WAITERS_MAX) {
      const message = `${this.#waiting} repeats wait for what they repeat; try again later`
      throw new TidelogError('QUEUE_FULL', message, { outcome: 'not-written', retriable: true })
    }
    this.#waiting++
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        const message = 'the append was aborted while it waited for the one that it repeats'
        reject(new TidelogError('ABORTED', message, { outcome: 'not-written', cause: signal?.reason }))
      }
      if (signal?.aborted) onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      settled.then((value) => {
        signal?.removeEventListener('abort', onAbort)
        resolve(value)
      }, reject)
    }).finally(() => {
      this.#waiting--
    })
  }
}

function rangeOf(repeats: readonly DuplicateRow[]): UnitResult['range'] {
  const [first, last] = [repeats[0]!, repeats.at(-1)!]
  return { firstLsn: first.lsn, lastLsn: last.lsn, firstTimeTick: first.timeTick, lastTimeTick: last.timeTick }
}

function forgotten(vchannel: string, key: string, horizon: bigint): TidelogError<string> {
  return new TidelogError<string>(
    'KEY_FORGOTTEN',
    `the key ${JSON.stringify(key)} of "${vchannel}" was first tried before tick ${horizon}, the horizon of the keys that are known: nobody can tell whether it was written`,
    { outcome: 'not-written' },
  )
}

function isNotWritten(error: unknown): boolean {
  return error instanceof TidelogError ? error.outcome === 'not-written' : true
}

function invalid(message: string): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', message, { outcome: 'not-written' })
}
