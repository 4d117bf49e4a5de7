import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type OpenWalOptions, openWal, type ScanItem, type ScannedTransaction, type Wal } from '../../src/wal/index.ts'
import { budget } from '../budget.ts'
import { Random } from '../simulation/random.ts'

const seed = process.env.TIDELOG_SEED ?? '20260101'
const child = join(import.meta.dirname, 'wal-child.mjs')
const entry = join(import.meta.dirname, '..', '..', 'dist', 'src', 'wal', 'index.js')

const options: OpenWalOptions = {
  writeMode: process.env.TIDELOG_TEST_WRITE_MODE === 'fdatasync' ? 'fdatasync' : 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
  segmentBytes: 64 * 1024,
  // A few in each life.
  snapshotIntervalBytes: 16 * 1024,
}

interface Line {
  opened?: number
  lsn?: number
  timeTick?: string
  payload?: string
  trying?: string
  key?: string
  sequence?: number
  vchannel?: string
  truncating?: number
  begun?: number
  transaction?: number
  bodies?: string[]
}

/** What the process has said before it was killed, after at least `lines` lines that have `mark` in them. */
async function liveAndDie(directory: string, kinds: string, lines: number, mark = '\n'): Promise<Line[]> {
  const args = [child, directory, entry, JSON.stringify(options), kinds]
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let complaint = ''
  running.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk.toString()
  })
  const closed = once(running, 'close')
  await new Promise<void>((resolve) => {
    running.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      if (said.split(mark).length > lines) resolve()
    })
    void closed.then(() => resolve())
  })
  running.kill('SIGKILL')
  await closed
  expect(complaint).toBe('')
  // The last line may be cut.
  return said
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}

async function snapshotsIn(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => /^SNAPSHOT-\d{20}$/.test(name))
}

/** What is known of producers, keys and transactions. */
function stateOf(wal: Wal) {
  const { keys, producers } = wal.status().statistics
  return { keys, producers, records: wal.producers(), transactions: wal.transactions(), horizon: wal.keyHorizon('k') }
}

/** The state from the snapshots is that which the records alone give. */
async function isStateOfRecords(directory: string, other: string): Promise<void> {
  await cp(directory, other, { recursive: true })
  try {
    for (const name of await snapshotsIn(other)) await rm(join(other, name))
    const [fromSnapshot, fromRecords] = [await openWal(directory, options), await openWal(other, options)]
    const states = [stateOf(fromSnapshot), stateOf(fromRecords)]
    await fromRecords.close()
    await fromSnapshot.close()
    expect(states[0]).toEqual(states[1])
  } finally {
    await rm(other, { recursive: true, force: true })
  }
}

const text = (payload: Uint8Array) => Buffer.from(payload).toString()

test(`SIGKILL again and again: what was acknowledged is there, once, in order and at its place (seed ${seed})`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-killed-wal-'))
  const random = new Random(`${seed}/killed-wal`)
  const acknowledged = new Map<number, Line>()
  /** By their ids. */
  const begun = new Map<number, Line>()
  const committed = new Map<number, Line>()
  let snapshots = 0
  try {
    for (let life = 0; life < budget({ small: 2, ci: 8 }); life++) {
      const trying = new Map<string, Line>()
      for (const line of await liveAndDie(directory, 'all', 30 + random.below(300))) {
        if (line.transaction !== undefined) committed.set(line.transaction, line)
        else if (line.lsn !== undefined) acknowledged.set(line.lsn, line)
        if (line.begun !== undefined) begun.set(line.begun, line)
        if (line.trying !== undefined) trying.set(line.trying, line)
        if (line.key !== undefined) trying.delete(line.key)
      }
      snapshots += (await snapshotsIn(directory)).length
      await isStateOfRecords(directory, `${directory}-records`)
      const wal = await openWal(directory, options)
      // Nobody knows of these whether they were written: sent again with their key they are there once.
      for (const [idempotencyKey, { vchannel, payload }] of trying) {
        const message = { vchannel: vchannel!, payload: Buffer.from(payload!) }
        const { lsn, timeTick } = await wal.append(message, { idempotencyKey })
        acknowledged.set(lsn, { lsn, timeTick: `${timeTick}`, payload: payload! })
      }
      // Those that were answered are answered the same.
      for (const line of [...acknowledged.values()].filter(({ key }) => key !== undefined).slice(-3)) {
        const repeat = await wal.append({ vchannel: 'k' }, { idempotencyKey: line.key! })
        expect(repeat).toEqual({ lsn: line.lsn, timeTick: BigInt(line.timeTick!), duplicate: true })
      }
      const read = new Map<number, ScanItem>()
      const units = new Map<number, ScannedTransaction>()
      const payloads = new Set<string>()
      let last = -1
      let lastTick = 0n
      for await (const item of wal.scan()) {
        if (item.kind === 'tick') expect.fail('nobody asked for ticks')
        expect(item.lsn).toBeGreaterThan(last)
        expect(item.timeTick).toBeGreaterThan(lastTick)
        last = item.lsn
        lastTick = item.timeTick
        if (item.kind === 'txn') {
          units.set(item.transaction, item)
          expect(item.messages.map((message) => text(message.payload))).toEqual(begun.get(item.transaction)!.bodies)
          continue
        }
        read.set(item.lsn, item)
        expect(payloads.has(text(item.payload)), `${text(item.payload)} stands twice`).toBe(false)
        payloads.add(text(item.payload))
      }
      for (const [lsn, line] of acknowledged) {
        const item = read.get(lsn)
        if (item?.kind !== 'message') expect.fail(`LSN ${lsn} was acknowledged and is lost`)
        expect([text(item.payload), `${item.timeTick}`]).toEqual([line.payload, line.timeTick])
      }
      // Those whose commit nobody has heard of are there as a whole, or not at all, and nothing is open.
      for (const [transaction, line] of committed) {
        expect(units.get(transaction)).toMatchObject({ lsn: line.lsn, timeTick: BigInt(line.timeTick!) })
      }
      expect(wal.transactions()).toEqual([])
      const [loader] = wal.producers()
      const sequences = [...read.values()].flatMap((item) =>
        item.kind === 'message' && item.vchannel === 'p' ? [text(item.payload)] : [],
      )
      expect(sequences).toEqual(sequences.map((_, index) => `sequence ${index + 1}`))
      expect(loader?.lastSequence ?? 0).toBe(sequences.length)
      await wal.close()
    }
    expect(acknowledged.size).toBeGreaterThan(20)
    expect(snapshots).toBeGreaterThan(0)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})

test(`SIGKILL while the log is kept short: producers and keys go on from snapshots alone (seed ${seed})`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-killed-wal-'))
  const random = new Random(`${seed}/killed-short-wal`)
  const keyed = new Map<string, Line>()
  let written = 0
  let floor = 0
  try {
    for (let life = 0; life < budget({ small: 1, ci: 5, soak: 100 }); life++) {
      const trying = new Map<string, Line>()
      const lines = await liveAndDie(directory, 'truncating', 1 + random.below(12), 'truncated')
      for (const line of lines) {
        if (line.truncating !== undefined) floor = Math.max(floor, line.truncating)
        if (line.sequence !== undefined) written = line.sequence
        if (line.trying !== undefined) trying.set(line.trying, line)
        if (line.key === undefined) continue
        trying.delete(line.key)
        keyed.set(line.key, line)
      }
      const wal = await openWal(directory, options)
      expect(wal.firstLsn).toBeLessThanOrEqual(floor)
      const loader = await wal.producer('p', { id: 'loader' })
      // One was perhaps under way.
      expect([written, written + 1]).toContain(loader.lastSequence)
      expect(loader.windowLost).toBe(false)
      written = loader.lastSequence
      const repeat = loader.append({ payload: Buffer.from('again') }, { sequence: written })
      if (written > 0) expect(await repeat).toMatchObject({ sequence: written, duplicate: true })
      for (const [idempotencyKey, { vchannel, payload }] of trying) {
        const message = { vchannel: vchannel!, payload: Buffer.from(payload!) }
        const { lsn, timeTick } = await wal.append(message, { idempotencyKey })
        keyed.set(idempotencyKey, { lsn, timeTick: `${timeTick}` })
        expect(await wal.append(message, { idempotencyKey })).toEqual({ lsn, timeTick, duplicate: true })
      }
      let below = 0
      for (const [idempotencyKey, { lsn, timeTick }] of keyed) {
        const again = await wal.append({ vchannel: 'k' }, { idempotencyKey })
        expect(again).toEqual({ lsn, timeTick: BigInt(timeTick!), duplicate: true })
        if (lsn! < wal.firstLsn) below++
      }
      // Their records are gone.
      expect(below).toBeGreaterThan(0)
      await wal.close()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
