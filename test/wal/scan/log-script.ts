/**
 * A log that is written frame by frame, as nodes and clients write theirs, and what readers must make of it: a list of
 * units, told from the script alone.
 */
import { encodeContext, loadChecksum, type RecordInput } from '../../../native-free-storage/index.ts'
import type { AppendedRange, LogStore } from '../../../src/log-store/log-store.ts'
import { MemoryLogs } from '../../../src/log-store/memory.ts'
import { encodeHeader } from '../../../src/message/message-header.ts'
import { exclusiveScope, MessageType } from '../../../src/message/message-type.ts'
import { foldLsn } from '../../../src/wal/transactions/transaction-hash.ts'
import { encodeBody } from '../../log-store/encode-body.ts'
import { ManualClock } from '../manual-clock.ts'

export interface ExpectedMessage {
  lsn: number
  vchannel: string
  type: number
  text: string
}

export type ExpectedUnit =
  | { kind: 'message'; lsn: number; timeTick: bigint; vchannel: string; message: ExpectedMessage }
  | { kind: 'txn'; lsn: number; timeTick: bigint; vchannel: string; transaction: number; messages: ExpectedMessage[] }

interface Open {
  vchannel: string
  bodies: ExpectedMessage[]
}

/** A record of a frame: of a transaction, void, or plain. */
export interface Row {
  vchannel: string
  type?: number
  transaction?: number
  isVoid?: boolean
  producer?: number
  bytes?: number
}

export type Ending = { begin: number; commit: boolean }

export class LogScript {
  readonly units: ExpectedUnit[] = []
  /** Of every record. */
  readonly ticks: bigint[] = []
  readonly open = new Map<number, Open>()
  readonly ended: { id: number; vchannel: string; bodies: ExpectedMessage[] }[] = []

  readonly store: LogStore
  readonly clock: ManualClock | null

  private constructor(store: LogStore, clock: ManualClock | null) {
    this.store = store
    this.clock = clock
  }

  static async inMemory(): Promise<LogScript> {
    await loadChecksum()
    const clock = new ManualClock()
    const logs = new MemoryLogs({ clock })
    return new LogScript(await logs.opener().open('0', 1), clock)
  }

  static on(store: LogStore): LogScript {
    return new LogScript(store, null)
  }

  async begin(vchannels: readonly string[]): Promise<number[]> {
    const range = await this.#write(
      vchannels.map((vchannel) => control(vchannel, MessageType.beginTxn, { keepalive_milliseconds: 1_000 })),
    )
    return vchannels.map((vchannel, row) => {
      this.open.set(range.firstLsn + row, { vchannel, bodies: [] })
      return range.firstLsn + row
    })
  }

  /** One frame. Bodies of one that is not open count for nothing. */
  async rows(rows: readonly Row[]): Promise<AppendedRange> {
    const contexts: Buffer[] = []
    const indexes = new Map<string, number>()
    const contextOf = ({ transaction, producer }: Row): number | undefined => {
      if (transaction === undefined && producer === undefined) return undefined
      const key = `${transaction} ${producer}`
      let index = indexes.get(key)
      if (index === undefined) {
        index = contexts.length
        indexes.set(key, index)
        contexts.push(
          encodeContext({
            transaction: transaction === undefined ? undefined : BigInt(transaction),
            producer: producer === undefined ? undefined : { id: BigInt(producer), epoch: 1, firstSequence: 1 },
          }),
        )
      }
      return index
    }
    const { nextLsn } = this.store
    const textOf = (row: number) => `${nextLsn + row}`.padEnd(rows[row]!.bytes ?? 0, '.')
    const records = rows.map((row, index) => ({
      vchannel: row.vchannel,
      type: row.type ?? 0,
      properties: index % 3 === 0 ? { own: `${nextLsn + index}` } : undefined,
      payload: Buffer.from(textOf(index)),
      contextIndex: contextOf(row),
    }))
    const voids = rows.flatMap((row, index) => (row.isVoid === true ? [index] : []))
    const range = await this.store.append(await encodeBody(records, contexts), { voids })
    this.#note(range)
    if (range.firstLsn !== nextLsn) throw new Error('the script is not alone in its log')
    for (const [index, row] of rows.entries()) {
      const { vchannel, type = 0, transaction } = row
      const lsn = range.firstLsn + index
      const message = { lsn, vchannel, type, text: textOf(index) }
      if (row.isVoid === true) continue
      if (transaction !== undefined) {
        const open = this.open.get(transaction)
        if (open?.vchannel === vchannel) open.bodies.push(message)
      } else {
        this.units.push({ kind: 'message', lsn, timeTick: range.firstTimeTick + BigInt(index), vchannel, message })
      }
    }
    return range
  }

  /** One frame of commits and rollbacks, also of such as have ended or never were. */
  async end(endings: readonly Ending[], wrong: { bodies?: number; hash?: bigint } = {}): Promise<AppendedRange> {
    const before = endings.map(({ begin }) => this.open.get(begin) ?? this.ended.find(({ id }) => id === begin))
    const records = endings.map(({ begin, commit }, index) => {
      const { vchannel = 'a', bodies = [] } = before[index] ?? {}
      if (!commit) return control(vchannel, MessageType.rollbackTxn, { begin: BigInt(begin) })
      let hash = BigInt(begin)
      for (const { lsn } of bodies) hash = foldLsn(hash, lsn)
      return control(vchannel, MessageType.commitTxn, {
        begin: BigInt(begin),
        bodies: BigInt(bodies.length + (wrong.bodies ?? 0)),
        hash: hash ^ (wrong.hash ?? 0n),
      })
    })
    const range = await this.#write(records)
    for (const [index, { begin, commit }] of endings.entries()) {
      const open = this.open.get(begin)
      if (open === undefined) continue
      this.#drop(begin, open)
      if (!commit || open.bodies.length === 0) continue
      const lsn = range.firstLsn + index
      const timeTick = range.firstTimeTick + BigInt(index)
      this.units.push({
        kind: 'txn',
        lsn,
        timeTick,
        vchannel: open.vchannel,
        transaction: begin,
        messages: open.bodies,
      })
    }
    return range
  }

  /** As a node writes when it has lost its state. */
  async rollbackAll(): Promise<void> {
    await this.#write([control('', MessageType.rollbackTxn, { all: true })])
    for (const [id, open] of this.open) this.#drop(id, open)
  }

  async exclusive(type: number, vchannel: string): Promise<void> {
    const { nextLsn } = this.store
    const range = await this.#write([{ vchannel, type, payload: Buffer.from(`${nextLsn}`) }])
    const scope = exclusiveScope(type, vchannel)
    for (const [id, open] of this.open) if (scope === '' || open.vchannel === scope) this.#drop(id, open)
    const lsn = range.firstLsn
    const message = { lsn, vchannel, type, text: `${lsn}` }
    this.units.push({ kind: 'message', lsn, timeTick: range.firstTimeTick, vchannel, message })
  }

  /** What a producer's epoch leaves in the log. */
  async epoch(vchannel: string): Promise<number> {
    const range = await this.#write([control(vchannel, MessageType.producerEpoch, { name: 'p', epoch: 1 })])
    return range.firstLsn
  }

  #drop(id: number, { vchannel, bodies }: Open): void {
    this.open.delete(id)
    this.ended.push({ id, vchannel, bodies })
  }

  async #write(records: readonly RecordInput[]): Promise<AppendedRange> {
    const range = await this.store.appendRecords(records, { ownFrame: true })
    this.#note(range)
    return range
  }

  #note({ firstLsn, lastLsn, firstTimeTick }: AppendedRange): void {
    for (let lsn = firstLsn; lsn <= lastLsn; lsn++) this.ticks[lsn] = firstTimeTick + BigInt(lsn - firstLsn)
  }
}

function control(vchannel: string, type: number, header: Readonly<Record<string, unknown>>): RecordInput {
  return { vchannel, type, properties: { _h: encodeHeader(type, header) } }
}

export interface Filters {
  vchannels?: readonly string[] | undefined
  types?: readonly number[] | undefined
  afterTick?: bigint | undefined
  fromTick?: bigint | undefined
}

/** What a scan from `from` gives: units as they are, with their messages filtered. */
export function expectedUnits(
  units: readonly ExpectedUnit[],
  from: { lsn: number; skip?: number } | { timeTick: bigint },
  { vchannels, types, afterTick = -1n, fromTick = 0n }: Filters,
): ExpectedUnit[] {
  const isWanted = ({ vchannel, type }: ExpectedMessage) =>
    (vchannels === undefined || vchannel === '' || vchannels.includes(vchannel)) &&
    (types === undefined || types.includes(type))
  const found: ExpectedUnit[] = []
  for (const unit of units) {
    if ('lsn' in from ? unit.lsn < from.lsn : unit.timeTick < from.timeTick) continue
    if (unit.timeTick <= afterTick || unit.timeTick < fromTick) continue
    if (unit.kind === 'message') {
      if (isWanted(unit.message)) found.push(unit)
      continue
    }
    const skip = 'lsn' in from && from.lsn === unit.lsn ? (from.skip ?? 0) : 0
    const messages = unit.messages.filter(isWanted).slice(skip)
    if (messages.length > 0) found.push({ ...unit, messages })
  }
  return found
}
