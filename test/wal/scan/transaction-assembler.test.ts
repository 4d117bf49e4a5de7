import { describe, expect, it } from 'vitest'
import type { LogStore, LogStoreReadOptions, StoreFrame } from '../../../src/log-store/log-store.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import { budget } from '../../budget.ts'
import { LogScript, type Row } from './log-script.ts'
import { collect, unitsOf } from './scanned-units.ts'

const MIB = 1024 * 1024

function bodies(transaction: number, count: number, bytes = 0): Row[] {
  return Array.from({ length: count }, () => ({ vchannel: 'a', transaction, bytes }))
}

describe('memory', () => {
  const records = budget({ small: 5_000, ci: 100_000 })
  it(`a transaction of ${records} records is given as one unit, within a bound of memory`, async () => {
    const script = await LogScript.inMemory()
    const [id] = await script.begin(['a'])
    for (let n = 0; n < 10; n++) {
      await script.rows(bodies(id!, records / 10))
      await script.rows([{ vchannel: 'a' }])
    }
    await script.end([{ begin: id!, commit: true }])
    for (const [transactionBytes, again] of [
      [16 * MIB, 0],
      [8 * records, 19],
    ] as const) {
      const scanner = createScanner(script.store, { transactionBytes })
      expect(unitsOf(await collect(scanner))).toEqual(script.units)
      const { heldBytes, heldBytesMax, framesReadAgain } = scanner.statistics()
      expect(heldBytes).toBe(0)
      expect(heldBytesMax).toBeGreaterThan(0)
      expect(heldBytesMax).toBeLessThanOrEqual(transactionBytes)
      expect(framesReadAgain).toBe(again)
    }
  })

  const open = budget({ small: 1_000, ci: 10_000 })
  it(`${open} transactions that are open at once are given one by one, within a bound of memory, from any start`, async () => {
    const script = await LogScript.inMemory()
    const ids: number[] = []
    for (let n = 0; n < open; n += 1_000) ids.push(...(await script.begin(Array.from({ length: 1_000 }, () => 'a'))))
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < open; n += 50) await script.rows(ids.slice(n, n + 50).flatMap((id) => bodies(id, 1, 40)))
    }
    const middle = script.store.nextLsn - open
    for (let n = 0; n < open; n += 1_000) {
      await script.end(ids.slice(n, n + 1_000).map((begin) => ({ begin, commit: begin % 100 !== 0 })))
    }
    const bound = 256 * 1024
    const scanner = createScanner(script.store, { transactionBytes: bound, types: [0] })
    expect(unitsOf(await collect(scanner))).toEqual(script.units)
    expect(scanner.statistics().heldBytesMax).toBeLessThanOrEqual(bound)
    // The first half of the bodies lies before the start: it is looked back at once, not once for each commit. Then each
    // of the two bodies is read to be checked, and to be given, since so little of its frame is worth no memory.
    const late = createScanner(script.store, { from: { lsn: middle }, transactionBytes: bound })
    expect(unitsOf(await collect(late))).toEqual(script.units)
    expect(late.statistics().heldBytesMax).toBeLessThanOrEqual(bound)
    expect(late.statistics().framesReadAgain).toBeLessThan(4.1 * open)
  })

  it('the largest transaction loses its frames first', async () => {
    const script = await LogScript.inMemory()
    const [large, little] = await script.begin(['a', 'a'])
    await script.rows(bodies(little!, 1, 100))
    for (let n = 0; n < 20; n++) await script.rows(bodies(large!, 1, 1_000))
    await script.end([{ begin: little!, commit: true }])
    const before = createScanner(script.store, { transactionBytes: 10_000 })
    expect(unitsOf(await collect(before))).toEqual(script.units)
    expect(before.statistics().framesReadAgain).toBe(0)
    await script.end([{ begin: large!, commit: true }])
    const after = createScanner(script.store, { transactionBytes: 10_000 })
    expect(unitsOf(await collect(after))).toEqual(script.units)
    expect(after.statistics().framesReadAgain).toBe(20)
  })

  it('a few small bodies in a large frame do not keep the frame', async () => {
    const script = await LogScript.inMemory()
    const [id] = await script.begin(['a'])
    await script.rows([...bodies(id!, 2, 10), ...Array.from({ length: 100 }, () => ({ vchannel: 'a', bytes: 1_000 }))])
    await script.end([{ begin: id!, commit: true }])
    const scanner = createScanner(script.store)
    const items = await collect(scanner)
    expect(unitsOf(items)).toEqual(script.units)
    expect(scanner.statistics()).toMatchObject({ heldBytesMax: 0, framesReadAgain: 1 })
    const unit = items.at(-1)!
    if (unit.kind !== 'txn') throw new Error('the last item is no transaction')
    for (const { payload } of unit.messages) expect(payload.buffer.byteLength).toBe(payload.length)
  })

  it('one that is larger than a scan takes into memory ends it with its LSNs', async () => {
    const script = await LogScript.inMemory()
    const [id] = await script.begin(['a'])
    await script.rows(bodies(id!, 10, 1_000))
    const { firstLsn } = await script.end([{ begin: id!, commit: true }])
    const scanner = createScanner(script.store, {}, { transactionBytesMax: 5_000 })
    await expect(collect(scanner)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED', lsn: firstLsn, lsnFrom: id })
  })
})

describe('what does not fit', () => {
  const twoBodies = async () => {
    const script = await LogScript.inMemory()
    await script.rows([{ vchannel: 'a' }])
    const [id] = await script.begin(['a'])
    await script.rows(bodies(id!, 2))
    return { script, id: id! }
  }

  it.each([
    ['more bodies than there are', { bodies: 1 }],
    ['fewer bodies than there are', { bodies: -1 }],
    ['other bodies', { hash: 1n }],
  ])(
    'a commit that names %s ends the scan, wherever it starts, and nothing of the transaction is given',
    async (_what, wrong) => {
      const { script, id } = await twoBodies()
      const { firstLsn } = await script.end([{ begin: id, commit: true }], wrong)
      for (const from of [{ lsn: 0 }, { lsn: id }, { lsn: id + 2 }, { lsn: firstLsn }]) {
        for (const transactionBytes of [0, MIB]) {
          const given: string[] = []
          const scan = createScanner(script.store, { from, transactionBytes })
          const run = async () => {
            for await (const { kind } of scan) given.push(kind)
          }
          await expect(run()).rejects.toMatchObject({ code: 'TICK_ORDER', lsn: firstLsn, lsnFrom: id })
          expect(given).toEqual(from.lsn === 0 ? ['message'] : [])
          expect(await scan.next()).toEqual({ done: true, value: undefined })
        }
      }
    },
  )

  it('a commit that names a record that is no begin ends the scan', async () => {
    const { script } = await twoBodies()
    await script.end([{ begin: 0, commit: true }])
    await expect(collect(createScanner(script.store))).rejects.toMatchObject({ code: 'TICK_ORDER', lsnFrom: 0 })
  })

  it('a commit that shares its frame with a record of another kind ends the scan', async () => {
    const { script, id } = await twoBodies()
    const commit = async (): Promise<Parameters<LogStore['appendRecords']>[0][number]> => {
      const copy = await LogScript.inMemory()
      await copy.begin(['a'])
      await copy.end([{ begin: 0, commit: true }])
      for await (const frame of copy.store.read({ from: { lsn: 1 } })) for (const record of frame) return record
      throw new Error('there is no commit')
    }
    await script.store.appendRecords([await commit(), { vchannel: 'a' }], { ownFrame: true })
    await expect(collect(createScanner(script.store, { from: { lsn: id } }))).rejects.toMatchObject({
      code: 'TICK_ORDER',
    })
  })

  it('a commit without a header that a node has written is FRAME_INVALID', async () => {
    const { script } = await twoBodies()
    await script.store.appendRecords([{ vchannel: 'a', type: MessageType.commitTxn, properties: { _h: 'AAAA' } }])
    await expect(collect(createScanner(script.store))).rejects.toMatchObject({ code: 'FRAME_INVALID', lsn: 4 })
  })

  it('a transaction whose begin was truncated away is told with the LSNs, and not given in part', async () => {
    for (const from of [2, 3]) {
      const { script, id } = await twoBodies()
      const { firstLsn } = await script.end([{ begin: id, commit: true }])
      await script.store.truncateBefore(from)
      const scan = createScanner(script.store, { from: { lsn: from } })
      // Behind the commit everything can be read.
      const lsnFrom = firstLsn + 1
      await expect(collect(scan)).rejects.toMatchObject({ code: 'POSITION_TRUNCATED', lsn: id, lsnFrom })
      // Who asks for what is left does not miss it.
      for (const fromTick of [undefined, script.ticks[from]!]) {
        const earliest = createScanner(script.store, { fromTick })
        expect(await collect(earliest)).toEqual([])
        expect(earliest.statistics().open).toBe(0)
      }
      expect(await collect(createScanner(script.store, { from: { after: firstLsn } }))).toEqual([])
    }
  })

  it('a transaction without records whose begin was truncated away is missed by nobody', async () => {
    const script = await LogScript.inMemory()
    const [id] = await script.begin(['a'])
    await script.rows([{ vchannel: 'a' }])
    await script.end([{ begin: id!, commit: true }])
    await script.store.truncateBefore(1)
    const units = await collect(createScanner(script.store, { from: { lsn: 1 } }))
    expect(units).toHaveLength(1)
  })

  it('a transaction that lost bodies with a gap is told as damage', async () => {
    const { script, id } = await twoBodies()
    const { firstLsn } = await script.end([{ begin: id, commit: true }])
    const lossy = withoutFrame(script.store, id + 1, 2)
    const gaps: unknown[] = []
    const scan = createScanner(lossy, { onGap: (gap) => gaps.push(gap) })
    await expect(collect(scan)).rejects.toMatchObject({
      code: 'FRAME_DAMAGED',
      lsn: firstLsn,
      lsnFrom: id + 1,
      lsnTo: id + 2,
    })
    expect(gaps).toEqual([{ firstLsn: id + 1, count: 2, reason: 'lost' }])
  })

  it('frames whose LSNs or ticks go back end the scan', async () => {
    const { script } = await twoBodies()
    const backwards = readingAs(script.store, async function* (options) {
      const frames: StoreFrame[] = []
      for await (const frame of script.store.read(options)) frames.push(frame)
      yield* [frames[0]!, frames[1]!, frames[0]!]
    })
    await expect(collect(createScanner(backwards))).rejects.toMatchObject({ code: 'TICK_ORDER', lsn: 0 })
  })
})

/** The frame with these LSNs is lost. */
function withoutFrame(store: LogStore, firstLsn: number, count: number): LogStore {
  const gap = { firstLsn, count, reason: 'lost' as const }
  const lost = {
    kind: 'gap',
    gap,
    head: null,
    baseLsn: firstLsn,
    lastLsn: firstLsn + count - 1,
    baseTimeTick: 0n,
    lastTimeTick: 0n,
    recordCount: 0,
    nodeSection: new Uint8Array(0),
  } as unknown as StoreFrame
  return readingAs(store, async function* (options) {
    for await (const frame of store.read(options)) yield frame.baseLsn === firstLsn ? lost : frame
  })
}

/** The store, read in another way. */
function readingAs(store: LogStore, read: (options: LogStoreReadOptions) => AsyncIterable<StoreFrame>): LogStore {
  const { firstLsn, nextLsn } = store
  return { firstLsn, nextLsn, read } as LogStore
}
