/** How a consumer is given transactions: whole, where their commit stands, as parts (PROTOCOL 6). */
import { afterEach, describe, expect, it } from 'vitest'
import { decodeContext, loadChecksum, openBodyHead } from '../../../native-free-storage/index.ts'
import { decodeFrame, encodeCredit } from '../../../src/protocol/consume-messages.ts'
import { type ConsumeRequest, encodeConsume } from '../../../src/protocol/control-messages.ts'
import { encodeMessage, type Message, MessageType } from '../../../src/protocol/message.ts'
import { ByteBudget } from '../../../src/streaming-node/connection/byte-budget.ts'
import type { ConnectionOptions } from '../../../src/streaming-node/connection/options.ts'
import { LogScript } from '../../wal/scan/log-script.ts'
import { MemoryNode, type Served, serve } from './memory-node.ts'
import { RawClient } from './raw-client.ts'

const open: { close(): unknown }[] = []
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close()
})

async function start(
  options: Partial<ConnectionOptions> = {},
): Promise<{ node: MemoryNode; script: LogScript; served: Served }> {
  await loadChecksum()
  const node = await MemoryNode.open(1)
  await node.resolve('a', true)
  await node.resolve('b', true)
  const served = await serve(node, options)
  open.push(served)
  return { node, script: LogScript.on(node.logs[0]!), served }
}

/** A visible record: its LSN, the transaction it came with, and the commit that made it visible. */
interface Seen {
  lsn: number
  transaction: number | null
  commitLsn: number
  timeTick: bigint
}

/** As a client reads them: rows of transactions are left out where they stand alone, types of the log itself always. */
function rowsOf({ meta, body }: Message, types: ReadonlySet<number> | null = null): Seen[] {
  const wire = decodeFrame(meta, body.length)
  if (wire.gap !== null) return []
  const head = openBodyHead(body.subarray(0, wire.headLength), wire.bodyLength, wire.recordCount, wire.bodyHash)
  const seen: Seen[] = []
  for (let row = 0; row < head.recordCount; row++) {
    const context = head.contextIndex(row) < 0 ? undefined : decodeContext(head.context(head.contextIndex(row)))
    const transaction = context?.transaction === undefined ? null : Number(context.transaction)
    const type = head.type(row)
    if ((type >= 900 && type <= 902) || (types !== null && !types.has(type))) continue
    if (transaction !== (wire.part?.transaction ?? null)) continue
    const lsn = wire.baseLsn + row
    const timeTick = wire.part?.commitTick ?? wire.baseTimeTick + BigInt(row)
    seen.push({ lsn, transaction, commitLsn: wire.part?.commitLsn ?? lsn, timeTick })
  }
  return seen
}

const consume = (id: number, more: Partial<ConsumeRequest> = {}) =>
  encodeMessage(
    MessageType.consume,
    id,
    encodeConsume({
      ...{ group: 0, vchannels: ['a', 'b'], from: 'earliest', until: 'end', bytes: 1e12, frames: 1e9 },
      ...more,
    }),
  )

async function readAll(served: Served, more: Partial<ConsumeRequest> = {}): Promise<Message[]> {
  const client = await RawClient.greeted(served.port)
  client.socket.write(consume(1, more))
  await client.next(MessageType.consumeEnd)
  client.close()
  return client.messages.filter(({ type }) => type === MessageType.frame)
}

const seenIn = (frames: readonly Message[]) => frames.flatMap((frame) => rowsOf(frame))

/** What the script says that a reader gets. */
const expected = (script: LogScript, from = 0) =>
  script.units
    .filter(({ lsn }) => lsn >= from)
    .flatMap((unit): Seen[] =>
      unit.kind === 'message'
        ? [{ lsn: unit.lsn, transaction: null, commitLsn: unit.lsn, timeTick: unit.timeTick }]
        : unit.messages.map(({ lsn }) => ({
            ...{ lsn, transaction: unit.transaction, commitLsn: unit.lsn, timeTick: unit.timeTick },
          })),
    )

/** Three transactions between plain records: one committed, one rolled back, one committed over many frames. */
async function writeAll(script: LogScript): Promise<number[]> {
  const [one, two, three] = await script.begin(['a', 'a', 'b'])
  await script.rows([{ vchannel: 'a' }, { vchannel: 'b' }])
  for (let index = 0; index < 5; index++) {
    await script.rows([{ vchannel: 'b', transaction: three! }])
    await script.rows([{ vchannel: 'a', transaction: one! }])
    await script.rows([{ vchannel: 'a', transaction: two! }])
    await script.rows([{ vchannel: 'b' }])
  }
  await script.end([
    { begin: one!, commit: true },
    { begin: two!, commit: false },
  ])
  await script.rows([{ vchannel: 'a' }])
  await script.end([{ begin: three!, commit: true }])
  await script.rows([{ vchannel: 'b' }])
  return [one!, two!, three!]
}

describe('transactions', () => {
  it.each([
    ['kept in memory', 64 * 1024 * 1024],
    ['read again', 0],
  ])('come whole where their commit stands, %s, and nothing of one that was rolled back', async (_, bytes) => {
    const { script, served } = await start({ transactionBudget: new ByteBudget(bytes) })
    const [one, , three] = await writeAll(script)
    const frames = await readAll(served)
    expect(seenIn(frames)).toEqual(expected(script))
    const parts = frames.map(({ meta, body }) => decodeFrame(meta, body.length).part).filter((part) => part !== null)
    expect(parts.map(({ transaction, last }) => [transaction, last])).toEqual([
      ...Array.from({ length: 5 }, (_, index) => [one, index === 4]),
      ...Array.from({ length: 5 }, (_, index) => [three, index === 4]),
    ])
  })

  it('are right from every position on, those in the middle of open ones among them', async () => {
    const { node, script, served } = await start()
    await writeAll(script)
    for (let lsn = 0; lsn <= node.nextLsn(0); lsn++) {
      const from = (await readAll(served, { from: { lsn } })).flatMap((frame) => rowsOf(frame))
      expect(from.filter(({ commitLsn }) => commitLsn >= lsn)).toEqual(expected(script, lsn))
    }
  })

  it('are judged by the tick and the LSN of their commit', async () => {
    const { script, served } = await start()
    await writeAll(script)
    const first = script.units.find(({ kind }) => kind === 'txn')!
    const behind = seenIn(await readAll(served, { from: { timeTick: first.timeTick } }))
    expect(behind.filter(({ timeTick }) => timeTick >= first.timeTick)).toEqual(expected(script, first.lsn))
    const before = seenIn(await readAll(served, { until: first.lsn }))
    expect(before.every(({ transaction }) => transaction === null)).toBe(true)
    const upTo = seenIn(await readAll(served, { until: first.lsn + 1 }))
    expect(upTo.filter(({ transaction }) => transaction !== null)).toHaveLength(5)
  })

  it('have one last part, whatever types were asked for', async () => {
    const { script, served } = await start()
    const [id] = await script.begin(['a'])
    await script.rows([{ vchannel: 'a', transaction: id!, type: 2 }])
    await script.rows([{ vchannel: 'a', transaction: id!, type: 3 }])
    await script.rows([{ vchannel: 'a', transaction: id!, type: 2 }])
    await script.rows([{ vchannel: 'a', transaction: id!, type: 3 }])
    await script.end([{ begin: id!, commit: true }])
    const frames = await readAll(served, { types: [2] })
    const parts = frames.map(({ meta, body }) => decodeFrame(meta, body.length).part)
    expect(parts.map((part) => part?.last)).toEqual([false, true])
    expect(await readAll(served, { types: [40_000] })).toEqual([])
  })

  it('have the section of their vchannel alone: a record of it on another one counts for nothing', async () => {
    const { script, served } = await start()
    const [id] = await script.begin(['a'])
    await script.rows([{ vchannel: 'b', transaction: id! }, { vchannel: 'a', transaction: id! }, { vchannel: 'b' }])
    await script.rows([{ vchannel: 'b', transaction: id! }])
    await script.end([{ begin: id!, commit: true }])
    for (let lsn = 0; lsn <= 4; lsn++) {
      const frames = (await readAll(served, { from: { lsn } })).map(({ meta, body }) => decodeFrame(meta, body.length))
      const parts = frames.filter(({ kind }) => kind === 'part')
      expect(parts.map(({ baseLsn, sections, part }) => [baseLsn, sections.length, part!.last])).toEqual([[1, 1, true]])
    }
  })

  it('stop for want of credit between two parts, and go on', async () => {
    const { script, served } = await start()
    const [id] = await script.begin(['a'])
    for (let index = 0; index < 4; index++) await script.rows([{ vchannel: 'a', transaction: id! }])
    await script.end([{ begin: id!, commit: true }])
    const client = await RawClient.greeted(served.port)
    open.push(client)
    client.socket.write(consume(1, { frames: 3, until: undefined }))
    const first = [1, 2, 3].map(() => client.next(MessageType.frame))
    expect((await Promise.all(first)).map(({ meta, body }) => decodeFrame(meta, body.length).part!.last)).toEqual([
      false,
      false,
      false,
    ])
    // While a part is owed nothing says that the end was reached.
    client.socket.write(encodeMessage(MessageType.ping, 0, Buffer.alloc(8)))
    await client.next(MessageType.pong)
    expect(client.messages.filter(({ type }) => type === MessageType.caughtUp)).toEqual([])
    client.socket.write(encodeCredit(1, { bytes: 0, frames: 5 }))
    const last = await client.next(MessageType.frame)
    expect(decodeFrame(last.meta, last.body.length).part!.last).toBe(true)
    await client.next(MessageType.caughtUp)
  })

  it('end at an exclusive message of their vchannel, and the message itself is delivered', async () => {
    const { script, served } = await start()
    const [one, two] = await script.begin(['a', 'b'])
    await script.rows([{ vchannel: 'a', transaction: one! }])
    await script.rows([{ vchannel: 'b', transaction: two! }])
    await script.exclusive(9, 'a')
    await script.end([
      { begin: one!, commit: true },
      { begin: two!, commit: true },
    ])
    expect(seenIn(await readAll(served))).toEqual(expected(script))
    expect(script.units.map(({ kind }) => kind)).toEqual(['message', 'txn'])
  })
})
