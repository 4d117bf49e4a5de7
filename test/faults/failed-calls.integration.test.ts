/**
 * Faults of the real system calls in the real daemon process, each in the way to write that uses the call: nothing is
 * acknowledged behind it, the health says which log failed and why, the other logs go on, and a restart recovers.
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect } from 'vitest'
import { connect } from '../../src/client/connect.ts'
import type { Client } from '../../src/client/types.ts'
import { budgetName } from '../budget.ts'
import { DaemonProcess } from '../daemon/daemon-process.ts'
import { httpGet, until } from '../daemon/open-test-daemon.ts'
import { FaultLedger } from './fault-ledger.ts'
import { missingTool, testThatNeeds } from './needs.ts'
import { type Injection, openPaths, Strace } from './strace.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'tidelog.js')
const testWithStrace = testThatNeeds(missingTool('strace', '--version'))
const inGate = budgetName() !== 'small'

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

  /** The gate runs these suites again in each way to write. */
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
    for (const { call, fault } of inGate ? callsOf[mode] : callsOf[mode].slice(0, 1)) {
      testWithStrace(`${mode}, ${call} of one log's segment with ${fault}: no acknowledgement follows`, () =>
        failTheWritesOf(mode, call, fault),
      )
    }
  }
})
