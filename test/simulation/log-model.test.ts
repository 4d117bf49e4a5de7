/** Random commands against a log on a simulated disk and against a list in memory: both must say the same. */
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { budget } from '../budget.ts'
import { newDisk } from './crash-runner.ts'
import { demand, recordOf } from './log-ledger.ts'
import { Session, ways } from './log-session.ts'

interface Entry {
  id: number
  bytes: number
}

interface Model {
  /** Entry i has LSN i. */
  entries: Entry[]
  firstLsn: number
}

type LogCommand = fc.AsyncCommand<Model, Session>

beforeAll(async () => {
  await loadChecksum()
})

class Append implements LogCommand {
  readonly #sizes: readonly number[]
  readonly #batch: boolean
  constructor(sizes: readonly number[], batch: boolean) {
    this.#sizes = sizes
    this.#batch = batch
  }
  check = () => true
  async run(model: Model, session: Session): Promise<void> {
    const firstId = session.ledger.nextId
    if (this.#batch) await session.submit(...this.#sizes)
    else await Promise.all(this.#sizes.map((bytes) => session.submit(bytes)))
    for (const [index, bytes] of this.#sizes.entries()) model.entries.push({ id: firstId + index, bytes })
    expect(session.log.nextLsn).toBe(model.entries.length)
  }
  toString = () => `${this.#batch ? 'batch' : 'singles'}(${this.#sizes})`
}

class Read implements LogCommand {
  readonly #from: number
  readonly #vchannel: number | undefined
  readonly #typed: boolean
  constructor(from: number, vchannel: number | undefined, typed: boolean) {
    this.#from = from
    this.#vchannel = vchannel
    this.#typed = typed
  }
  check = () => true
  async run(model: Model, session: Session): Promise<void> {
    const { entries, firstLsn } = model
    const lsn = firstLsn + Math.floor(this.#from * (entries.length - firstLsn + 1))
    const vchannels = this.#vchannel === undefined ? undefined : [`v${this.#vchannel}`]
    const expected = entries
      .map((entry, index) => ({ lsn: index, record: recordOf(entry.id, entry.bytes) }))
      .slice(lsn)
      .filter(({ record }) => vchannels === undefined || record.vchannel === '' || vchannels.includes(record.vchannel))
      .filter(({ record }) => !this.#typed || record.type === 0)
    const types = this.#typed ? [0] : undefined
    const found: { lsn: number; record: ReturnType<typeof recordOf> }[] = []
    for await (const frame of session.log.read({ from: { lsn }, vchannels, types })) {
      for (const { lsn: at, vchannel, type, properties, payload } of frame) {
        const record = { vchannel, type, properties: { ...properties }, payload: Buffer.from(payload) }
        found.push({ lsn: at, record })
      }
    }
    expect(found.map(({ lsn: at }) => at)).toEqual(expected.map(({ lsn: at }) => at))
    for (const [index, { record }] of found.entries()) {
      const right = expected[index]!.record
      demand(record.payload.equals(right.payload), () => `the payload of LSN ${found[index]!.lsn} differs`)
      expect({ ...record, payload: null }).toEqual({ ...right, payload: null })
    }
  }
  toString = () => `read(${this.#from.toFixed(2)}, ${this.#vchannel}, ${this.#typed})`
}

class Truncate implements LogCommand {
  readonly #to: number
  constructor(to: number) {
    this.#to = to
  }
  check = () => true
  async run(model: Model, session: Session): Promise<void> {
    const lsn = Math.floor(this.#to * (model.entries.length + 1))
    await session.ledger.truncate(session.log, lsn)
    model.firstLsn = Math.max(model.firstLsn, lsn)
    expect(session.log.firstLsn).toBe(model.firstLsn)
    if (model.firstLsn === 0) return
    const below = (async () => {
      for await (const _ of session.log.read({ from: { lsn: model.firstLsn - 1 } })) break
    })()
    await expect(below).rejects.toMatchObject({ code: 'POSITION_TRUNCATED' })
  }
  toString = () => `truncate(${this.#to.toFixed(2)})`
}

class Reopen implements LogCommand {
  readonly #how: 'close' | 'process dies' | 'power is lost'
  constructor(how: 'close' | 'process dies' | 'power is lost') {
    this.#how = how
  }
  check = () => true
  async run(model: Model, session: Session): Promise<void> {
    if (this.#how === 'close') await session.log.close()
    else if (this.#how === 'process dies') session.dies()
    else {
      const before = session.disk
      session.disk = before.reboot(model.entries.length)
      before.powerLoss()
    }
    const log = await session.open()
    // Nothing was under way: all that was acknowledged, and nothing else, is there.
    const found = await session.ledger.check(log)
    expect(found.records.map(({ id }) => id)).toEqual(model.entries.slice(model.firstLsn).map(({ id }) => id))
    session.watermark()
  }
  toString = () => this.#how
}

const sizes = fc.array(fc.oneof(fc.integer({ min: 8, max: 300 }), fc.integer({ min: 8, max: 30_000 })), {
  minLength: 1,
  maxLength: 6,
})
const part = fc.double({ min: 0, max: 1, noNaN: true })
const commands = [
  fc.tuple(sizes, fc.boolean()).map(([list, batch]) => new Append(list, batch)),
  fc.tuple(sizes, fc.boolean()).map(([list, batch]) => new Append(list, batch)),
  fc
    .tuple(part, fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }), fc.boolean())
    .map(([from, vchannel, typed]) => new Read(from, vchannel, typed)),
  part.map((to) => new Truncate(to)),
  fc.constantFrom('close', 'process dies', 'power is lost').map((how) => new Reopen(how)),
]

it('a log is a list that can be truncated, whatever happens to its process', async () => {
  const wayOf = fc.constantFrom(...ways.filter(({ durability }) => durability === 'disk'))
  const property = fc.asyncProperty(wayOf, fc.commands(commands, { maxCommands: 14 }), async (way, list) => {
    const disk = newDisk({ names: 'strict', seed: 1 })
    const session = new Session(disk, way, 1)
    await session.open()
    try {
      await fc.asyncModelRun(() => ({ model: { entries: [], firstLsn: 0 }, real: session }), list)
    } finally {
      session.disk.powerLoss()
    }
  })
  const seed = process.env.TIDELOG_SEED
  await fc.assert(property, {
    numRuns: budget({ small: 40, ci: 1_000, soak: 100_000 }),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
  })
})
