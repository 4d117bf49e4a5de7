/**
 * A node whose transactions, producers and keys are a few maps: what the client has to get along with, without the WAL's
 * windows, snapshots and expiry. Its logs are real ones (in memory), and so are the server side of the protocol and what
 * assembles transactions for consumers.
 */
import { type AddressInfo, createServer } from 'node:net'
import { decodeContext, decodeProperties } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import type { AppendedRange, EncodedBody, LogStore } from '../../src/log-store/log-store.ts'
import { MemoryLogs } from '../../src/log-store/memory.ts'
import { encodeHeader } from '../../src/message/message-header.ts'
import { MessageType } from '../../src/message/message-type.ts'
import type {
  ProducerOpened,
  Throttle,
  TxnBegun,
  TxnEnded,
  WireProducer,
  WireTransaction,
} from '../../src/protocol/wal-messages.ts'
import { type Connection, serveConnection } from '../../src/streaming-node/connection/serve-connection.ts'
import type {
  AppendBodyOptions,
  GroupStatus,
  LogReader,
  NodeService,
  PlacedAppend,
  VchannelInfo,
} from '../../src/streaming-node/node-service.ts'
import type { UnitResult } from '../../src/wal/pipeline/interceptor.ts'
import { foldLsn } from '../../src/wal/transactions/transaction-hash.ts'

interface Txn {
  readonly group: number
  readonly vchannel: string
  readonly begin: number
  readonly lsns: number[]
  /** By the index of the first record. */
  readonly frames: Map<number, Promise<AppendedRange>>
  bodies: number
  over: 'committed' | 'rolled-back' | null
  ended: Promise<TxnEnded> | null
}

interface Known {
  readonly id: string
  readonly vchannel: string
  readonly group: number
  readonly producer: number
  epoch: number
  next: number
  last: { lsn: number; timeTick: bigint }
  /** By the first sequence. */
  readonly frames: Map<number, { count: number; range: Promise<AppendedRange> }>
}

export class ModelNode implements NodeService {
  accepting = true
  readonly timeTickIntervalMs = 5
  readonly anyStirs = Number.NaN
  /** By group and id. */
  readonly txns = new Map<string, Txn>()
  readonly known: Known[] = []
  readonly keys = new Map<string, { lsn: number; timeTick: bigint }>()
  /** Called when a frame was written, before it is answered. */
  afterAppend: (() => Promise<void> | void) | null = null
  /** Called when a transaction was ended, before it is answered. */
  afterEnd: (() => Promise<void> | void) | null = null
  /** Refuses the next frames, one each, in their turn. */
  readonly refusals: TidelogError<string>[] = []
  /** What each frame with a key said of its first try. */
  readonly firstTries: bigint[] = []
  windowLost = false
  readonly #logs: LogStore[]
  readonly #vchannels = new Map<string, VchannelInfo>()
  readonly #throttled = new Set<(throttle: Throttle) => void>()
  #throttle: Throttle | null = null

  private constructor(logs: LogStore[]) {
    this.#logs = logs
  }

  static async open(groups = 1): Promise<ModelNode> {
    const opener = new MemoryLogs().opener()
    const logs: LogStore[] = []
    for (let group = 0; group < groups; group++) logs.push(await opener.open(`p${group}`, 1))
    return new ModelNode(logs)
  }

  async resolve(vchannel: string, create: boolean): Promise<VchannelInfo> {
    let info = this.#vchannels.get(vchannel)
    if (info === undefined) {
      if (!create) throw new TidelogError<string>('VCHANNEL_UNKNOWN', `there is no vchannel ${vchannel}`)
      info = { name: vchannel, group: this.#vchannels.size % this.#logs.length, createdMs: 1 }
      this.#vchannels.set(vchannel, info)
    }
    return info
  }

  vchannels(): readonly VchannelInfo[] {
    return [...this.#vchannels.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  async confirmed(group: number, atLeast: bigint, signal: AbortSignal): Promise<bigint> {
    const log = this.#logs[group]!
    for (;;) {
      const watermark = log.watermark()
      if (watermark >= atLeast) return watermark
      if (signal.aborted) throw new TidelogError<string>('ABORTED', 'nobody waits any more')
      await new Promise((resolve) => setTimeout(resolve, this.timeTickIntervalMs))
    }
  }

  /** Tells the connections, as a node does. */
  setThrottle(throttle: Throttle): void {
    this.#throttle = throttle
    for (const listener of this.#throttled) listener(throttle)
  }

  throttle(group: number): Throttle {
    return this.#throttle ?? { group, state: 'ok', bytesPerSecond: 0 }
  }

  onThrottle(listener: (throttle: Throttle) => void): () => void {
    this.#throttled.add(listener)
    return () => this.#throttled.delete(listener)
  }

  reader(group: number): LogReader {
    return this.#logs[group]!
  }

  nextLsn(group: number): number {
    return this.#logs[group]!.nextLsn
  }

  firstLsn(group: number): number {
    return this.#logs[group]!.firstLsn
  }

  changed(group: number): Promise<void> {
    return this.#logs[group]!.changed()
  }

  watermark(group: number): bigint {
    return this.#logs[group]!.watermark()
  }

  stirs(): number {
    return Number.NaN
  }

  sharedTick(): bigint {
    return 0n
  }

  status(): readonly GroupStatus[] {
    return []
  }

  space(): null {
    return null
  }

  async truncateBefore(vchannel: string, lsn: number): Promise<{ firstLsn: number }> {
    const { group } = await this.resolve(vchannel, false)
    await this.#logs[group]!.truncateBefore(lsn)
    return { firstLsn: this.firstLsn(group) }
  }

  /** As if the node had been started again: nothing that was open goes on. */
  async restart(): Promise<void> {
    for (const txn of this.txns.values()) if (txn.over === null) await this.#rollBack(txn)
  }

  append(group: number, body: EncodedBody, options: AppendBodyOptions): PlacedAppend {
    const { head } = body
    const context = head.contextCount === 0 ? null : decodeContext(head.context(0))
    if (context?.transaction !== undefined) {
      return {
        entered: null,
        settled: this.#answer(this.#inTransaction(group, Number(context.transaction), body, options)),
      }
    }
    if (context?.producer !== undefined) {
      const { id, epoch, firstSequence } = context.producer
      return { entered: null, settled: this.#answer(this.#inSequence(group, Number(id), epoch, firstSequence, body)) }
    }
    const keys = keysOf(body)
    if (keys.length === 0) return { entered: null, settled: this.#answer(this.#plain(group, body, options)) }
    this.firstTries.push(options.firstTriedAt ?? 0n)
    return { entered: null, settled: this.#answer(this.#withKeys(group, keys, body)) }
  }

  async begin(vchannel: string, keepaliveMs: number): Promise<TxnBegun> {
    const { group } = await this.resolve(vchannel, false)
    const record = { vchannel, type: MessageType.beginTxn, properties: { _h: encodeHeader(MessageType.beginTxn, {}) } }
    const { firstLsn, firstTimeTick } = await this.#logs[group]!.appendRecords([record], { ownFrame: true })
    const txn: Txn = {
      group,
      vchannel,
      begin: firstLsn,
      lsns: [],
      frames: new Map(),
      bodies: 0,
      over: null,
      ended: null,
    }
    this.txns.set(`${group}/${firstLsn}`, txn)
    return { transaction: firstLsn, group, keepaliveMs: keepaliveMs || 10_000, timeTick: firstTimeTick }
  }

  async end(
    group: number,
    transaction: number,
    { commit, bodies }: { commit: boolean; bodies: number },
  ): Promise<TxnEnded> {
    const txn = this.txns.get(`${group}/${transaction}`)
    if (txn === undefined || txn.over === (commit ? 'rolled-back' : 'committed')) {
      throw new TidelogError<string>('TRANSACTION_ABORTED', 'it was ended', { outcome: 'not-written' })
    }
    if (commit && bodies !== txn.bodies) {
      throw new TidelogError<string>('TRANSACTION_STATE', `${txn.bodies} bodies, not ${bodies}`, {
        outcome: 'not-written',
      })
    }
    if (txn.ended === null) txn.ended = commit ? this.#commit(txn) : this.#rollBack(txn)
    const ended = await txn.ended
    await this.afterEnd?.()
    return ended
  }

  transactions(): readonly WireTransaction[] {
    return [...this.txns.values()]
      .filter(({ over }) => over === null)
      .map(({ begin, group, vchannel, bodies }) => ({
        transaction: begin,
        group,
        vchannel,
        state: 'open',
        bodies,
        bytes: 0,
        ageMs: 0,
        leftMs: 10_000,
        keepaliveMs: 10_000,
      }))
  }

  async openProducer(vchannel: string, id: string, epoch: number | null): Promise<ProducerOpened> {
    const { group } = await this.resolve(vchannel, false)
    let known = this.known.find((other) => other.id === id && other.vchannel === vchannel)
    if (epoch !== null && known?.epoch !== epoch) {
      throw new TidelogError<string>('PRODUCER_FENCED', 'a newer epoch has begun', { outcome: 'not-written' })
    }
    if (known === undefined) {
      known = {
        id,
        vchannel,
        group,
        producer: 1_000 + this.known.length,
        epoch: 0,
        next: 1,
        last: { lsn: 0, timeTick: 0n },
        frames: new Map(),
      }
      this.known.push(known)
    }
    if (epoch === null) known.epoch++
    const { producer, next } = known
    return { producer, group, epoch: known.epoch, lastSequence: next - 1, windowLost: this.windowLost }
  }

  producers(): readonly WireProducer[] {
    return this.known.map(({ id, vchannel, group, producer, epoch, next, last }) => ({
      id,
      vchannel,
      group,
      producer,
      epoch,
      lastSequence: next - 1,
      lastLsn: last.lsn,
      lastTimeTick: last.timeTick,
    }))
  }

  async #answer(settled: Promise<UnitResult>): Promise<UnitResult> {
    const result = await settled
    await this.afterAppend?.()
    return result
  }

  #refuse(): void {
    const refusal = this.refusals.shift()
    if (refusal !== undefined) throw refusal
  }

  async #inTransaction(
    group: number,
    transaction: number,
    body: EncodedBody,
    { transactionIndex }: AppendBodyOptions,
  ): Promise<UnitResult> {
    this.#refuse()
    const txn = this.txns.get(`${group}/${transaction}`)
    const index = transactionIndex ?? 0
    const before = txn?.frames.get(index)
    if (txn !== undefined && before !== undefined) return { range: await before, duplicate: true, duplicates: [] }
    if (txn === undefined || txn.over !== null) {
      throw new TidelogError<string>('TRANSACTION_EXPIRED', 'it is not open', { outcome: 'not-written' })
    }
    if (index !== txn.bodies) {
      throw new TidelogError<string>('SEQUENCE_GAP', `${index} is not ${txn.bodies}`, { outcome: 'not-written' })
    }
    txn.bodies += body.head.recordCount
    const written = this.#logs[group]!.append(body)
    txn.frames.set(index, written)
    const range = await written
    for (let lsn = range.firstLsn; lsn <= range.lastLsn; lsn++) txn.lsns.push(lsn)
    return { range, duplicate: false, duplicates: [] }
  }

  async #inSequence(
    group: number,
    producer: number,
    epoch: number,
    first: number,
    body: EncodedBody,
  ): Promise<UnitResult> {
    this.#refuse()
    const known = this.known.find((other) => other.producer === producer)!
    if (epoch !== known.epoch) {
      throw new TidelogError<string>('PRODUCER_FENCED', 'a newer epoch has begun', { outcome: 'not-written' })
    }
    for (const [at, { count, range }] of known.frames) {
      if (first < at || first + body.head.recordCount > at + count) continue
      const whole = await range
      const firstLsn = whole.firstLsn + first - at
      const firstTimeTick = whole.firstTimeTick + BigInt(first - at)
      const more = body.head.recordCount - 1
      const part = { firstLsn, lastLsn: firstLsn + more, firstTimeTick, lastTimeTick: firstTimeTick + BigInt(more) }
      return { range: part, duplicate: true, duplicates: [] }
    }
    if (first !== known.next) {
      throw new TidelogError<string>('SEQUENCE_GAP', `${known.next} is the next`, { outcome: 'not-written' })
    }
    known.next += body.head.recordCount
    const written = this.#logs[group]!.append(body)
    known.frames.set(first, { count: body.head.recordCount, range: written })
    const range = await written
    known.last = { lsn: range.lastLsn, timeTick: range.lastTimeTick }
    return { range, duplicate: false, duplicates: [] }
  }

  async #plain(group: number, body: EncodedBody, { barrierTick }: AppendBodyOptions): Promise<UnitResult> {
    this.#refuse()
    const range = await this.#logs[group]!.append(body, barrierTick === undefined ? {} : { barrierTick })
    return { range, duplicate: false, duplicates: [] }
  }

  async #withKeys(group: number, keys: readonly (string | null)[], body: EncodedBody): Promise<UnitResult> {
    this.#refuse()
    const duplicates = keys.flatMap((key, row) => {
      const before = key === null ? undefined : this.keys.get(key)
      return before === undefined ? [] : [{ row, ...before }]
    })
    const voids = duplicates.map(({ row }) => row)
    const range = await this.#logs[group]!.append(body, { voids })
    for (const [row, key] of keys.entries()) {
      if (key === null || this.keys.has(key)) continue
      this.keys.set(key, { lsn: range.firstLsn + row, timeTick: range.firstTimeTick + BigInt(row) })
    }
    return { range, duplicate: false, duplicates }
  }

  async #commit(txn: Txn): Promise<TxnEnded> {
    txn.over = 'committed'
    await Promise.all(txn.frames.values())
    let hash = BigInt(txn.begin)
    for (const lsn of txn.lsns.sort((a, b) => a - b)) hash = foldLsn(hash, lsn)
    return await this.#endRecord(txn, MessageType.commitTxn, { begin: txn.begin, bodies: txn.lsns.length, hash })
  }

  async #rollBack(txn: Txn): Promise<TxnEnded> {
    txn.over = 'rolled-back'
    return await this.#endRecord(txn, MessageType.rollbackTxn, { begin: txn.begin })
  }

  async #endRecord({ group, vchannel }: Txn, type: number, fields: Record<string, number | bigint>): Promise<TxnEnded> {
    const record = { vchannel, type, properties: { _h: encodeHeader(type, fields) } }
    const { firstLsn, firstTimeTick } = await this.#logs[group]!.appendRecords([record], { ownFrame: true })
    return { lsn: firstLsn, timeTick: firstTimeTick }
  }
}

/** Of each record its key, with the vchannel; empty when no record has one. */
function keysOf({ head, bytes }: EncodedBody): (string | null)[] {
  const offsets = head.rowOffsets()
  const keys: (string | null)[] = []
  for (let row = 0; row < head.recordCount; row++) {
    const vchannel = head.vchannelIndex(row)
    const start = head.sectionOffset(vchannel) + offsets[row]!
    const length = head.propertiesLength(row)
    const key = length === 0 ? undefined : decodeProperties(bytes.subarray(start, start + length))._ik
    keys.push(key === undefined ? null : `${head.vchannels[vchannel]}/${key}`)
  }
  return keys.some((key) => key !== null) ? keys : []
}

export interface ServedModel {
  readonly port: number
  readonly address: string
  readonly connections: ReadonlySet<Connection>
  close(): Promise<void>
}

/** On a free port of the loopback. */
export async function serveModel(node: ModelNode): Promise<ServedModel> {
  const connections = new Set<Connection>()
  const server = createServer((socket) => {
    const connection = serveConnection(socket, node)
    connections.add(connection)
    void connection.closed.then(() => connections.delete(connection))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    port,
    address: `tcp://127.0.0.1:${port}`,
    connections,
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const connection of connections) connection.destroy()
      await closed
    },
  }
}
