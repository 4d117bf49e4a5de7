import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { nodeEnvironment } from '../../native-free-storage/index.ts'
import type { Client } from '../../src/client/types.ts'
import type { Daemon } from '../../src/daemon/daemon.ts'
import { FaultyDisk } from '../log-store/faulty-disk.ts'
import { DaemonFixture, get, text, textsOf, until } from './open-test-daemon.ts'

interface HealthLog {
  state: string
  message: string
  failure: { code: string; sinceMs: number; operation: string | null; file: string | null; errno: string | null } | null
}

/** A fault of the disk under one log of a running daemon. */
describe('a fault under one log makes that pchannel failed, says precisely why, and leaves the others alone', () => {
  let fixture: DaemonFixture
  let log: string

  beforeEach(async () => {
    fixture = await DaemonFixture.create()
    log = join(fixture.data, 'pchannels', '0')
  })

  afterEach(() => fixture.dispose())

  /** `a` lives on pchannel 0, `b` on 1; both have one record. */
  async function filled(client: Client): Promise<void> {
    for (const name of ['a', 'b']) await client.append(name, text(name))
  }

  async function health(daemon: Daemon): Promise<HealthLog[]> {
    return JSON.parse((await get(daemon, '/health/data')).body).logs
  }

  /** What holds after each of them. */
  async function expectOthersGoOn(daemon: Daemon, client: Client): Promise<void> {
    expect((await health(daemon)).map(({ state }) => state === 'failed')).toEqual([true, false, false, false])
    expect((await get(daemon, '/health/data')).status).toBe(503)
    expect((await get(daemon, '/readyz')).status).toBe(200)
    await client.append('b', text('more'))
    expect(await textsOf(client, 'b')).toEqual(['b', 'more'])
    const { groups } = await client.status()
    expect(groups[0]!.message).toContain(log)
  }

  test.each([
    ['write', 'dsync'],
    ['sync', 'fdatasync'],
  ] as const)(
    'a failed %s (%s): the call, the file, the errno, since when, what is safe, what to do',
    async (operation, writeMode) => {
      const faulty = new FaultyDisk(nodeEnvironment().disk)
      const daemon = await fixture.start({ writeMode }, { environment: nodeEnvironment({ disk: faulty.disk }) })
      const client = await fixture.connect(daemon)
      await filled(client)
      const beforeMs = Date.now()
      if (operation === 'write') faulty.failNext()
      else faulty.failNextSync()
      await expect(client.append('a', text('bad'))).rejects.toMatchObject({ code: 'POISONED', outcome: 'unknown' })
      const { message, failure } = (await health(daemon))[0]!
      expect(failure).toMatchObject({ code: 'POISONED', operation, errno: 'EIO' })
      expect(failure!.file).toMatch(new RegExp(`^${log}/\\d{20}-[0-9a-f]{16}\\.seg$`))
      expect(failure!.sinceMs).toBeGreaterThanOrEqual(beforeMs)
      expect(message).toContain(`POISONED since ${new Date(failure!.sinceMs).toISOString()}: `)
      expect(message).toContain(
        `${operation} of ${failure!.file} failed with EIO; the log in ${log} takes no more writes.`,
      )
      expect(message).toContain('What was acknowledged is safe')
      expect(message).toContain('restart the daemon')
      await expectOthersGoOn(daemon, client)
      expect(await textsOf(client, 'a')).toEqual(['a'])
      await client.close()
      await daemon.stop()
      const next = await fixture.connect(await fixture.start())
      expect((await textsOf(next, 'a'))[0]).toBe('a')
      await next.append('a', text('again'))
    },
  )

  test('the log of the vchannels: none can be created, everything else goes on, and health says why', async () => {
    const faulty = new FaultyDisk(nodeEnvironment().disk)
    const daemon = await fixture.start({}, { environment: nodeEnvironment({ disk: faulty.disk }) })
    const client = await fixture.connect(daemon)
    await filled(client)
    expect((await get(daemon, '/health/data')).status).toBe(200)
    faulty.failNext()
    await expect(client.createVchannel('new')).rejects.toMatchObject({ code: 'POISONED' })
    await expect(client.createVchannel('other')).rejects.toMatchObject({ code: 'POISONED' })
    const answer = await get(daemon, '/health/data')
    expect(answer.status).toBe(503)
    const { catalog, logs } = JSON.parse(answer.body)
    expect(catalog).toMatchObject({
      state: 'failed',
      message: expect.stringContaining(`the log in ${join(fixture.data, 'catalog')} takes no more writes`),
      failure: { operation: 'write', errno: 'EIO' },
    })
    expect(logs.some(({ state }: HealthLog) => state === 'failed')).toBe(false)
    await client.append('a', text('more'))
    expect(await textsOf(client, 'a')).toEqual(['a', 'more'])
    await client.close()
    await daemon.stop()
    const next = await fixture.connect(await fixture.start())
    await next.createVchannel('new')
  })

  test('the directory is gone: nothing more is acknowledged, and with the directory back a restart recovers it', async () => {
    const daemon = await fixture.start()
    const client = await fixture.connect(daemon)
    await filled(client)
    await rename(log, `${log}.away`)
    const lost = await client.append('a', text('lost')).catch((error: unknown) => error)
    expect(lost).toMatchObject({ code: 'IO_FAILED', message: expect.stringContaining(`the directory ${log} is gone`) })
    expect((await health(daemon))[0]!.failure).toMatchObject({ code: 'IO_FAILED', file: log })
    await expectOthersGoOn(daemon, client)
    await client.close()
    await daemon.stop()
    await rename(`${log}.away`, log)
    // Another process would find the lock of a dead one.
    const real = nodeEnvironment()
    const environment = { ...real, processes: { ...real.processes, isAlive: () => false } }
    const next = await fixture.connect(await fixture.start({}, { environment }))
    expect((await textsOf(next, 'a'))[0]).toBe('a')
    await next.append('a', text('again'))
  })

  test('the directory is gone while nothing is appended: it is noticed all the same', async () => {
    const daemon = await fixture.start()
    const client = await fixture.connect(daemon)
    await filled(client)
    await rm(log, { recursive: true })
    const logs = await until(
      () => health(daemon),
      ([first]) => first!.state === 'failed',
    )
    expect(logs[0]!.message).toContain(`the directory ${log} is gone`)
    await expectOthersGoOn(daemon, client)
  })

  test('the directory is gone at the start: no new log is begun in its place, which would give its LSNs again', async () => {
    let daemon = await fixture.start()
    let client = await fixture.connect(daemon)
    await filled(client)
    await client.close()
    await daemon.stop()
    await rename(log, `${log}.away`)
    daemon = await fixture.start()
    client = await fixture.connect(daemon)
    expect((await health(daemon))[0]).toMatchObject({
      failure: { code: 'LOG_MISSING', operation: 'open', file: log },
      message: expect.stringContaining('Nothing was begun in its place'),
    })
    expect(existsSync(log)).toBe(false)
    await expect(client.append('a', text('x'))).rejects.toMatchObject({ code: 'LOG_MISSING', outcome: 'not-written' })
    await expectOthersGoOn(daemon, client)
    // It must not look like a vchannel without records.
    await expect(textsOf(client, 'a')).rejects.toMatchObject({ code: 'LOG_MISSING' })
    await expect(client.truncate('a', 0)).rejects.toMatchObject({ code: 'LOG_MISSING' })
    await client.close()
    await daemon.stop()
    await rename(`${log}.away`, log)
    const next = await fixture.connect(await fixture.start())
    expect((await next.append('a', text('again'))).lsn).toBe(1)
  })
})
