/**
 * The idempotency keys that are known, by vchannel: what the log says, and nothing that is still under way. A part of the
 * WAL's state (state/). What is forgotten depends on the ticks of the log, not on a clock, so that an opening forgets the
 * same.
 */
import { tickOf } from '../../../native-free-storage/index.ts'
import type { KeyEffect } from '../effect.ts'

export interface KeyWindow {
  /** A key is known for so long after its record, by the ticks of the log. */
  windowMs: number
  /** Of the keys of one vchannel, overhead included. */
  vchannelBytesMax: number
  /** Of all. */
  bytesMax: number
}

export const defaultKeyWindow: Readonly<KeyWindow> = {
  windowMs: 10 * 60_000,
  vchannelBytesMax: 16 * 1024 * 1024,
  bytesMax: 128 * 1024 * 1024,
}

/** What a key costs beside its own characters: its place, and the entry of the map. */
const KEY_OVERHEAD_BYTES = 96

export interface KeyPlace {
  readonly lsn: number
  readonly timeTick: bigint
}

interface VchannelKeys {
  /** In the order of their ticks. */
  places: Map<string, KeyPlace>
  /** Stands behind those that are gone: a map's own first entry is searched for among all that were removed. */
  ages: IterableIterator<[string, KeyPlace]>
  /** Null: the next of `ages`. */
  oldest: [string, KeyPlace] | null
  bytes: number
  horizon: bigint
}

export class KeyTable {
  readonly #window: Readonly<KeyWindow>
  readonly #windowTicks: bigint
  /** The one whose last key is the oldest stands first. */
  readonly #vchannels = new Map<string, VchannelKeys>()
  /** The one that stands last. */
  #newest: VchannelKeys | null = null
  #bytes = 0
  #keys = 0
  /** Of vchannels of which nothing is known. */
  #floor: bigint

  /** `floor`: keys of before it are not known, of no vchannel. */
  constructor(window: Readonly<KeyWindow> = defaultKeyWindow, floor = 0n) {
    this.#window = window
    this.#windowTicks = tickOf(window.windowMs)
    this.#floor = floor
  }

  get size(): number {
    return this.#keys
  }

  get bytes(): number {
    return this.#bytes
  }

  get floor(): bigint {
    return this.#floor
  }

  get(vchannel: string, key: string): KeyPlace | undefined {
    return this.#vchannels.get(vchannel)?.places.get(key)
  }

  /** The tick before which keys of the vchannel are forgotten. Never goes back. */
  horizon(vchannel: string): bigint {
    return this.#vchannels.get(vchannel)?.horizon ?? this.#floor
  }

  /** Of vchannels that have none here it is not known which keys they had before `timeTick`. */
  forgetBefore(timeTick: bigint): void {
    if (timeTick > this.#floor) this.#floor = timeTick
  }

  apply(effect: KeyEffect, lsn: number, timeTick: bigint): void {
    this.#add(effect.vchannel, effect.key, { lsn, timeTick })
  }

  /** For a snapshot: vchannels in their order, each with its keys in theirs. */
  *vchannels(): IterableIterator<[vchannel: string, horizon: bigint, places: ReadonlyMap<string, KeyPlace>]> {
    for (const [vchannel, { horizon, places }] of this.#vchannels) yield [vchannel, horizon, places]
  }

  /** From a snapshot. */
  restore(vchannel: string, horizon: bigint, places: Iterable<[string, KeyPlace]>): void {
    const keys = this.#keysOf(vchannel)
    if (horizon > keys.horizon) keys.horizon = horizon
    for (const [key, place] of places) this.#add(vchannel, key, place)
  }

  #add(vchannel: string, key: string, place: KeyPlace): void {
    const keys = this.#keysOf(vchannel)
    const { places } = keys
    const before = places.size
    places.set(key, place)
    if (places.size > before) {
      const bytes = costOf(key)
      keys.bytes += bytes
      this.#bytes += bytes
      this.#keys++
    } else {
      // A key that came again stands where it came last.
      if (keys.oldest?.[0] === key) keys.oldest = null
      places.delete(key)
      places.set(key, place)
    }
    if (keys !== this.#newest) {
      this.#vchannels.delete(vchannel)
      this.#vchannels.set(vchannel, keys)
      this.#newest = keys
    }
    const since = place.timeTick - this.#windowTicks
    for (let oldest = oldestOf(keys); oldest !== null; oldest = oldestOf(keys)) {
      if (oldest[1].timeTick >= since && keys.bytes <= this.#window.vchannelBytesMax) break
      this.#forget(keys, oldest)
    }
    if (this.#bytes <= this.#window.bytesMax) return
    for (const other of this.#vchannels.values()) {
      for (let oldest = oldestOf(other); oldest !== null; oldest = oldestOf(other)) {
        if (this.#bytes <= this.#window.bytesMax) return
        this.#forget(other, oldest)
      }
    }
  }

  #forget(keys: VchannelKeys, [key, { timeTick }]: [string, KeyPlace]): void {
    if (timeTick >= keys.horizon) keys.horizon = timeTick + 1n
    keys.oldest = null
    keys.places.delete(key)
    const bytes = costOf(key)
    keys.bytes -= bytes
    this.#bytes -= bytes
    this.#keys--
  }

  #keysOf(vchannel: string): VchannelKeys {
    let keys = this.#vchannels.get(vchannel)
    if (keys === undefined) {
      const places = new Map<string, KeyPlace>()
      keys = { places, ages: places.entries(), oldest: null, bytes: 0, horizon: this.#floor }
      this.#vchannels.set(vchannel, keys)
      this.#newest = keys
    }
    return keys
  }
}

function oldestOf(keys: VchannelKeys): [string, KeyPlace] | null {
  while (keys.places.size > 0) {
    if (keys.oldest !== null) return keys.oldest
    const next = keys.ages.next()
    // An iterator that has come to the end does not go on.
    if (next.done) keys.ages = keys.places.entries()
    keys.oldest = next.done ? null : next.value
  }
  return null
}

function costOf(key: string): number {
  return 2 * key.length + KEY_OVERHEAD_BYTES
}
