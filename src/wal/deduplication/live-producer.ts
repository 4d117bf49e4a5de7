/**
 * One epoch of a producer as it writes: what the log knows of it (producer-table.ts), and the sequences of the frames
 * that are under way. A frame is let in when it follows the last one; a repeat of one under way waits for it.
 */
import { TidelogError } from '../../errors.ts'
import type { UnitResult } from '../pipeline/interceptor.ts'
import type { WalError } from '../types.ts'
import type { ProducerRecord } from './producer-table.ts'

export interface FlightOutcome {
  /** Null: it was not written, or nobody knows. */
  result: UnitResult | null
}

/** A frame under way. */
export interface Flight {
  readonly firstSequence: number
  readonly count: number
  readonly settled: Promise<FlightOutcome>
}

interface OwnFlight extends Flight {
  settle(outcome: FlightOutcome): void
}

/** What becomes of a frame that asks to be let in. */
export type Verdict = { kind: 'reserved' } | { kind: 'repeat'; result: UnitResult } | { kind: 'wait'; flight: Flight }

export class LiveProducer {
  readonly record: ProducerRecord
  readonly epoch: number
  /** By first sequence. */
  readonly #flights = new Map<number, OwnFlight>()
  /** What the next frame begins with; -1: whatever comes, for the first one after the state was lost. */
  #next: number
  /** As `#next`, of what has its place in the log: so a frame behind one that was refused at last is refused too. */
  #placedNext: number
  /** A newer epoch has its place in the log. */
  #fenced = false

  constructor(record: ProducerRecord) {
    this.record = record
    this.epoch = record.epoch
    this.#next = record.lastSequence < 0 ? -1 : record.lastSequence + 1
    this.#placedNext = this.#next
  }

  /** Throws SEQUENCE_GAP, SEQUENCE_STRADDLED, SEQUENCE_FORGOTTEN, all not written. */
  ask(firstSequence: number, count: number): Verdict {
    const flight = this.#flights.get(firstSequence)
    if (flight !== undefined && flight.count === count) return { kind: 'wait', flight }
    const next = this.#next
    if (flight === undefined && (firstSequence === next || (next < 0 && this.#flights.size === 0))) {
      this.#reserve(firstSequence, count)
      return { kind: 'reserved' }
    }
    const last = firstSequence + count - 1
    const { lastSequence } = this.record
    if (last <= lastSequence) {
      const result = this.#written(firstSequence, count)
      if (result !== null) return { kind: 'repeat', result }
      throw this.#refusal(
        'SEQUENCE_FORGOTTEN',
        `sequences ${firstSequence} to ${last} were written, and where is not known any more; the last one is ${lastSequence}`,
      )
    }
    if (firstSequence > next) {
      throw this.#refusal('SEQUENCE_GAP', `sequence ${firstSequence} came where ${next} has to follow`)
    }
    throw this.#refusal(
      'SEQUENCE_STRADDLED',
      `of the sequences ${firstSequence} to ${last} some were sent before in another frame; the last one in the log is ${Math.max(0, lastSequence)}`,
    )
  }

  /** The last question, in the order of the log: null means that the frame is placed. */
  place(firstSequence: number, count: number): WalError | null {
    if (this.#fenced) return fenced(this.record, this.epoch)
    if (this.#placedNext >= 0 && firstSequence !== this.#placedNext) {
      return new TidelogError(
        'FAILED_BEFORE',
        `a frame of the producer "${this.record.name}" before sequence ${firstSequence} was not written; this one was refused`,
        { outcome: 'not-written', retriable: true },
      ) as WalError
    }
    this.#placedNext = firstSequence + count
    return null
  }

  settled(firstSequence: number, result: UnitResult): void {
    const flight = this.#flights.get(firstSequence)
    this.#flights.delete(firstSequence)
    flight?.settle({ result })
  }

  /** `isWritten`: nobody knows whether it was; its sequences stay taken until the log is opened again. */
  failed(firstSequence: number, isUnknown: boolean): void {
    const flight = this.#flights.get(firstSequence)
    this.#flights.delete(firstSequence)
    if (!isUnknown && (this.#next < 0 || firstSequence < this.#next)) {
      // One that was believed without being known leaves what comes next to be believed again.
      this.#next = this.record.lastSequence < 0 ? -1 : firstSequence
      if (this.record.lastSequence < 0) this.#placedNext = -1
    }
    flight?.settle({ result: null })
  }

  /** The record of a newer epoch has its place: no frame of this one comes behind it. */
  fence(): void {
    this.#fenced = true
  }

  get isFenced(): boolean {
    return this.#fenced
  }

  #reserve(firstSequence: number, count: number): void {
    let settle: (outcome: FlightOutcome) => void = () => {}
    const settled = new Promise<FlightOutcome>((resolve) => {
      settle = resolve
    })
    this.#flights.set(firstSequence, { firstSequence, count, settled, settle })
    this.#next = firstSequence + count
  }

  /** Where the frame stands that these sequences were written in; null: not known any more. */
  #written(firstSequence: number, count: number): UnitResult | null {
    for (const frame of this.record.window) {
      const offset = firstSequence - frame.firstSequence
      if (offset < 0 || offset + count > frame.count) continue
      const firstLsn = frame.firstLsn + offset
      const firstTimeTick = frame.firstTimeTick + BigInt(offset)
      const lastTimeTick = firstTimeTick + BigInt(count - 1)
      const range = { firstLsn, lastLsn: firstLsn + count - 1, firstTimeTick, lastTimeTick }
      return { range, duplicate: true, duplicates: [] }
    }
    return null
  }

  #refusal(code: 'SEQUENCE_GAP' | 'SEQUENCE_STRADDLED' | 'SEQUENCE_FORGOTTEN', why: string): WalError {
    return new TidelogError(code, `producer "${this.record.name}" of "${this.record.vchannel}": ${why}`, {
      outcome: 'not-written',
    }) as WalError
  }
}

export function fenced(record: ProducerRecord, epoch: number): WalError {
  return new TidelogError(
    'PRODUCER_FENCED',
    `the producer "${record.name}" of "${record.vchannel}" was opened again with epoch ${record.epoch}; epoch ${epoch} writes no more`,
    { outcome: 'not-written' },
  ) as WalError
}
