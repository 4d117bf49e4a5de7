import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLog } from '../../native-free-storage/index.ts'
import {
  MessageType,
  type OpenWalOptions,
  openWal as openInDirectory,
  type ScanItem,
  type Wal,
} from '../../src/wal/index.ts'

let directory: string

/** Without the probe of the device, which takes a second in a new directory. */
const way: OpenWalOptions = {
  writeMode: process.env.TIDELOG_TEST_WRITE_MODE === 'fdatasync' ? 'fdatasync' : 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
}
const openWal = (path: string, options: OpenWalOptions = {}) => openInDirectory(path, { ...way, ...options })

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-wal-'))
})

afterEach(() => rm(directory, { recursive: true, force: true }))

const text = (payload: Uint8Array) => Buffer.from(payload).toString()

async function items(wal: Wal): Promise<ScanItem[]> {
  const all: ScanItem[] = []
  for await (const item of wal.scan()) all.push(item)
  return all
}

test('a WAL in a directory: append, close, open, read', async () => {
  const first = await openWal(directory)
  const one = await first.append({ vchannel: 'orders', type: 2, properties: { k: 'v' }, payload: Buffer.from('one') })
  const batch = await first.append([{ vchannel: 'orders', payload: Buffer.from('two') }, { vchannel: 'other' }])
  await first.close()

  const second = await openWal(directory)
  const read = await items(second)
  expect(read.map((item) => item.kind)).toEqual(['message', 'message', 'message'])
  expect(read).toMatchObject([
    { lsn: one.lsn, timeTick: one.timeTick, vchannel: 'orders', type: 2, properties: { k: 'v' } },
    { lsn: batch.firstLsn, timeTick: batch.firstTimeTick, vchannel: 'orders', type: 0 },
    { lsn: batch.lastLsn, timeTick: batch.lastTimeTick, vchannel: 'other' },
  ])
  expect(read.flatMap((item) => (item.kind === 'message' ? [text(item.payload)] : []))).toEqual(['one', 'two', ''])
  expect((await second.append({ vchannel: 'orders' })).timeTick).toBeGreaterThan(batch.lastTimeTick)
  await second.close()
})

test('the directory is one process\u2019s, and what is not opened right leaves it free', async () => {
  const wal = await openWal(directory)
  await expect(openWal(directory)).rejects.toMatchObject({ code: 'LOCKED' })
  await wal.close()
  await expect(openWal(directory, { exclusiveWaitMs: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  await (await openWal(directory)).close()
})

test('a typed header goes in and comes out; the log beneath is the engine\u2019s own', async () => {
  const wal = await openWal(directory, { durability: 'os', segmentBytes: 1024 * 1024 })
  const header = { collection_id: 7, rows: 2n }
  await wal.append({ vchannel: 'orders', type: MessageType.delete, header, payload: Buffer.from('keys') })
  const [item] = await items(wal)
  expect(item).toMatchObject({ kind: 'message', type: MessageType.delete, properties: {} })
  expect(Number((item as { header: Record<string, unknown> }).header.collection_id)).toBe(7)
  await wal.close()
  const log = await openLog(directory, way)
  expect(log.durability).toBe('os')
  await log.close()
})

test('a scan that follows is pushed what comes, and ends with the WAL', async () => {
  const wal = await openWal(directory)
  await wal.append({ vchannel: 'a', payload: Buffer.from('old') })
  const scan = wal.scan({ follow: true, vchannels: ['a'] })
  expect((await scan.next()).value).toMatchObject({ kind: 'message', lsn: 0 })
  const pushed = scan.next()
  await wal.append([{ vchannel: 'b' }, { vchannel: 'a', payload: Buffer.from('new') }])
  expect((await pushed).value).toMatchObject({ kind: 'message', lsn: 2, vchannel: 'a' })
  const end = scan.next()
  await wal.close()
  expect((await end).done).toBe(true)
})
