/** What a user can do with a log, each as a command: done to the log on its disk and to a list in memory. */
import { expect } from 'vitest'
import { type Log, openLog, type RecordFrame } from '../../native-free-storage/index.ts'
import { demand, recordOf } from './log-ledger.ts'
import { logDirectory, logEnvironment, type Session } from './log-session.ts'

/** The list. Entry i has LSN i. */
export interface Model {
  readonly entries: { id: number; bytes: number; timeTick: bigint }[]
  firstLsn: number
  readonly survivesPowerLoss: boolean
  /** The last command appended: nothing proves its last flush yet. */
  justAppended: boolean
}

/** A reader that stays: what it was not given yet begins at `nextLsn`. */
interface Follower {
  readonly frames: AsyncIterator<RecordFrame>
  readonly vchannel: string | undefined
  nextLsn: number
}

/** The log. */
export interface Real {
  readonly session: Session
  readonly options: { segmentBytes: number; cacheBytes: number }
  follower: Follower | undefined
}

export interface Command {
  check(model: Readonly<Model>): boolean
  run(model: Model, real: Real): Promise<void>
  toString(): string
}

interface Given {
  lsn: number
  record: ReturnType<typeof recordOf>
}

function givenBy(frame: RecordFrame): Given[] {
  const given: Given[] = []
  for (const { lsn, vchannel, type, properties, payload } of frame) {
    given.push({ lsn, record: { vchannel, type, properties: { ...properties }, payload: Buffer.from(payload) } })
  }
  return given
}

/** What a reader from `lsn` has to be given. */
function wantedOf(model: Model, lsn: number, vchannel: string | undefined, type?: number): Given[] {
  const wanted: Given[] = []
  for (let at = lsn; at < model.entries.length; at++) {
    const { id, bytes } = model.entries[at]!
    const record = recordOf(id, bytes)
    if (vchannel !== undefined && record.vchannel !== '' && record.vchannel !== vchannel) continue
    if (type === undefined || record.type === type) wanted.push({ lsn: at, record })
  }
  return wanted
}

function mustEqual(given: readonly Given[], wanted: readonly Given[]): void {
  expect(given.map(({ lsn }) => lsn)).toEqual(wanted.map(({ lsn }) => lsn))
  for (const [index, { lsn, record }] of given.entries()) {
    const right = wanted[index]!.record
    const same =
      record.payload.equals(right.payload) &&
      record.vchannel === right.vchannel &&
      record.type === right.type &&
      JSON.stringify(record.properties) === JSON.stringify(right.properties)
    demand(same, () => `LSN ${lsn} is not as it was appended`)
  }
}

async function readAll(frames: AsyncIterable<RecordFrame>): Promise<Given[]> {
  const given: Given[] = []
  for await (const frame of frames) given.push(...givenBy(frame))
  return given
}

const isTruncated = expect.objectContaining({ code: 'POSITION_TRUNCATED' })

export class Append implements Command {
  readonly #sizes: readonly number[]
  readonly #batch: boolean
  constructor(sizes: readonly number[], batch: boolean) {
    this.#sizes = sizes
    this.#batch = batch
  }
  check = () => true
  async run(model: Model, { session }: Real): Promise<void> {
    const { ledger } = session
    const firstId = ledger.nextId
    if (this.#batch) await session.submit(...this.#sizes)
    else await Promise.all(this.#sizes.map((bytes) => session.submit(bytes)))
    for (const [index, bytes] of this.#sizes.entries()) {
      const { timeTick } = ledger.known.get(model.entries.length)!
      model.entries.push({ id: firstId + index, bytes, timeTick })
    }
    expect(session.log.nextLsn).toBe(model.entries.length)
    // A manifest that follows a roll in the background proves what was durable when it was made.
    model.justAppended = session.log.statistics().rolls === 0
  }
  toString = () => `${this.#batch ? 'batch' : 'singles'}(${this.#sizes})`
}

export class Read implements Command {
  readonly #from: number
  readonly #vchannel: string | undefined
  readonly #type: number | undefined
  constructor(from: number, vchannel: string | undefined, type: number | undefined) {
    this.#from = from
    this.#vchannel = vchannel
    this.#type = type
  }
  check = () => true
  async run(model: Model, { session }: Real): Promise<void> {
    const { entries, firstLsn } = model
    const lsn = firstLsn + Math.floor(this.#from * (entries.length - firstLsn + 1))
    const vchannels = this.#vchannel === undefined ? undefined : [this.#vchannel]
    const types = this.#type === undefined ? undefined : [this.#type]
    const given = await readAll(session.log.read({ from: { lsn }, vchannels, types }))
    mustEqual(given, wantedOf(model, lsn, this.#vchannel, this.#type))
  }
  toString = () => `read(${this.#from.toFixed(2)}, ${this.#vchannel}, ${this.#type})`
}

/**
 * The first record that is left has a stored tick right before it: what the log knows of what was truncated away is that
 * it had smaller ticks than that.
 */
function followsTruncatedTick({ entries, firstLsn }: Model, { ledger }: Session, lsn: number): boolean {
  if (lsn !== firstLsn || lsn === 0) return false
  const [before, behind] = [entries[lsn - 1]!.timeTick, entries[lsn]?.timeTick]
  return ledger.storedTicks.some(({ tick }) => tick > before && (behind === undefined || tick < behind))
}

/** From the tick of a record, or one beside it. */
export class ReadByTick implements Command {
  readonly #from: number
  readonly #beside: bigint
  readonly #vchannel: string | undefined
  constructor(from: number, beside: bigint, vchannel: string | undefined) {
    this.#from = from
    this.#beside = beside
    this.#vchannel = vchannel
  }
  check = (model: Readonly<Model>) => model.entries.length > 0
  async run(model: Model, { session }: Real): Promise<void> {
    const { entries, firstLsn } = model
    const timeTick = entries[Math.floor(this.#from * (entries.length - 1))]!.timeTick + this.#beside
    let lsn = entries.findIndex((entry) => entry.timeTick >= timeTick)
    if (lsn < 0) lsn = entries.length
    const vchannels = this.#vchannel === undefined ? undefined : [this.#vchannel]
    const reading = readAll(session.log.read({ from: { timeTick }, vchannels }))
    const gone = wantedOf({ ...model, entries: entries.slice(0, firstLsn) }, lsn, this.#vchannel)
    if (gone.length > 0) await expect(reading).rejects.toEqual(isTruncated)
    else if (lsn >= firstLsn && !followsTruncatedTick(model, session, lsn)) {
      mustEqual(await reading, wantedOf(model, lsn, this.#vchannel))
    } else {
      // What is gone was of other vchannels, or a tick: a reader may be refused, and misses nothing.
      const given = await reading.catch((error: unknown) => {
        expect(error).toEqual(isTruncated)
        return null
      })
      if (given !== null) mustEqual(given, wantedOf(model, Math.max(firstLsn, lsn), this.#vchannel))
    }
  }
  toString = () =>
    `readByTick(${this.#from.toFixed(2)}${this.#beside < 0n ? '' : '+'}${this.#beside}, ${this.#vchannel})`
}

/** A reader that stays begins. */
export class Follow implements Command {
  readonly #from: number
  readonly #vchannel: string | undefined
  constructor(from: number, vchannel: string | undefined) {
    this.#from = from
    this.#vchannel = vchannel
  }
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    await endFollower(real)
    const lsn = model.firstLsn + Math.floor(this.#from * (model.entries.length - model.firstLsn + 1))
    const vchannels = this.#vchannel === undefined ? undefined : [this.#vchannel]
    const frames = real.session.log.read({ from: { lsn }, vchannels, follow: true })[Symbol.asyncIterator]()
    real.follower = { frames, vchannel: this.#vchannel, nextLsn: lsn }
  }
  toString = () => `follow(${this.#from.toFixed(2)}, ${this.#vchannel})`
}

/** The reader that stays is given all that came since, and not more. */
export class CatchUp implements Command {
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    const { follower } = real
    if (follower === undefined) return
    const wanted = wantedOf(model, follower.nextLsn, follower.vchannel)
    const given: Given[] = []
    while (given.length < wanted.length) {
      const { value, done } = await follower.frames.next()
      demand(done !== true, () => `a reader that follows has ended before LSN ${wanted[given.length]!.lsn}`)
      given.push(...givenBy(value))
    }
    mustEqual(given, wanted)
    // It need not have passed what it was not asked for: a truncation may still overtake it there.
    const last = given.at(-1)
    if (last !== undefined) follower.nextLsn = last.lsn + 1
  }
  toString = () => 'catchUp'
}

/** Of a log that is still open: it ends when it is told to. */
export async function endFollower(real: Real): Promise<void> {
  const { follower } = real
  real.follower = undefined
  await follower?.frames.return?.()
}

export class Truncate implements Command {
  readonly #to: number
  constructor(to: number) {
    this.#to = to
  }
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    const { session, follower } = real
    const lsn = Math.floor(this.#to * (model.entries.length + 1))
    await session.ledger.truncate(session.log, lsn)
    model.firstLsn = Math.max(model.firstLsn, lsn)
    expect(session.log.firstLsn).toBe(model.firstLsn)
    // What is not below is there, in the files too.
    const left = await readAll(session.log.read({ from: { lsn: model.firstLsn } }))
    mustEqual(left, wantedOf(model, model.firstLsn, undefined))
    const { segments } = session.log.statistics()
    demand(model.entries.length === 0 || segments > 0, () => 'no segment is left')
    if (model.firstLsn === 0) return
    const below = readAll(session.log.read({ from: { lsn: model.firstLsn - 1 } }))
    await expect(below).rejects.toEqual(isTruncated)
    // It may hold some of what it was not given yet: how far, nobody promises.
    if (follower !== undefined && follower.nextLsn < model.firstLsn) await endFollower(real)
  }
  toString = () => `truncate(${this.#to.toFixed(2)})`
}

/** Stored ticks, and a record behind them: they take no LSN, and no reader of records sees them. */
export class StoreTicks implements Command {
  readonly #count: number
  constructor(count: number) {
    this.#count = count
  }
  check = () => true
  async run(model: Model, real: Real): Promise<void> {
    const { session } = real
    for (let i = 0; i < this.#count; i++) await session.ledger.submitTick(session.log)
    expect(session.log.nextLsn).toBe(model.entries.length)
    await new Append([40], true).run(model, real)
  }
  toString = () => `storeTicks(${this.#count})`
}

/** Segments that were compacted, of all runs. */
export const compactions = { segments: 0 }

/** Compacts what can be, while somebody reads. */
export class Compact implements Command {
  check = () => true
  async run(model: Model, { session }: Real): Promise<void> {
    const { log } = session
    const reading = readAll(log.read({ from: { lsn: model.firstLsn }, readAheadBytes: 64 * 1024 }))
    const { compacted } = await log.compact({ savedBytesMin: 1, savedShareMin: 0 })
    compactions.segments += compacted.length
    mustEqual(await reading, wantedOf(model, model.firstLsn, undefined))
    mustEqual(await readAll(log.read({ from: { lsn: model.firstLsn } })), wantedOf(model, model.firstLsn, undefined))
  }
  toString = () => 'compact'
}

/** Looks at an idle log at level `disk`, and how many saw all of it. */
export const looks = { idle: 0, whole: 0 }

/** Another process looks at the log while it is written: what it sees is a beginning, and nearly always all of it when it was idle. */
export class LookBeside implements Command {
  readonly #idle: boolean
  constructor(idle: boolean) {
    this.#idle = idle
  }
  check = () => true
  async run(model: Model, { session, options }: Real): Promise<void> {
    if (this.#idle) await session.sleep(200)
    const other = session.disk.nextProcess()
    const environment = logEnvironment(other, session.seed)
    const log: Log = await openLog(logDirectory, { environment, readOnly: true, cacheBytes: options.cacheBytes })
    const upTo = log.nextLsn
    const { length } = model.entries
    demand(upTo <= length, () => `it sees LSN ${upTo - 1}, which is not there`)
    demand(this.#idle || !model.justAppended || !model.survivesPowerLoss || upTo < length, () => {
      return `it sees LSN ${upTo - 1}, of which nothing proves that it is durable`
    })
    model.justAppended = false
    // A durable marker proves what is before it. A segment without room for one leaves its last flush unproven.
    if (this.#idle && model.survivesPowerLoss) {
      looks.idle++
      if (upTo === length) looks.whole++
    }
    const given = await readAll(log.read())
    mustEqual(given, wantedOf({ ...model, entries: model.entries.slice(0, upTo) }, model.firstLsn, undefined))
    await log.close()
    other.processCrash()
  }
  toString = () => `lookBeside(${this.#idle ? 'idle' : 'at once'})`
}

export class Reopen implements Command {
  readonly #how: 'close' | 'process dies' | 'power is lost'
  constructor(how: 'close' | 'process dies' | 'power is lost') {
    this.#how = how
  }
  check = (model: Readonly<Model>) => this.#how !== 'power is lost' || model.survivesPowerLoss
  async run(model: Model, real: Real): Promise<void> {
    const { session } = real
    if (this.#how === 'close') {
      await new CatchUp().run(model, real)
      const { follower } = real
      const last = follower?.frames.next()
      await session.log.close()
      if (last !== undefined) expect((await last).done).toBe(true)
    } else if (this.#how === 'process dies') session.dies()
    else {
      const before = session.disk
      session.disk = before.reboot(model.entries.length)
      before.powerLoss()
    }
    real.follower = undefined
    model.justAppended = false
    const log = await session.open(real.options)
    // Nothing was under way: all that was acknowledged, and nothing else, is there.
    const found = await session.ledger.check(log)
    expect(found.records.map(({ id }) => id)).toEqual(model.entries.slice(model.firstLsn).map(({ id }) => id))
    session.watermark()
  }
  toString = () => this.#how
}
