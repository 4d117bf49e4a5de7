/**
 * The state of a WAL: transactions, producers, keys. A function of the log: `apply` is the only way to change it, called
 * with the effects of each durable frame in LSN order, whether it was appended now or is read back at an opening.
 */
// The entry without the native part.
import { Packr } from 'msgpackr/pack'
import { msgpackFault } from '../../message/msgpack-walk.ts'
import { defaultKeyWindow, type KeyPlace, KeyTable, type KeyWindow } from '../deduplication/key-table.ts'
import {
  PRODUCER_WINDOW,
  type ProducerRecord,
  ProducerTable,
  type WrittenFrame,
} from '../deduplication/producer-table.ts'
import type { Effect } from '../effect.ts'
import { TransactionTable } from '../transactions/transaction-table.ts'

const VERSION = 1
const DEPTH_MAX = 8
/** What a decoder believes. */
const ITEMS_MAX = 8 * 1024 * 1024
const PRODUCER_PARTS = 8
const FRAME_PARTS = 4
const KEY_PARTS = 3

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true, int64AsType: 'bigint' })

export class WalState {
  readonly transactions: TransactionTable
  readonly producers: ProducerTable
  readonly keys: KeyTable

  constructor(transactions: TransactionTable, producers: ProducerTable, keys: KeyTable) {
    this.transactions = transactions
    this.producers = producers
    this.keys = keys
  }

  static empty(window: Readonly<KeyWindow> = defaultKeyWindow): WalState {
    return new WalState(new TransactionTable(), new ProducerTable(), new KeyTable(window))
  }

  /** What was written below `lsn`, and before `timeTick`, is not known, and says so. */
  static lost(lsn: number, timeTick: bigint, window: Readonly<KeyWindow> = defaultKeyWindow): WalState {
    return new WalState(new TransactionTable(), new ProducerTable(lsn), new KeyTable(window, timeTick))
  }

  /** The effects of one frame, whose first record has this LSN and tick. */
  apply(effects: readonly Effect[], baseLsn: number, baseTimeTick: bigint): void {
    for (const effect of effects) {
      const lsn = baseLsn + effect.row
      const timeTick = baseTimeTick + BigInt(effect.row)
      switch (effect.kind) {
        case 'epoch':
          this.producers.applyEpoch(effect, lsn, timeTick)
          break
        case 'sequence':
          this.producers.applySequence(effect, lsn, timeTick)
          break
        case 'key':
          this.keys.apply(effect, lsn, timeTick)
          break
        default:
          this.transactions.apply(effect, lsn, timeTick)
      }
    }
  }

  /** For a snapshot. */
  encode(): Buffer {
    const producers: unknown[] = []
    for (const record of this.producers.records()) producers.push(encodeProducer(record))
    const keys: unknown[] = []
    for (const [vchannel, horizon, places] of this.keys.vchannels()) {
      const flat: unknown[] = []
      for (const [key, { lsn, timeTick }] of places) flat.push(key, lsn, timeTick)
      keys.push([vchannel, horizon, flat])
    }
    return packr.pack({
      version: VERSION,
      transactions: this.transactions.encode(),
      lostBelow: this.producers.lostBelow,
      producers,
      keyFloor: this.keys.floor,
      keys,
    })
  }

  /** Throws an Error for what `encode` cannot have given. */
  static decode(bytes: Buffer, window: Readonly<KeyWindow> = defaultKeyWindow): WalState {
    const fault = msgpackFault(bytes, DEPTH_MAX)
    if (fault !== null) throw new Error(`the snapshot: ${fault}`)
    const map = packr.unpack(bytes) as Record<string, unknown>
    if (map.version !== VERSION) throw new Error(`a snapshot of the WAL's state of version ${String(map.version)}`)
    const transactions = TransactionTable.decode(map.transactions)
    const producers = new ProducerTable(lsnOf(map.lostBelow))
    for (const item of list(map.producers)) producers.restore(decodeProducer(item))
    const keys = new KeyTable(window, tickOf(map.keyFloor))
    for (const item of list(map.keys)) {
      const [vchannel, horizon, flat] = list(item)
      const places = list(flat)
      if (typeof vchannel !== 'string' || places.length % KEY_PARTS !== 0)
        throw new Error('keys of a vchannel are none')
      keys.restore(vchannel, tickOf(horizon), placesOf(places))
    }
    return new WalState(transactions, producers, keys)
  }
}

function* placesOf(flat: readonly unknown[]): Generator<[string, KeyPlace]> {
  for (let at = 0; at < flat.length; at += KEY_PARTS) {
    const key = flat[at]
    if (typeof key !== 'string') throw new Error('a key is no string')
    yield [key, { lsn: lsnOf(flat[at + 1]), timeTick: tickOf(flat[at + 2]) }]
  }
}

function encodeProducer(record: ProducerRecord): unknown[] {
  const { vchannel, name, producer, epoch, lastSequence, lastLsn, lastTimeTick, window } = record
  const frames = window.flatMap((frame) => [frame.firstSequence, frame.count, frame.firstLsn, frame.firstTimeTick])
  return [vchannel, name, producer, epoch, lastSequence, lastLsn, lastTimeTick, frames]
}

function decodeProducer(item: unknown): ProducerRecord {
  const parts = list(item)
  const [vchannel, name, producer, epoch, lastSequence, lastLsn, lastTimeTick, flat] = parts
  if (parts.length !== PRODUCER_PARTS || typeof vchannel !== 'string' || typeof name !== 'string') {
    throw new Error('a producer is none')
  }
  const frames = list(flat)
  if (frames.length % FRAME_PARTS !== 0 || frames.length > FRAME_PARTS * PRODUCER_WINDOW) {
    throw new Error('the window of a producer is none')
  }
  const window: WrittenFrame[] = []
  for (let at = 0; at < frames.length; at += FRAME_PARTS) {
    window.push({
      firstSequence: lsnOf(frames[at]),
      count: lsnOf(frames[at + 1]),
      firstLsn: lsnOf(frames[at + 2]),
      firstTimeTick: tickOf(frames[at + 3]),
    })
  }
  return {
    vchannel,
    name,
    producer: lsnOf(producer),
    epoch: lsnOf(epoch),
    lastSequence: lastSequence === -1 ? -1 : lsnOf(lastSequence),
    lastLsn: lsnOf(lastLsn),
    lastTimeTick: tickOf(lastTimeTick),
    window,
  }
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value) || value.length > ITEMS_MAX) throw new Error('a list of the snapshot is none')
  return value
}

/** Integers below 2^53. */
function lsnOf(value: unknown): number {
  const number = typeof value === 'bigint' ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 0) throw new Error('an LSN is none')
  return number
}

function tickOf(value: unknown): bigint {
  const tick = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value
  if (typeof tick !== 'bigint' || tick < 0n || tick >= 2n ** 64n) throw new Error('a tick is none')
  return tick
}
