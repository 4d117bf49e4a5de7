import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type OpenWalOptions, openWal, type ScanItem, type ScannedTransaction } from '../../src/wal/index.ts'
import { budget } from '../budget.ts'
import { Random } from '../simulation/random.ts'

const seed = process.env.TIDELOG_SEED ?? '20260101'
const child = join(import.meta.dirname, 'wal-child.mjs')
const entry = join(import.meta.dirname, '..', '..', 'dist', 'src', 'wal', 'index.js')

const options: OpenWalOptions = {
  writeMode: process.env.TIDELOG_TEST_WRITE_MODE === 'fdatasync' ? 'fdatasync' : 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
  segmentBytes: 64 * 1024,
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
  begun?: number
  transaction?: number
  bodies?: string[]
}

/** What the process has said before it was killed, after at least `lines` lines. */
async function liveAndDie(directory: string, kinds: string, lines: number): Promise<Line[]> {
  const args = [child, directory, entry, JSON.stringify(options), kinds]
  const running = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let complaint = ''
  running.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk.toString()
  })
  const closed = once(running, 'close')
  await new Promise<void>((resolve) => {
    let count = 0
    running.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString()
      for (const byte of chunk) if (byte === 10) count++
      if (count >= lines) resolve()
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

const text = (payload: Uint8Array) => Buffer.from(payload).toString()

test(`SIGKILL again and again: what was acknowledged is there, once, in order and at its place (seed ${seed})`, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-killed-wal-'))
  const random = new Random(`${seed}/killed-wal`)
  const acknowledged = new Map<number, Line>()
  /** By their ids. */
  const begun = new Map<number, Line>()
  const committed = new Map<number, Line>()
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
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
})
