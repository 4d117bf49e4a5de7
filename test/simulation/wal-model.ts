/**
 * What a WAL on a simulated disk has to be: a list of what was acknowledged, in memory. The commands (wal-command.ts)
 * change both; `verify` says whether they are still the same.
 */
import { expect } from 'vitest'
import { openWal } from '../../src/wal/open-wal.ts'
import type { ScanItem, WalProducer, WalTxn } from '../../src/wal/types.ts'
import type { Wal } from '../../src/wal/wal.ts'
import { type ExpectedMessage, type ExpectedUnit, expectedUnits } from '../wal/scan/log-script.ts'
import { collect, unitsOf } from '../wal/scan/scanned-units.ts'
import { demand } from './log-ledger.ts'
import { logDirectory, Session, type Way } from './log-session.ts'
import type { SimDisk } from './sim-disk.ts'

export type { ExpectedMessage, ExpectedUnit }

/** The default: no choice sets another. */
export const KEY_WINDOW_MS = 10 * 60_000

export interface WalChoices {
  segmentBytes: number
  cacheBytes: number
  /** A batch above it becomes a transaction. */
  frameBytesMax: number
  /** Of scans. */
  transactionBytes: number
}

export interface ModelTransaction {
  readonly handle: WalTxn
  readonly vchannel: string
  readonly keepaliveMs: number
  readonly bodies: ExpectedMessage[]
  /** `ended`: by rollback, by an exclusive message, by its expiry. */
  state: 'open' | 'committed' | 'ended'
  answer: { lsn: number; timeTick: bigint } | undefined
}

export interface ModelProducer {
  readonly vchannel: string
  readonly id: string
  epoch: number
  /** By sequence - 1: where each record stands. */
  readonly written: { lsn: number; timeTick: bigint }[]
  /** Those of this life of the WAL; the last one is not fenced. */
  handles: WalProducer[]
}

/** What a follower that stays was given so far. */
export interface Follower {
  readonly items: AsyncIterator<ScanItem, undefined>
  readonly vchannels: readonly string[] | undefined
  /** LSN of the unit from which on it was given nothing yet. */
  nextLsn: number
}

export class WalModel {
  readonly session: Session
  readonly choices: WalChoices
  wal!: Wal
  /** What is visible, in order. */
  readonly units: ExpectedUnit[] = []
  transactions: ModelTransaction[] = []
  readonly producers = new Map<string, ModelProducer>()
  /** By vchannel and key: the place of the first one. */
  readonly keys = new Map<string, { lsn: number; timeTick: bigint }>()
  /** The highest watermark that anyone was told. */
  published = 0n
  firstLsn = 0
  follower: Follower | undefined
  /** In this life. */
  #told = 0n
  #nextId = 0

  constructor(disk: SimDisk, way: Way, choices: WalChoices) {
    this.session = new Session(disk, way, 1)
    this.choices = choices
  }

  async open(): Promise<void> {
    const { segmentBytes, cacheBytes, frameBytesMax } = this.choices
    const options = { ...this.session.options({ segmentBytes, cacheBytes }), frameBytesMax, timeTickIntervalMs: 1 }
    this.wal = await openWal(logDirectory, options)
  }

  /** A record that was never there before. */
  text(bytes: number): string {
    return `r${this.#nextId++}`.padEnd(bytes, '.')
  }

  /** A unit that was acknowledged, or found after a crash. */
  add(unit: ExpectedUnit): void {
    demand(unit.timeTick > this.published, () => `tick ${unit.timeTick} of LSN ${unit.lsn}: T had passed it`)
    const at = this.units.findLastIndex(({ lsn }) => lsn < unit.lsn) + 1
    const [before, after] = [this.units[at - 1], this.units[at]]
    demand(before === undefined || before.timeTick < unit.timeTick, () => `LSN ${unit.lsn}: the tick goes back`)
    demand(after === undefined || (after.lsn > unit.lsn && after.timeTick > unit.timeTick), () => {
      return `LSN ${unit.lsn} or its tick is given twice`
    })
    this.units.splice(at, 0, unit)
  }

  addMessage(message: Omit<ExpectedMessage, 'lsn'>, { lsn, timeTick }: { lsn: number; timeTick: bigint }): void {
    const { vchannel } = message
    this.add({ kind: 'message', lsn, timeTick, vchannel, message: { ...message, lsn } })
  }

  /** Those that are left. What was committed below the asked LSN may have lost its begin: then it is given up as a whole. */
  visible(): ExpectedUnit[] {
    return expectedUnits(this.units, { lsn: this.firstLsn }, {}).filter((unit) => !this.isCut(unit))
  }

  isCut(unit: ExpectedUnit): boolean {
    return unit.kind === 'txn' && unit.transaction >= 0 && unit.transaction < this.firstLsn
  }

  producer(vchannel: string, id: string): ModelProducer {
    const name = `${vchannel} ${id}`
    const known = this.producers.get(name)
    if (known !== undefined) return known
    const producer = { vchannel, id, epoch: 0, written: [], handles: [] }
    this.producers.set(name, producer)
    return producer
  }

  openTransactions(): ModelTransaction[] {
    return this.transactions.filter(({ state }) => state === 'open')
  }

  /** A new life of the WAL: what was open is rolled back, and no handle of before is good for anything. */
  endLife(): void {
    this.transactions = []
    for (const producer of this.producers.values()) producer.handles = []
    this.follower = undefined
    this.#told = 0n
  }

  /** The watermark never goes back, and is never ahead of what is acknowledged and not there. */
  watermark(): void {
    const tick = this.wal.watermark()
    demand(tick >= this.#told, () => `T goes back from ${this.#told} to ${tick}`)
    this.#told = tick
    if (tick > this.published) this.published = tick
  }

  /** What is there is what is in the list: once, in order, all or nothing, and nothing that is not committed. */
  async verify(): Promise<void> {
    this.watermark()
    const { transactionBytes } = this.choices
    const found = unitsOf(await collect(this.wal.scan({ transactionBytes })))
    mustBe(found, this.visible())
  }
}

/** Ticks of bodies and ids of transactions by themselves (batches that became one) are learned. */
export function mustBe(found: readonly ExpectedUnit[], wanted: readonly ExpectedUnit[]): void {
  for (const [index, unit] of wanted.entries()) learn(unit, found[index])
  expect(found.map(unitText)).toEqual(wanted.map(unitText))
}

/** Of a batch that became a transaction its writer knows only the first LSN and the commit. */
function learn(unit: ExpectedUnit, found: ExpectedUnit | undefined): void {
  if (unit.kind !== 'txn' || found?.kind !== 'txn' || unit.transaction >= 0 || found.lsn !== unit.lsn) return
  unit.transaction = found.transaction
  for (const [index, message] of unit.messages.entries()) {
    if (message.lsn < 0) message.lsn = found.messages[index]?.lsn ?? -1
  }
}

/** Short, for people: a failure prints it. */
export function unitText(unit: ExpectedUnit): string {
  const said = ({ lsn, vchannel, type, text }: ExpectedMessage) =>
    `${lsn}/${vchannel}/${type}/${text.replace(/\.+$/, '')}/${text.length}`
  const what = unit.kind === 'message' ? said(unit.message) : `T${unit.transaction}[${unit.messages.map(said)}]`
  return `${unit.lsn}@${unit.timeTick} ${unit.vchannel}: ${what}`
}
