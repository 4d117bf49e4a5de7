import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Clock, type DiskSpace, nodeEnvironment } from '../../native-free-storage/index.ts'
import { createLogger } from '../../src/observability/logger.ts'
import { DaemonFixture, get, text, textsOf, until } from './open-test-daemon.ts'

const limits = { diskWarnPercent: 80, diskRefusePercent: 90 }

/** The real system, on a file system of 1,000 MB of which the test says how much is used. */
class Filling {
  usedBytes = 500e6
  fault: Error | null = null
  readonly lines: string[] = []
  readonly logger = createLogger({ write: (line) => this.lines.push(line) })
  readonly environment = (() => {
    const { disk, clock } = nodeEnvironment()
    // The watch looks a hundred times as often.
    const after: Clock['after'] = (delayMs, callback) => {
      return clock.after(delayMs === 1_000 || delayMs === 5_000 ? delayMs / 100 : delayMs, callback)
    }
    const space = async (): Promise<DiskSpace> => {
      if (this.fault !== null) throw this.fault
      return { totalBytes: 1000e6, usedBytes: this.usedBytes, freeBytes: 1000e6 - this.usedBytes }
    }
    const proxy = new Proxy(disk, {
      get(target, name: keyof typeof disk) {
        if (name === 'space') return space
        const value = target[name]
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    return nodeEnvironment({ disk: proxy, clock: { ...clock, after } })
  })()
}

describe('a disk that fills up under the daemon', () => {
  let fixture: DaemonFixture
  let filling: Filling

  beforeEach(async () => {
    fixture = await DaemonFixture.create()
    filling = new Filling()
  })

  afterEach(() => fixture.dispose())

  const start = () => fixture.start(limits, filling)

  test('refuses appends and creations, goes on reading and truncating, and takes appends again by itself', async () => {
    filling.usedBytes = 950e6
    const daemon = await start()
    const client = await fixture.connect(daemon)
    expect(daemon.space()).toMatchObject({ state: 'refusing' })
    await expect(client.createVchannel('new')).rejects.toMatchObject({
      code: 'DISK_NEARLY_FULL',
      retriable: true,
      outcome: 'not-written',
    })
    // Nothing was known of the vchannel: the client asks for it again, and then sends.
    const waiting = client.append('orders', text('patient'))
    await until(
      async () => daemon.space()!,
      ({ refusals }) => refusals >= 3,
    )
    filling.usedBytes = 500e6
    expect((await waiting).lsn).toBe(0)
    await client.append('orders', text('second'))

    filling.usedBytes = 950e6
    const refused = await until(
      () => client.status(),
      ({ space }) => space?.state === 'refusing',
    )
    expect(refused.space).toMatchObject({
      usedBytes: 950e6,
      freeBytes: 50e6,
      message: expect.stringContaining('95.0 %'),
    })
    const late = client.append('orders', text('third'))
    await until(
      async () => (await get(daemon, '/metrics')).body,
      (metrics) => /tidelog_produce_refusals_total\{code="DISK_NEARLY_FULL"\} [1-9]/.test(metrics),
    )
    const metrics = (await get(daemon, '/metrics')).body
    expect(metrics).toContain('tidelog_data_space_state{state="refusing"} 1\n')
    expect(metrics).toContain('tidelog_data_used_ratio 0.95\n')
    expect((await get(daemon, '/health/data')).status).toBe(503)
    expect((await get(daemon, '/readyz')).status).toBe(200)
    expect(await textsOf(client, 'orders')).toEqual(['patient', 'second'])
    expect(await client.truncate('orders', 1)).toEqual({ firstLsn: 1 })
    expect(await textsOf(client, 'orders')).toEqual(['second'])

    filling.usedBytes = 850e6
    expect((await late).lsn).toBe(2)
    expect(daemon.space()).toMatchObject({ state: 'warning' })
    expect((await get(daemon, '/health/data')).status).toBe(200)
    const told = filling.lines
      .filter((line) => /disk|appends are/.test(line))
      .map((line) => line.replace(/ (why|usedBytes)=.*/, ''))
    expect(told.map((line) => line.replace(/^\S+ +\S+ +/, ''))).toEqual([
      'disk nearly full: appends are refused',
      'appends are taken again',
      'disk nearly full: appends are refused',
      'appends are taken again',
    ])
  })

  test('an append that is refused for longer than its time says why', async () => {
    const daemon = await start()
    const client = await fixture.connectTo(`tcp://127.0.0.1:${daemon.addresses.tcp.port}`, { appendTimeoutMs: 300 })
    await client.append('orders', text('first'))
    filling.usedBytes = 950e6
    await until(
      () => client.status(),
      ({ space }) => space?.state === 'refusing',
    )
    await expect(client.append('orders', text('late'))).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'not-written',
      retriable: true,
      message: expect.stringContaining('DISK_NEARLY_FULL'),
    })
    expect(await textsOf(client, 'orders')).toEqual(['first'])
  })

  test('a file system that does not say how full it is stops nothing', async () => {
    filling.fault = new Error('statfs is not for everyone')
    const daemon = await start()
    const client = await fixture.connect(daemon)
    await client.append('orders', text('first'))
    expect(daemon.space()).toMatchObject({ state: 'unknown', usedBytes: null })
    expect((await get(daemon, '/health/data')).status).toBe(200)
    expect((await get(daemon, '/metrics')).body).not.toMatch(/^tidelog_data_free_bytes /m)
    expect(filling.lines.filter((line) => line.includes('the room on the disk is not known'))).toHaveLength(1)
  })
})
