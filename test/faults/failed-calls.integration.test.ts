/**
 * Faults of the real system calls in the real daemon process, each in the way to write that uses the call: nothing is
 * acknowledged behind it, the health says which log failed and why, the other logs go on, and a restart recovers.
 */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect } from 'vitest'
import { manifestFileName, parseManifestFileName } from '../../native-free-storage/format/file-names.ts'
import { connect } from '../../src/client/connect.ts'
import type { Client } from '../../src/client/types.ts'
import { budget, budgetName } from '../budget.ts'
import { DaemonProcess } from '../daemon/daemon-process.ts'
import { httpGet, until } from '../daemon/open-test-daemon.ts'
import { Random } from '../simulation/random.ts'
import { FaultLedger } from './fault-ledger.ts'
import { missingTool, testThatNeeds } from './needs.ts'
import { FaultyStart, type Injection, openPaths, Strace } from './strace.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'tidelog.js')
const testWithStrace = testThatNeeds(missingTool('strace', '--version'))
const faultyStarts = budget({ small: 1, ci: 4, soak: 200 })
const inGate = budgetName() !== 'small'
/** The gate runs these suites again in each way to write: then only what depends on it is shown again. */
const isRepeated = Boolean(process.env.TIDELOG_TEST_WRITE_DEPTH || process.env.TIDELOG_TEST_NO_FLOCK)

type WriteMode = 'dsync' | 'fdatasync'

interface Health {
  pchannel: number
  state: string
  message: string
}

describe('a system call that fails', () => {
  let directory: string
  let data: string
  let daemons: DaemonProcess[]
  let clients: Client[]
  let straces: Strace[]
  let ledger: FaultLedger

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidelog-faults-'))
    data = join(directory, 'data')
    daemons = []
    clients = []
    straces = []
    ledger = new FaultLedger()
  })

  afterEach(async () => {
    await Promise.all(straces.map((strace) => strace.detach()))
    await Promise.all(clients.map((client) => client.close()))
    await Promise.all(daemons.map((daemon) => daemon.end('SIGKILL')))
    await rm(directory, { recursive: true, force: true })
  })

  async function start(...flags: string[]): Promise<{ daemon: DaemonProcess; client: Client }> {
    const daemon = await DaemonProcess.start(data, '--pchannels', '2', ...flags)
    daemons.push(daemon)
    const client = await connect(daemon.listen, { reconnectTimeoutMs: 0, appendTimeoutMs: 20_000 })
    clients.push(client)
    return { daemon, client }
  }

  /** `a` lives on the first pchannel, `b` on the second. */
  async function startWithRecords(mode: WriteMode): Promise<{ daemon: DaemonProcess; client: Client }> {
    const started = await start('--write-mode', mode)
    for (let count = 0; count < 20; count++) {
      for (const vchannel of ['a', 'b']) expect(await ledger.append(started.client, vchannel)).toBe(true)
    }
    return started
  }

  const inject = async (daemon: DaemonProcess, injection: Injection) => {
    const strace = await Strace.attach(daemon.child.pid!, injection)
    straces.push(strace)
    return strace
  }

  const health = async (daemon: DaemonProcess) => {
    const { status, body } = await httpGet(daemon.httpPort, '/health/data')
    return { status, logs: (JSON.parse(body) as { logs: Health[] }).logs }
  }

  /** The segment that the first pchannel writes to. */
  const activeSegment = (daemon: DaemonProcess) => {
    const segments = openPaths(daemon.child.pid!, join(data, 'pchannels', '0')).filter((path) => path.endsWith('.seg'))
    return segments.at(-1)!
  }

  /** The name that the next manifest of the first pchannel gets. */
  const nextManifest = () => {
    const folder = join(data, 'pchannels', '0')
    const generations = readdirSync(folder).flatMap((name) => parseManifestFileName(name) ?? [])
    return join(folder, manifestFileName(Math.max(...generations) + 1))
  }

  const failsFor = async (daemon: DaemonProcess) => {
    const { status, logs } = await until(
      () => health(daemon),
      (answer) => answer.logs[0]?.state === 'failed',
    )
    expect(status).toBe(503)
    expect(logs[1]?.state).not.toBe('failed')
    return logs[0]!.message
  }

  /** What stands on the disk is clean, a new daemon takes everything over, and it writes again. */
  async function recovers(daemon: DaemonProcess, mode: WriteMode): Promise<void> {
    await daemon.end('SIGTERM')
    const verified = spawnSync(process.execPath, [program, 'verify', data], { encoding: 'utf8' })
    expect(verified.status, verified.stdout + verified.stderr).toBe(0)
    const { daemon: next, client } = await start('--write-mode', mode)
    await ledger.compare(client)
    for (const vchannel of ['a', 'b']) expect(await ledger.append(client, vchannel)).toBe(true)
    await ledger.compare(client)
    expect((await health(next)).status).toBe(200)
  }

  /** Every call on the segment of the first pchannel from the given one on fails, or only that one. */
  async function failTheWritesOf(mode: WriteMode, call: string, fault: string): Promise<void> {
    const { daemon, client } = await startWithRecords(mode)
    const segment = activeSegment(daemon)
    const strace = await inject(daemon, { calls: [call], fault, path: segment })
    ledger.produce(client, 'a')
    ledger.produce(client, 'b')
    const message = await failsFor(daemon)
    const acknowledged = ledger.of('a').acknowledged.length
    const others = ledger.of('b').acknowledged.length
    await until(
      async () => ledger.of('b').acknowledged.length,
      (count) => count > others + 50,
    )
    await ledger.stop()
    expect(strace.injected).toBeGreaterThan(0)
    expect(ledger.of('a').acknowledged.length).toBe(acknowledged)
    expect(ledger.of('b').errors.size).toBe(0)
    expect(message).toContain(segment)
    expect(message).toContain('EIO')
    expect(ledger.of('a').errors.get('POISONED')).toMatchObject({ retriable: false })
    // What is durable stays readable meanwhile.
    await ledger.compare(client)
    await strace.detach()
    await recovers(daemon, mode)
  }

  const modes = (['dsync', 'fdatasync'] as const).filter(
    (mode) => (process.env.TIDELOG_TEST_WRITE_MODE || mode) === mode,
  )
  const callsOf = {
    dsync: [
      { call: 'pwrite64', fault: 'error=EIO:when=1+' },
      { call: 'pwrite64', fault: 'error=EIO:when=3+' },
      { call: 'pwrite64', fault: 'error=EIO:when=2' },
      { call: 'pwrite64', fault: 'retval=0:when=2' },
    ],
    fdatasync: [
      { call: 'fdatasync', fault: 'error=EIO:when=1+' },
      { call: 'fdatasync', fault: 'error=EIO:when=2' },
      { call: 'pwrite64', fault: 'error=EIO:when=2' },
      { call: 'pwrite64', fault: 'retval=0:when=2' },
    ],
  }
  for (const mode of modes) {
    for (const { call, fault } of inGate && !isRepeated ? callsOf[mode] : callsOf[mode].slice(0, 1)) {
      testWithStrace(`${mode}, ${call} of one log's segment with ${fault}: no acknowledgement follows`, () =>
        failTheWritesOf(mode, call, fault),
      )
    }
  }

  /** A log that rolls and is truncated, so that names change, until a call on them fails. */
  async function failTheNames(injection: () => Injection): Promise<string> {
    const { daemon, client } = await startWithRecords('dsync')
    const strace = await inject(daemon, injection())
    ledger.produce(client, 'a', { bytes: 16 * 1024 })
    ledger.produce(client, 'b')
    const message = await failsFor(daemon)
    const acknowledged = ledger.of('a').acknowledged.length
    const others = ledger.of('b').acknowledged.length
    await until(
      async () => ledger.of('b').acknowledged.length,
      (count) => count > others + 50,
    )
    await ledger.stop()
    expect(strace.injected).toBeGreaterThan(0)
    expect(ledger.of('a').acknowledged.length).toBe(acknowledged)
    expect(ledger.of('b').errors.size).toBe(0)
    expect(message).toContain('EIO')
    await strace.detach()
    await recovers(daemon, 'dsync')
    return message
  }

  const testInGate = inGate && !isRepeated && modes.includes('dsync') ? testWithStrace : () => {}

  testInGate('the sync of a directory: no acknowledgement follows in the log whose names it was to keep', async () => {
    const path = join(data, 'pchannels', '0')
    const message = await failTheNames(() => ({ calls: ['fsync'], fault: 'error=EIO:when=1+', path }))
    expect(message).toContain(path)
  })

  testInGate('the link that publishes a manifest: no acknowledgement follows', async () => {
    const message = await failTheNames(() => ({
      calls: ['link', 'linkat'],
      fault: 'error=EIO:when=1+',
      path: nextManifest(),
    }))
    expect(message).toContain('MANIFEST-')
  })

  testInGate(
    'no space for a write: refused retriably, the others go on, and so does the log when there is space',
    async () => {
      const { daemon, client } = await startWithRecords('dsync')
      const path = activeSegment(daemon)
      const strace = await inject(daemon, { calls: ['pwrite64'], fault: 'error=ENOSPC:when=1+', path })
      ledger.produce(client, 'a')
      ledger.produce(client, 'b')
      // The segment is given up, and the log goes on in another, where the fault is not in force.
      const before = ledger.of('a').acknowledged.length
      await until(
        async () => ledger.of('a').acknowledged.length,
        (count) => strace.injected > 0 && count > before + 200,
      )
      await ledger.stop()
      // What was not written is sent again by the client; only what may have been written is told to the caller.
      for (const error of ledger.of('a').errors.values()) {
        expect(error).toMatchObject({ code: 'DISK_FULL', retriable: true, outcome: 'unknown' })
      }
      expect(ledger.of('b').errors.size).toBe(0)
      expect((await health(daemon)).status).toBe(200)
      await strace.detach()
      await ledger.compare(client)
      await recovers(daemon, 'dsync')
    },
  )

  /** A daemon in which every such call from the n-th on fails, counted from its very start. */
  async function failFromTheStart(mode: WriteMode, call: string, n: number): Promise<string> {
    const { daemon } = await startWithRecords(mode)
    // So that the start has something to recover.
    await daemon.end('SIGKILL')
    const faulty = await FaultyStart.start(data, { call, n, mode })
    try {
      if (faulty.listen === null) return 'it does not start'
      const client = await connect(faulty.listen, { reconnectTimeoutMs: 0, appendTimeoutMs: 20_000 })
      clients.push(client)
      ledger.produce(client, 'a')
      ledger.produce(client, 'b')
      await until(
        async () => [ledger.of('a').errors.size, ledger.of('b').errors.size],
        ([a, b]) => a! > 0 && b! > 0,
      )
      const acknowledged = ['a', 'b'].map((vchannel) => ledger.of(vchannel).acknowledged.length)
      await ledger.stop()
      expect(['a', 'b'].map((vchannel) => ledger.of(vchannel).acknowledged.length)).toEqual(acknowledged)
      return 'its logs fail'
    } finally {
      await faulty.end()
    }
  }

  for (const mode of inGate && !isRepeated ? modes : []) {
    const call = mode === 'dsync' ? 'pwrite64' : 'fdatasync'
    testWithStrace(
      `${mode}: every ${call} of the process fails from the n-th on, in its start or later; nothing acknowledged is lost`,
      async () => {
        const seed = process.env.TIDELOG_SEED ?? String(Date.now() % 1_000_000)
        const random = new Random(`${mode}/${seed}`)
        const seen: string[] = []
        for (let run = 0; run < faultyStarts; run++) {
          const n = random.between(1, run % 2 === 0 ? 20 : 100)
          ledger = new FaultLedger()
          seen.push(`${n}+: ${await failFromTheStart(mode, call, n)}`)
          const { daemon, client } = await start('--write-mode', mode)
          await ledger.compare(client)
          expect(await daemon.end('SIGTERM')).toEqual({ code: 0, signal: null })
          const verified = spawnSync(process.execPath, [program, 'verify', data], { encoding: 'utf8' })
          expect(verified.status, verified.stdout + verified.stderr).toBe(0)
          await rm(data, { recursive: true })
        }
        console.log(`${mode}, seed ${seed}: ${seen.join('; ')}`)
      },
    )
  }
})
