/** What a user can do with a WAL, each as a command: done to the WAL on its disk, and to a list in memory. */
import type fc from 'fast-check'
import { expect } from 'vitest'
import { tickOf } from '../../native-free-storage/index.ts'
import { exclusiveScope, MessageType } from '../../src/message/message-type.ts'
import type { ScanFrom } from '../../src/wal/types.ts'
import { expectedUnits, type Filters } from '../wal/scan/log-script.ts'
import { collect, unitsOf } from '../wal/scan/scanned-units.ts'
import { demand } from './log-ledger.ts'
import { type ModelTransaction, mustBe, type WalModel } from './wal-model.ts'

export interface WalCommand extends fc.AsyncCommand<WalModel, WalModel> {
  run(model: WalModel): Promise<void>
}

/** What is appended: LSN and payload come at the time. */
export interface Drawn {
  vchannel: string
  type: number
  bytes: number
}

/** Longer than the keepalive of a short transaction, and than no other wait of a run. */
export const LAPSE_MS = 120_000
const HOUR_MS = 3_600_000
const KEY_WINDOW_MS = 10 * 60_000

export function pick<T>(list: readonly T[], share: number): T | undefined {
  return list[Math.floor((share * list.length) / 1_000)]
}

export function messageOf(model: WalModel, { vchannel, type, bytes }: Drawn) {
  const text = model.text(bytes)
  const header = type === MessageType.insert ? { collection_id: 7, partitions: [{ rows: 1 }] } : undefined
  return { expected: { vchannel, type, text }, message: { vchannel, type, header, payload: Buffer.from(text) } }
}

const withCode = (...codes: string[]) => expect.objectContaining({ code: expect.toBeOneOf(codes) })

abstract class Base implements WalCommand {
  abstract act(model: WalModel): Promise<void>

  check(_model: Readonly<WalModel>): boolean {
    return true
  }

  /** Whether the whole list is compared behind it, and not only at the next command that says so. */
  get looks(): boolean {
    return false
  }

  async run(model: WalModel): Promise<void> {
    await this.act(model)
    model.watermark()
    if (this.looks) await model.verify()
  }
}

export class Append extends Base {
  readonly #drawn: readonly Drawn[]
  readonly #how: 'singles' | 'batch'
  readonly #barrierMs: number
  constructor(drawn: readonly Drawn[], how: 'singles' | 'batch', barrierMs: number) {
    super()
    this.#how = how
    // A batch that may become a transaction is of one vchannel.
    this.#drawn = how === 'batch' ? drawn.map((each) => ({ ...each, vchannel: drawn[0]!.vchannel })) : drawn
    this.#barrierMs = barrierMs
  }

  async act(model: WalModel): Promise<void> {
    const { wal, choices } = model
    const made = this.#drawn.map((drawn) => messageOf(model, drawn))
    const messages = made.map(({ message }) => message)
    const barrierTick = this.#barrierMs === 0 ? undefined : wal.watermark() + tickOf(this.#barrierMs)
    if (this.#how === 'singles') {
      const answers = await Promise.all(messages.map((message) => wal.append(message, { barrierTick })))
      for (const [index, answer] of answers.entries()) {
        expect(answer.duplicate).toBe(false)
        demand(answer.timeTick >= (barrierTick ?? 0n), () => 'a tick below its barrier')
        model.addMessage(made[index]!.expected, answer)
      }
      return
    }
    const { firstLsn, lastLsn, firstTimeTick, lastTimeTick } = await wal.append(messages, { barrierTick })
    demand(firstTimeTick >= (barrierTick ?? 0n), () => 'a tick below its barrier')
    if (lastLsn - firstLsn === made.length - 1) {
      for (const [index, { expected }] of made.entries()) {
        model.addMessage(expected, { lsn: firstLsn + index, timeTick: firstTimeTick + BigInt(index) })
      }
      return
    }
    // It did not fit a frame: a transaction by itself, whose last LSN is that of the commit.
    const bytes = made.reduce((sum, { expected }) => sum + expected.text.length, 0)
    demand(bytes > choices.frameBytesMax / 2, () => `a batch of ${bytes} bytes became a transaction`)
    const vchannel = this.#drawn[0]!.vchannel
    const bodies = made.map(({ expected }, index) => ({ ...expected, lsn: index === 0 ? firstLsn : -1 }))
    model.add({ kind: 'txn', lsn: lastLsn, timeTick: lastTimeTick, vchannel, transaction: -1, messages: bodies })
  }

  override toString = () =>
    `${this.#how}(${this.#drawn.map(({ vchannel, type, bytes }) => `${vchannel}/${type}/${bytes}`)}; ${this.#barrierMs})`
}

export class AppendKeyed extends Base {
  readonly #drawn: Drawn
  readonly #key: string
  readonly #triedAt: 'unsaid' | 'now' | 'first'
  constructor(drawn: Drawn, key: string, triedAt: 'unsaid' | 'now' | 'first') {
    super()
    this.#drawn = drawn
    this.#key = key
    this.#triedAt = triedAt
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const { expected, message } = messageOf(model, this.#drawn)
    const name = `${this.#drawn.vchannel} ${this.#key}`
    const first = model.keys.get(name)
    const now = model.wal.watermark()
    // What a caller knew before its first try.
    const known = first === undefined ? now : first.timeTick - 1n
    const firstTriedAt = this.#triedAt === 'unsaid' ? undefined : this.#triedAt === 'now' ? now : known
    const answer = await model.wal
      .append(message, { idempotencyKey: this.#key, firstTriedAt })
      .catch((error: unknown) => {
        expect(error).toEqual(withCode('KEY_FORGOTTEN'))
        return null
      })
    const isYoung = first !== undefined && now - first.timeTick < tickOf(KEY_WINDOW_MS)
    if (answer === null) {
      // Only of what may have been written so long ago that nobody knows.
      demand(this.#triedAt === 'first' && first !== undefined && !isYoung, () => 'a key is forgotten too early')
      return
    }
    if (answer.duplicate) {
      expect(answer).toEqual({ ...first, duplicate: true })
      return
    }
    demand(!isYoung, () => `key ${name} is written twice, at LSN ${first?.lsn} and ${answer.lsn}`)
    demand(
      first === undefined || this.#triedAt !== 'first',
      () => `key ${name} counts as new though it was tried before`,
    )
    model.addMessage(expected, answer)
    model.keys.set(name, { lsn: answer.lsn, timeTick: answer.timeTick })
  }

  override toString = () => `keyed(${this.#drawn.vchannel}, ${this.#key}, ${this.#triedAt})`
}

export class OpenProducer extends Base {
  readonly #vchannel: string
  readonly #id: string
  constructor(vchannel: string, id: string) {
    super()
    this.#vchannel = vchannel
    this.#id = id
  }

  async act(model: WalModel): Promise<void> {
    const handle = await model.wal.producer(this.#vchannel, { id: this.#id })
    const producer = model.producer(this.#vchannel, this.#id)
    demand(handle.epoch > producer.epoch, () => `epoch ${handle.epoch} after ${producer.epoch}`)
    expect(handle.lastSequence).toBe(producer.written.length)
    producer.epoch = handle.epoch
    producer.handles.push(handle)
  }

  override toString = () => `producer(${this.#vchannel}, ${this.#id})`
}

type Sequenced = 'next' | 'repeat' | 'gap' | 'stale' | 'aborted'

export class AppendSequenced extends Base {
  readonly #share: number
  readonly #what: Sequenced
  readonly #bytes: number
  constructor(share: number, what: Sequenced, bytes: number) {
    super()
    this.#share = share
    this.#what = what
    this.#bytes = bytes
  }

  override check(model: Readonly<WalModel>): boolean {
    return [...model.producers.values()].some(({ handles }) => handles.length > (this.#what === 'stale' ? 1 : 0))
  }

  async act(model: WalModel): Promise<void> {
    const minimum = this.#what === 'stale' ? 2 : 1
    const able = [...model.producers.values()].filter(({ handles }) => handles.length >= minimum)
    const producer = pick(able, this.#share)!
    const { vchannel, written } = producer
    const handle = this.#what === 'stale' ? producer.handles[0]! : producer.handles.at(-1)!
    const { expected, message } = messageOf(model, { vchannel, type: 0, bytes: this.#bytes })
    const next = written.length + 1
    if (this.#what === 'next') {
      const answer = await handle.append(message)
      expect(answer).toMatchObject({ sequence: next, duplicate: false })
      written.push({ lsn: answer.lsn, timeTick: answer.timeTick })
      model.addMessage(expected, answer)
      expect(handle.lastSequence).toBe(next)
    } else if (this.#what === 'stale') {
      await expect(handle.append(message, { sequence: next })).rejects.toEqual(withCode('PRODUCER_FENCED'))
    } else if (this.#what === 'aborted') {
      // Not written: the next one has its sequence.
      await expect(handle.append(message, { signal: AbortSignal.abort() })).rejects.toEqual(withCode('ABORTED'))
    } else if (this.#what === 'gap') {
      await expect(handle.append(message, { sequence: next + 1 })).rejects.toEqual(withCode('SEQUENCE_GAP'))
    } else if (written.length > 0) {
      const sequence = 1 + Math.floor((this.#share * written.length) / 1_000)
      const answer = await handle.append(message, { sequence })
      expect(answer).toEqual({ ...written[sequence - 1]!, sequence, duplicate: true })
    }
  }

  override toString = () => `sequenced(${this.#what}, ${this.#share})`
}

export class Begin extends Base {
  readonly #vchannel: string
  readonly #keepaliveMs: number
  constructor(vchannel: string, isShort: boolean) {
    super()
    this.#vchannel = vchannel
    this.#keepaliveMs = isShort ? LAPSE_MS / 2 : 24 * HOUR_MS
  }

  async act(model: WalModel): Promise<void> {
    const handle = await model.wal.begin(this.#vchannel, { keepaliveMs: this.#keepaliveMs })
    demand(
      model.transactions.every((each) => each.handle.id < handle.id),
      () => `id ${handle.id} is given twice`,
    )
    const rest = { vchannel: this.#vchannel, keepaliveMs: this.#keepaliveMs, bodies: [] }
    model.transactions.push({ handle, ...rest, state: 'open', answer: undefined })
  }

  override toString = () => `begin(${this.#vchannel}, ${this.#keepaliveMs})`
}

const notOpen = ['TRANSACTION_STATE', 'TRANSACTION_EXPIRED', 'TRANSACTION_ABORTED']

export class InTransaction extends Base {
  readonly #share: number
  readonly #what: 'append' | 'commit' | 'rollback'
  readonly #bytes: readonly number[]
  constructor(share: number, what: 'append' | 'commit' | 'rollback', bytes: readonly number[]) {
    super()
    this.#share = share
    this.#what = what
    this.#bytes = bytes
  }

  override check(model: Readonly<WalModel>): boolean {
    return model.transactions.length > 0
  }

  override get looks(): boolean {
    return this.#what !== 'append'
  }

  async act(model: WalModel): Promise<void> {
    const transaction = pick(model.transactions, this.#share)!
    if (this.#what === 'append') await this.#append(model, transaction)
    else if (this.#what === 'rollback') await this.#rollback(transaction)
    else await this.#commit(model, transaction)
  }

  async #append(model: WalModel, { handle, vchannel, bodies, state }: ModelTransaction): Promise<void> {
    const made = this.#bytes.map((bytes) => messageOf(model, { vchannel, type: bytes % 2 === 0 ? 0 : 2, bytes }))
    const appending = made.map(({ message }) => handle.append(message))
    if (state !== 'open') {
      for (const each of appending) await expect(each).rejects.toEqual(withCode(...notOpen))
      return
    }
    const answers = await Promise.all(appending)
    for (const [index, { lsn, timeTick }] of answers.entries()) {
      demand(timeTick > model.published, () => `tick ${timeTick} of LSN ${lsn}: T had passed it`)
      bodies.push({ ...made[index]!.expected, lsn })
    }
    bodies.sort((a, b) => a.lsn - b.lsn)
  }

  async #rollback(transaction: ModelTransaction): Promise<void> {
    const rolling = transaction.handle.rollback()
    if (transaction.state === 'committed') await expect(rolling).rejects.toEqual(withCode('TRANSACTION_STATE'))
    // What has ended by itself is as good as rolled back.
    else if (transaction.state === 'ended') await rolling.catch((error) => expect(error).toEqual(withCode(...notOpen)))
    else {
      await rolling
      transaction.state = 'ended'
    }
  }

  async #commit(model: WalModel, transaction: ModelTransaction): Promise<void> {
    const { handle, state, bodies, vchannel } = transaction
    const committing = handle.commit()
    if (state === 'ended') {
      await expect(committing).rejects.toEqual(withCode(...notOpen))
      return
    }
    const { lsn, timeTick } = await committing
    if (state === 'committed') {
      expect({ lsn, timeTick }).toEqual(transaction.answer)
      return
    }
    transaction.state = 'committed'
    transaction.answer = { lsn, timeTick }
    if (bodies.length === 0) return
    model.add({ kind: 'txn', lsn, timeTick, vchannel, transaction: handle.id, messages: [...bodies] })
  }

  override toString = () => `${this.#what}InTransaction(${this.#share}; ${this.#bytes})`
}

export class Exclusive extends Base {
  readonly #type: number
  readonly #vchannel: string
  constructor(type: number, vchannel: string) {
    super()
    this.#type = type
    this.#vchannel = vchannel
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const text = model.text(0)
    const vchannel = this.#type === MessageType.flushAll ? '' : this.#vchannel
    const answer = await model.wal.append({ vchannel, type: this.#type, payload: Buffer.from(text) })
    model.addMessage({ vchannel, type: this.#type, text }, answer)
    const scope = exclusiveScope(this.#type, vchannel)
    for (const each of model.openTransactions()) {
      if (scope !== '' && each.vchannel !== scope) continue
      each.state = 'ended'
      await expect(each.handle.commit()).rejects.toEqual(withCode(...notOpen))
    }
  }

  override toString = () => `exclusive(${this.#type}, ${this.#vchannel})`
}

/** Time passes: transactions with a short keepalive expire. */
export class Lapse extends Base {
  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    await model.session.sleep(LAPSE_MS)
    for (const each of model.openTransactions()) {
      if (each.keepaliveMs > LAPSE_MS) continue
      each.state = 'ended'
      await expect(each.handle.commit()).rejects.toEqual(withCode('TRANSACTION_EXPIRED'))
    }
  }

  override toString = () => 'lapse'
}

/** Of the wall clock; nothing expires by it. */
export class StepClock extends Base {
  readonly #hours: number
  constructor(hours: number) {
    super()
    this.#hours = hours
  }

  async act(model: WalModel): Promise<void> {
    model.session.disk.clock.stepWallClock(this.#hours * HOUR_MS)
  }

  override toString = () => `clock(${this.#hours} h)`
}

/** Everything that was acknowledged is below the watermark within an interval; what is under way is not, before it is. */
export class Confirm extends Base {
  override async act(model: WalModel): Promise<void> {
    const { wal } = model
    const { expected, message } = messageOf(model, { vchannel: 'a', type: 0, bytes: 20 })
    let answer: { lsn: number; timeTick: bigint } | undefined
    const appending = wal.append(message).then((appended) => {
      answer = appended
    })
    // The next one: a clock that has stepped back gives no greater milliseconds for as long as it did.
    const atLeast = wal.watermark() + 1n
    const tick = await wal.confirmed({ atLeast })
    demand(tick >= atLeast, () => `T ${tick} is below ${atLeast}`)
    // Durable by now, or behind the watermark.
    if (answer !== undefined) model.addMessage(expected, answer)
    if (tick > model.published) model.published = tick
    if (answer !== undefined) return
    await appending
    model.addMessage(expected, answer!)
  }

  override toString = () => 'confirm'
}

export class Truncate extends Base {
  readonly #share: number
  constructor(share: number) {
    super()
    this.#share = share
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const { wal } = model
    const asked = Math.floor((this.#share * (wal.nextLsn + 1)) / 1_000)
    const before = wal.firstLsn
    await wal.truncateBefore(asked)
    const { firstLsn } = wal
    demand(firstLsn >= before && firstLsn <= Math.max(before, asked), () => `truncated to ${firstLsn}, not ${asked}`)
    const oldest = Math.min(...model.openTransactions().map(({ handle }) => handle.id))
    demand(firstLsn <= Math.max(before, oldest), () => `an open transaction of ${oldest} is cut at ${firstLsn}`)
    model.firstLsn = firstLsn
    // Whoever asked still reads all from there.
    const cut = model.units.findLast((each) => model.isCut(each))?.lsn ?? -1
    const lsn = Math.max(asked, firstLsn, cut < before ? 0 : cut + 1)
    demand(cut < asked || before > 0, () => `LSN ${cut} is cut by a truncation to ${asked}`)
    mustBe(unitsOf(await collect(wal.scan({ from: { lsn } }))), expectedUnits(model.units, { lsn }, {}))
    if (firstLsn === 0) return
    const below = (async () => collect(wal.scan({ from: { lsn: firstLsn - 1 } })))()
    await expect(below).rejects.toEqual(expect.objectContaining({ code: 'POSITION_TRUNCATED' }))
    if (model.follower !== undefined && model.follower.nextLsn < firstLsn) await endFollower(model)
  }

  override toString = () => `truncate(${this.#share})`
}

export interface DrawnScan {
  from: number
  by: 'lsn' | 'after' | 'unit' | 'skip' | 'tick'
  vchannels: string[] | undefined
  types: number[] | undefined
  after: number | undefined
  fromTick: number | undefined
  /** Items after which it is begun again at the position that was reached. */
  resumeEach: number
}

export class Scan extends Base {
  readonly #drawn: DrawnScan
  constructor(drawn: DrawnScan) {
    super()
    this.#drawn = drawn
  }

  async act(model: WalModel): Promise<void> {
    const { wal, firstLsn, choices } = model
    const { by, vchannels, types, resumeEach } = this.#drawn
    const units = model.visible()
    const tickAt = (share: number) => pick(units, share)?.timeTick ?? 0n
    const filters: Filters = { vchannels, types }
    if (this.#drawn.after !== undefined) filters.afterTick = tickAt(this.#drawn.after)
    if (this.#drawn.fromTick !== undefined) filters.fromTick = tickAt(this.#drawn.fromTick)
    // A start between the log's and a commit whose begin is gone is refused.
    const cut = model.units.findLast((each) => each.lsn >= firstLsn && model.isCut(each))
    const lowest = cut === undefined ? firstLsn : cut.lsn + 1
    const lsn = lowest + Math.floor((this.#drawn.from * (wal.nextLsn - lowest + 1)) / 1_000)
    if (cut !== undefined && cut.lsn > firstLsn) {
      const refused = (async () => collect(wal.scan({ from: { lsn: cut.lsn } })))()
      await expect(refused).rejects.toMatchObject({ code: 'POSITION_TRUNCATED', lsnFrom: cut.lsn + 1 })
    }
    const unit = pick(
      units.filter((each) => each.lsn >= lowest),
      this.#drawn.from,
    )
    let from: Exclude<ScanFrom, string> = { lsn }
    let start: { lsn: number; skip?: number } | { timeTick: bigint } = { lsn }
    if (by === 'after' && lsn > lowest) from = { after: lsn - 1 }
    else if (by === 'unit' && unit !== undefined) start = from = { lsn: unit.lsn }
    else if (by === 'skip' && unit?.kind === 'txn') start = from = { lsn: unit.lsn, skip: 1 + (this.#drawn.from % 3) }
    else if (by === 'tick' && unit !== undefined) {
      // Where LSNs below were truncated away, what they were cannot be told from what is asked for.
      if (firstLsn === 0) start = from = { timeTick: unit.timeTick + BigInt(this.#drawn.from % 2) }
    }
    const found = []
    for (let at: ScanFrom = from; ; ) {
      let count = 0
      const scan = wal.scan({ ...filters, from: at, transactionBytes: choices.transactionBytes })
      for await (const item of scan) {
        if (item.kind === 'tick') continue
        found.push(...unitsOf([item]))
        at = item.position
        if (++count === resumeEach) break
      }
      if (count < resumeEach) break
    }
    mustBe(found, expectedUnits(units, start, filters))
  }

  override toString = () => `scan(${JSON.stringify(this.#drawn)})`
}

/** A scan that stays begins. */
export class Follow extends Base {
  readonly #share: number
  readonly #vchannels: string[] | undefined
  constructor(share: number, vchannels: string[] | undefined) {
    super()
    this.#share = share
    this.#vchannels = vchannels
  }

  async act(model: WalModel): Promise<void> {
    await endFollower(model)
    const { wal, firstLsn, choices } = model
    const cut = model.units.findLast((each) => each.lsn >= firstLsn && model.isCut(each))
    const lowest = cut === undefined ? firstLsn : cut.lsn + 1
    const lsn = lowest + Math.floor((this.#share * (wal.nextLsn - lowest + 1)) / 1_000)
    const { transactionBytes } = choices
    const scan = wal.scan({ from: { lsn }, vchannels: this.#vchannels, follow: true, ticks: true, transactionBytes })
    model.follower = { items: scan, vchannels: this.#vchannels, nextLsn: lsn }
  }

  override toString = () => `follow(${this.#share}, ${this.#vchannels})`
}

/** The scan that stays is given all that came since; no tick overtakes a message. */
export class CatchUp extends Base {
  async act(model: WalModel): Promise<void> {
    const { follower } = model
    if (follower === undefined) return
    const { items, vchannels } = follower
    const wanted = expectedUnits(model.units, { lsn: follower.nextLsn }, { vchannels })
    const found = []
    while (found.length < wanted.length) {
      const { value, done } = await items.next()
      demand(
        done !== true && value !== undefined,
        () => `a scan that follows has ended at ${wanted[found.length]?.lsn}`,
      )
      if (value!.kind === 'tick') {
        const { timeTick } = value as { timeTick: bigint }
        const next = wanted[found.length]!
        demand(timeTick < next.timeTick, () => `tick ${timeTick} overtakes LSN ${next.lsn} at ${next.timeTick}`)
      } else found.push(...unitsOf([value!]))
    }
    mustBe(found, wanted)
    const last = found.at(-1)
    if (last !== undefined) follower.nextLsn = last.lsn + 1
  }

  override toString = () => 'catchUp'
}

export async function endFollower(model: WalModel): Promise<void> {
  const { follower } = model
  model.follower = undefined
  await follower?.items.return?.()
}
