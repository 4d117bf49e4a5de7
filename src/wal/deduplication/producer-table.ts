/**
 * Which producers there are and what each has written: what the log says, and nothing that is still under way. A part of
 * the WAL's state (state/): changed by effects alone.
 */
import type { EpochEffect, SequenceEffect } from '../effect.ts'
import type { ProducerStatus } from '../types.ts'

/** Frames of a producer whose place is known: a repeat of one of them is answered as the first was. */
export const PRODUCER_WINDOW = 256
/** Opening one more is refused; the state of each is a few hundred bytes, and its window. */
export const PRODUCERS_MAX = 65_536

/** A frame: records with consecutive sequences, LSNs and ticks. */
export interface WrittenFrame {
  readonly firstSequence: number
  readonly count: number
  readonly firstLsn: number
  readonly firstTimeTick: bigint
}

export interface ProducerRecord {
  readonly vchannel: string
  readonly name: string
  /** LSN of its first epoch's record. */
  readonly producer: number
  readonly epoch: number
  /** 0: none. -1: not known, since the state was lost; what comes first is believed. */
  readonly lastSequence: number
  readonly lastLsn: number
  readonly lastTimeTick: bigint
  /** Ascending, at most `PRODUCER_WINDOW`. */
  readonly window: readonly WrittenFrame[]
}

type Changing = { -readonly [K in keyof ProducerRecord]: ProducerRecord[K] } & { window: WrittenFrame[] }

export class ProducerTable {
  readonly #byNumber = new Map<number, Changing>()
  readonly #byName = new Map<string, Changing>()
  /** What was written below this LSN is not known: a name that is not here may have been used. */
  #lostBelow: number

  constructor(lostBelow = 0) {
    this.#lostBelow = lostBelow
  }

  get size(): number {
    return this.#byNumber.size
  }

  /** Of a WAL whose state was lost: producers that are not known may have written. */
  get hasLost(): boolean {
    return this.#lostBelow > 0
  }

  get lostBelow(): number {
    return this.#lostBelow
  }

  byNumber(producer: number): ProducerRecord | undefined {
    return this.#byNumber.get(producer)
  }

  byName(vchannel: string, name: string): ProducerRecord | undefined {
    return this.#byName.get(keyOf(vchannel, name))
  }

  applyEpoch(effect: EpochEffect, lsn: number, timeTick: bigint): void {
    const { vchannel, name, epoch } = effect
    const producer = effect.producer ?? lsn
    const known = this.#byNumber.get(producer)
    if (known !== undefined) {
      if (epoch > known.epoch) known.epoch = epoch
      return
    }
    this.#add({
      vchannel,
      name,
      producer,
      epoch,
      // Its first epoch is gone, or what was lost may have been its own.
      lastSequence: producer !== lsn || this.hasLost ? -1 : 0,
      lastLsn: lsn,
      lastTimeTick: timeTick,
      window: [],
    })
  }

  applySequence(effect: SequenceEffect, lsn: number, timeTick: bigint): void {
    const { producer, firstSequence, count } = effect
    const known = this.#byNumber.get(producer)
    if (known === undefined) return
    known.lastSequence = firstSequence + count - 1
    known.lastLsn = lsn + count - 1
    known.lastTimeTick = timeTick + BigInt(count - 1)
    known.window.push({ firstSequence, count, firstLsn: lsn, firstTimeTick: timeTick })
    if (known.window.length > PRODUCER_WINDOW) known.window.shift()
  }

  list(): ProducerStatus[] {
    return [...this.#byNumber.values()].map((known) => ({
      id: known.name,
      vchannel: known.vchannel,
      producer: known.producer,
      epoch: known.epoch,
      lastSequence: Math.max(0, known.lastSequence),
      lastLsn: known.lastLsn,
      lastTimeTick: known.lastTimeTick,
    }))
  }

  /** For a snapshot. */
  *records(): IterableIterator<ProducerRecord> {
    yield* this.#byNumber.values()
  }

  /** From a snapshot. */
  restore(record: ProducerRecord): void {
    this.#add({ ...record, window: [...record.window] })
  }

  #add(record: Changing): void {
    this.#byNumber.set(record.producer, record)
    this.#byName.set(keyOf(record.vchannel, record.name), record)
  }
}

/** A vchannel's name holds no control characters. */
function keyOf(vchannel: string, name: string): string {
  return `${vchannel}\n${name}`
}
