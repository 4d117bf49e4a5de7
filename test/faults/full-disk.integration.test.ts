/**
 * A disk that is really full: the daemon on a small file system of its own, and producers that fill it. Appends are
 * refused retriably, nothing acknowledged is lost, what is there can be read and truncated, a start works, and service
 * resumes by itself when there is room.
 */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect } from 'vitest'
import { connect } from '../../src/client/connect.ts'
import type { Client } from '../../src/client/types.ts'
import { budget, budgetName } from '../budget.ts'
import { DaemonProcess } from '../daemon/daemon-process.ts'
import { httpGet, until } from '../daemon/open-test-daemon.ts'
import { FaultLedger } from './fault-ledger.ts'
import { testThatNeeds } from './needs.ts'
import { SmallDisk, whyNoSmallDisk } from './small-disk.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'tidelog.js')
const MIB = 1024 * 1024
const DISK_BYTES = budget({ small: 32, ci: 64 }) * MIB
const BALLAST_BYTES = budget({ small: 12, ci: 24 }) * MIB
const PAYLOAD_BYTES = 32 * 1024
/** A refusal is told to the caller when the client has tried again for so long. */
const APPEND_TIMEOUT_MS = 1_000

interface Started {
  daemon: DaemonProcess
  client: Client
}

const testOnSmallDisk = testThatNeeds(whyNoSmallDisk())

describe('a full disk', () => {
  let disk: SmallDisk
  let data: string
  let ballast: string
  let daemons: DaemonProcess[]
  let clients: Client[]
  let ledger: FaultLedger

  beforeEach(() => {
    disk = SmallDisk.mount(DISK_BYTES)
    data = join(disk.path, 'data')
    ballast = join(disk.path, 'ballast')
    writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES, 1))
    daemons = []
    clients = []
    ledger = new FaultLedger()
  })

  afterEach(async () => {
    await Promise.all(clients.map((client) => client.close()))
    await Promise.all(daemons.map((daemon) => daemon.end('SIGKILL')))
    disk.remove()
  })

  async function start(...flags: string[]): Promise<Started> {
    const daemon = await DaemonProcess.start(data, '--pchannels', '2', '--pool-bytes', '4MiB', ...flags)
    daemons.push(daemon)
    const client = await connect(daemon.listen, { reconnectTimeoutMs: 0, appendTimeoutMs: APPEND_TIMEOUT_MS })
    clients.push(client)
    return { daemon, client }
  }

  /** How many appends the daemon has refused with a code. */
  async function refusals(daemon: DaemonProcess, code: string): Promise<number> {
    const { body } = await httpGet(daemon.httpPort, '/metrics')
    return Number(new RegExp(`^tidelog_produce_refusals_total\\{code="${code}"\\} (\\d+)$`, 'm').exec(body)?.[1] ?? 0)
  }

  /**
   * Until the daemon has refused something with this code, and appends to each of the two logs have failed: the client
   * tries a refused one again until its time is up.
   */
  async function fill({ daemon, client }: Started, code: string): Promise<void> {
    const failed = (vchannel: string) => {
      const { notWritten, unknown } = ledger.of(vchannel)
      return notWritten.length + unknown.length
    }
    const before = [await refusals(daemon, code), failed('a'), failed('b')]
    ledger.produce(client, 'a', { bytes: PAYLOAD_BYTES })
    ledger.produce(client, 'b', { bytes: PAYLOAD_BYTES })
    await until(
      async () => [await refusals(daemon, code), failed('a'), failed('b')],
      (now) => now.every((count, index) => count > before[index]!),
    )
    await ledger.stop()
  }

  const takesAll = async (client: Client) => {
    for (const vchannel of ['a', 'b']) {
      await until(
        () => ledger.append(client, vchannel, PAYLOAD_BYTES),
        (acknowledged) => acknowledged,
      )
    }
  }

  /** A producer that has written so much, and writes one more. */
  const remembers = async (client: Client, vchannel: string, lastSequence: number) => {
    const producer = await client.producer(vchannel, { id: 'loader' })
    expect([producer.lastSequence, producer.windowLost]).toEqual([lastSequence, false])
    await producer.append({ payload: Buffer.from('one') })
  }

  const statesOf = async (daemon: DaemonProcess) => {
    const { body } = await httpGet(daemon.httpPort, '/health/data')
    return (JSON.parse(body) as { logs: { state: string }[] }).logs.map(({ state }) => state)
  }

  /** A busy disk may take longer for a write than an append has: that is no refusal. */
  const refusedRetriably = () => {
    const errors = ['a', 'b'].flatMap((vchannel) => [...ledger.of(vchannel).errors.values()])
    const late = (code: string, outcome: string | undefined) => code === 'TIMEOUT' && outcome === 'unknown'
    expect(errors.filter(({ code, outcome, retriable }) => !retriable && !late(code, outcome))).toEqual([])
  }

  async function endsClean(daemon: DaemonProcess): Promise<void> {
    expect(await daemon.end('SIGTERM')).toEqual({ code: 0, signal: null })
    const verified = spawnSync(process.execPath, [program, 'verify', data], { encoding: 'utf8' })
    expect(verified.status, verified.stdout + verified.stderr).toBe(0)
  }

  testOnSmallDisk(
    'no room at all: refused retriably, nothing lost, a start works, and it goes on by itself',
    async () => {
      let { daemon, client } = await start('--disk-warn-percent', '100', '--disk-refuse-percent', '100')
      // State that a truncation must not lose.
      for (const vchannel of ['pa', 'pb']) await remembers(client, vchannel, 0)
      await fill({ daemon, client }, 'DISK_FULL')
      expect(disk.freeBytes()).toBeLessThan(3 * MIB)
      refusedRetriably()
      expect(await statesOf(daemon)).not.toContain('failed')
      await ledger.compare(client)

      // Killed and started again with no room.
      await daemon.end('SIGKILL')
      ;({ daemon, client } = await start('--disk-warn-percent', '100', '--disk-refuse-percent', '100'))
      await ledger.compare(client)
      expect(await statesOf(daemon)).not.toContain('failed')
      await fill({ daemon, client }, 'DISK_FULL')

      // Room by truncation.
      for (const vchannel of ['a', 'b']) {
        const outcomes = ledger.of(vchannel)
        outcomes.floor = outcomes.lsns.get(outcomes.acknowledged[Math.floor(outcomes.acknowledged.length / 2)]!)!
        await client.truncate(vchannel, outcomes.floor)
      }
      await takesAll(client)
      await ledger.compare(client)
      for (const vchannel of ['pa', 'pb']) await remembers(client, vchannel, 1)
      await fill({ daemon, client }, 'DISK_FULL')

      // Room that somebody else makes.
      rmSync(ballast)
      await takesAll(client)
      await ledger.compare(client)
      expect(await statesOf(daemon)).not.toContain('failed')
      await endsClean(daemon)
    },
  )

  const testInGate = budgetName() === 'small' ? () => {} : testOnSmallDisk

  testInGate('nearly full: refused while there is room for a repair, and it goes on by itself', async () => {
    const { daemon, client } = await start('--disk-warn-percent', '80', '--disk-refuse-percent', '90')
    await fill({ daemon, client }, 'DISK_NEARLY_FULL')
    expect(disk.usedPart()).toBeGreaterThan(0.8)
    expect(disk.usedPart()).toBeLessThan(0.97)
    refusedRetriably()
    await ledger.compare(client)
    rmSync(ballast)
    await takesAll(client)
    await ledger.compare(client)
    await endsClean(daemon)
  })
})
