/** The forms that users have in their programs, written as one of them would, against the entry of the package. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type OpenWalOptions, openWal } from '../../src/wal/index.ts'

let directory: string

const way: OpenWalOptions = {
  writeMode: process.env.TIDELOG_TEST_WRITE_MODE === 'fdatasync' ? 'fdatasync' : 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-forms-'))
})

afterEach(() => rm(directory, { recursive: true, force: true }))

const text = (payload: Uint8Array) => Buffer.from(payload).toString()
const vchannel = 'orders'

test('openWal with interceptors, append with options, scan, close', async () => {
  const seen: string[] = []
  const wal = await openWal(directory, {
    ...way,
    interceptors: [
      {
        name: 'audit',
        beforeAppend(message, context) {
          seen.push(`before ${text(message.payload ?? Buffer.alloc(0))} of ${context.batchSize}`)
        },
        afterAppend(message, result) {
          seen.push(`after ${text(message.payload ?? Buffer.alloc(0))} at ${result.lsn}`)
        },
      },
    ],
  })
  const first = await wal.append({ vchannel, type: 40_000, properties: { a: 'b' }, payload: Buffer.from('one') })
  const barrierTick = first.timeTick + 1_000n
  const second = await wal.append(
    { vchannel, payload: Buffer.from('two') },
    { barrierTick, idempotencyKey: 'k', firstTriedAt: first.timeTick },
  )
  expect(second.timeTick).toBeGreaterThanOrEqual(barrierTick)
  expect(second.duplicate).toBe(false)
  expect(await wal.append({ vchannel, payload: Buffer.from('two') }, { idempotencyKey: 'k' })).toEqual({
    ...second,
    duplicate: true,
  })
  expect(seen).toEqual([
    'before one of 1',
    `after one at ${first.lsn}`,
    'before two of 1',
    `after two at ${second.lsn}`,
    'before two of 1',
  ])

  const controller = new AbortController()
  const kinds: string[] = []
  const from = 'earliest'
  for await (const message of wal.scan({
    from,
    vchannels: [vchannel],
    types: [0, 40_000],
    afterTick: first.timeTick - 1n,
    ticks: true,
    follow: true,
    signal: controller.signal,
  })) {
    if (message.kind === 'tick') {
      // Everything at or below it has been given.
      expect(kinds.length).toBe(message.timeTick >= second.timeTick ? 2 : message.timeTick >= first.timeTick ? 1 : 0)
      if (message.timeTick >= second.timeTick) break
      continue
    }
    kinds.push(message.kind)
    if (message.kind === 'message') expect(message.vchannel).toBe(vchannel)
  }
  expect(kinds).toEqual(['message', 'message'])
  await wal.close()
})

test('a transaction: begin, append, commit, rollback', async () => {
  const wal = await openWal(directory, way)
  const before = await wal.append({ vchannel, payload: Buffer.from('before') })
  const txn = await wal.begin(vchannel, { keepaliveMs: 5_000 })
  await txn.append({ payload: Buffer.from('1') })
  await txn.append({ payload: Buffer.from('2') })
  const inTheMiddle = await wal.append({ vchannel, payload: Buffer.from('between') })
  const { lsn, timeTick } = await txn.commit()
  const other = await wal.begin(vchannel)
  await other.append({ payload: Buffer.from('never') })
  await other.rollback()
  const units: unknown[] = []
  for await (const item of wal.scan({ from: { lsn: before.lsn } })) {
    if (item.kind === 'message') units.push([item.lsn, text(item.payload)])
    if (item.kind === 'txn') units.push([item.lsn, item.timeTick, item.messages.map(({ payload }) => text(payload))])
  }
  expect(units).toEqual([
    [before.lsn, 'before'],
    [inTheMiddle.lsn, 'between'],
    [lsn, timeTick, ['1', '2']],
  ])
  expect(wal.transactions()).toEqual([])
  await wal.close()
})

test('a producer by its id: epoch, sequences, exactly once, also after a restart', async () => {
  const first = await openWal(directory, way)
  const producer = await first.producer(vchannel, { id: 'loader-7' })
  expect([producer.epoch, producer.lastSequence]).toEqual([1, 0])
  const one = await producer.append({ payload: Buffer.from('1') })
  expect(one).toMatchObject({ sequence: 1, duplicate: false })
  await producer.append({ payload: Buffer.from('2') }, { sequence: 2 })
  expect(await producer.append({ payload: Buffer.from('1') }, { sequence: 1 })).toEqual({ ...one, duplicate: true })
  await first.close()

  const second = await openWal(directory, way)
  const resumed = await second.producer(vchannel, { id: 'loader-7' })
  expect([resumed.epoch, resumed.lastSequence]).toEqual([2, 2])
  expect(await resumed.append({ payload: Buffer.from('3') })).toMatchObject({ sequence: 3 })
  const read: string[] = []
  for await (const item of second.scan()) if (item.kind === 'message') read.push(text(item.payload))
  expect(read).toEqual(['1', '2', '3'])
  expect(second.producers()).toMatchObject([{ id: 'loader-7', vchannel, epoch: 2, lastSequence: 3 }])
  await second.close()
})

test('the watermark on demand', async () => {
  await using wal = await openWal(directory, way)
  const { timeTick } = await wal.append({ vchannel })
  const tick = await wal.confirmed({ atLeast: timeTick, signal: AbortSignal.timeout(10_000) })
  expect(tick).toBeGreaterThanOrEqual(timeTick)
})
