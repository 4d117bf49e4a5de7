import { chmod, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { connect as connectSocket, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Environment, nodeEnvironment } from '../../native-free-storage/index.ts'
import { startDaemon } from '../../src/daemon/daemon.ts'
import { createLogger } from '../../src/observability/logger.ts'
import { FaultyDisk } from '../log-store/faulty-disk.ts'
import { DaemonFixture, get, tcpAddress, testConfig, text, textsOf, until } from './open-test-daemon.ts'

describe('daemon', () => {
  let fixture: DaemonFixture

  beforeEach(async () => {
    fixture = await DaemonFixture.create()
  })

  afterEach(() => fixture.dispose())

  test('what is produced over TCP is consumed over the Unix socket, and health and metrics tell of it', async () => {
    const socket = join(fixture.directory, 'tidelog.sock')
    const daemon = await fixture.start({ socket })
    expect(daemon.addresses.socket).toBe(socket)
    const producer = await fixture.connect(daemon)
    const { lsn, timeTick } = await producer.append('orders', text('first'))
    expect(lsn).toBe(0)
    await producer.appendBatch('orders', [text('second'), text('third')])
    const consumer = await fixture.connectTo(`unix:${socket}`)
    expect(await textsOf(consumer, 'orders')).toEqual(['first', 'second', 'third'])
    expect(daemon.status()[0]).toMatchObject({ nextLsn: 3, vchannels: 1 })
    expect(daemon.status()[0]!.watermark).toBeGreaterThanOrEqual(timeTick)

    expect((await get(daemon, '/healthz')).status).toBe(200)
    expect((await get(daemon, '/readyz')).status).toBe(200)
    const health = await get(daemon, '/health/data')
    expect([health.status, JSON.parse(health.body).logs[0].nextLsn]).toEqual([200, 3])
    const metrics = (await get(daemon, '/metrics')).body
    expect(metrics).toContain('tidelog_append_records_total{pchannel="0"} 3\n')
    expect(metrics).toContain('tidelog_log_next_lsn{pchannel="0"} 3\n')
    expect(metrics).toContain('tidelog_connections 2\n')
    expect(metrics).not.toContain('orders')
  })

  test('the data directory and the socket are for their owner alone', async () => {
    await mkdir(fixture.data, { mode: 0o755 })
    await chmod(fixture.data, 0o755)
    const socket = join(fixture.directory, 's.sock')
    await fixture.start({ socket })
    expect((await stat(fixture.data)).mode & 0o777).toBe(0o700)
    expect((await stat(socket)).mode & 0o777).toBe(0o600)
  })

  test('after a stop and a start everything is where it was', async () => {
    let daemon = await fixture.start({ pchannels: 2 })
    let client = await fixture.connect(daemon)
    for (const name of ['a', 'b', 'c']) await client.append(name, text(name))
    const places = await client.vchannels()
    await client.close()
    expect(await daemon.stop()).toEqual({ clean: true })
    daemon = await fixture.start()
    expect(daemon.pchannels).toBe(2)
    client = await fixture.connect(daemon)
    expect(await client.vchannels()).toEqual(places)
    for (const name of ['a', 'b', 'c']) expect(await textsOf(client, name)).toEqual([name])
    expect((await client.append('a', text('more'))).lsn).toBe(2)
  })

  test('everything works without the kernel lock', async () => {
    const environment = nodeEnvironment()
    const daemon = await fixture.start({}, { environment })
    await expect(fixture.start({}, { environment })).rejects.toMatchObject({ code: 'LOCKED' })
    const client = await fixture.connect(daemon)
    await client.append('a', text('x'))
    expect(await textsOf(client, 'a')).toEqual(['x'])
    await client.close()
    await daemon.stop()
    expect((await fixture.start({}, { environment })).status()[0]!.nextLsn).toBe(1)
  })

  test('lines of the log tell of start and stop, and nothing is printed without a logger', async () => {
    const lines: string[] = []
    const daemon = await fixture.start({}, { logger: createLogger({ write: (line) => lines.push(line) }) })
    await daemon.stop()
    expect(lines.some((line) => line.includes(`ready listen=${daemon.addresses.tcp.host}`))).toBe(true)
    expect(lines.at(-1)).toContain('stopped clean=true')
  })

  describe('refuses to start', () => {
    test('on a directory that another daemon has', async () => {
      await fixture.start()
      await expect(fixture.start()).rejects.toMatchObject({ code: 'LOCKED' })
    })

    test('with other pchannels or another durability than the directory has', async () => {
      await (await fixture.start({ pchannels: 2 })).stop()
      await expect(fixture.start({ pchannels: 4 })).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('created with 2 pchannels'),
      })
      await expect(fixture.start({ durability: 'os' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
      await (await fixture.start({ pchannels: 2 })).stop()
    })

    test('on a port that is taken, and leaves nothing open', async () => {
      const other = createServer()
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
      const taken = { host: '127.0.0.1', port: (other.address() as { port: number }).port }
      await expect(fixture.start({ listen: taken })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
      await expect(fixture.start({ http: taken })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
      const socket = join(fixture.directory, 's.sock')
      await expect(fixture.start({ socket, listen: taken })).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
      expect(await readdir(fixture.directory)).toEqual(['data'])
      await (await fixture.start({ socket })).stop()
      await new Promise((resolve) => other.close(resolve))
    })

    test.each(['0.0.0.0', '::', '8.8.8.8', 'example.com'])('on %s, whoever gives the configuration', async (host) => {
      const open = { host, port: 0 }
      await expect(fixture.start({ listen: open })).rejects.toMatchObject({ code: 'HOST_NOT_LOOPBACK' })
      await expect(fixture.start({ http: open })).rejects.toMatchObject({ code: 'HOST_NOT_LOOPBACK' })
    })

    test('on a directory of something else, a file, or a descriptor that it cannot read; and changes nothing', async () => {
      await mkdir(fixture.data)
      await writeFile(join(fixture.data, 'thesis.tex'), 'precious')
      await expect(fixture.start()).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
      expect(await readdir(fixture.data)).toEqual(['thesis.tex'])
      const file = join(fixture.directory, 'file')
      await writeFile(file, '')
      await expect(fixture.start({ data: file })).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
      for (const [content, code] of [
        ['{', 'DATA_DIRECTORY_INVALID'],
        ['{"format":"other"}', 'DATA_DIRECTORY_INVALID'],
        ['{"format":"tidelog-data","version":1,"pchannels":0}', 'DATA_DIRECTORY_INVALID'],
        ['{"format":"tidelog-data","version":2}', 'FORMAT_UNKNOWN'],
      ] as const) {
        const data = join(fixture.directory, code)
        await mkdir(data, { recursive: true })
        await writeFile(join(data, 'tidelog.json'), content)
        await expect(fixture.start({ data })).rejects.toMatchObject({ code })
      }
    })
  })

  describe('stops', () => {
    test('drain refuses what is new, answers what was taken, and is not ready', async () => {
      const faulty = new FaultyDisk(nodeEnvironment().disk)
      const daemon = await fixture.start({}, { environment: nodeEnvironment({ disk: faulty.disk }) })
      const client = await fixture.connect(daemon)
      await client.append('a', text('before'))
      await client.createVchannel('b')
      const release = faulty.hold()
      const taken = client.append('a', text('taken'))
      await until(
        async () => daemon.status()[0]!,
        (status) => status.state !== 'idle',
      )
      const drained = daemon.drain()
      expect(await get(daemon, '/readyz')).toEqual({ status: 503, body: '{"status":"draining"}\n' })
      expect((await get(daemon, '/healthz')).status).toBe(200)
      const given = new AbortController()
      const late = client.append('b', text('late'), { signal: given.signal }).catch((error: unknown) => error)
      await until(
        async () => (await get(daemon, '/metrics')).body,
        (metrics) => /tidelog_produce_refusals_total\{code="DRAINING"\} [1-9]/.test(metrics),
      )
      await expect(fixture.connect(daemon)).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' })
      release()
      expect((await taken).lsn).toBe(1)
      await drained
      given.abort()
      expect(await late).toBeInstanceOf(Error)
      expect(await textsOf(client, 'a')).toEqual(['before', 'taken'])
      expect(await textsOf(client, 'b')).toEqual([])
      expect(await daemon.stop()).toEqual({ clean: true })
    })

    test('within its bound also when the disk is stuck, and the next start recovers', async () => {
      const real = nodeEnvironment()
      const faulty = new FaultyDisk(real.disk)
      const daemon = await fixture.start({ drainTimeoutMs: 200 }, { environment: { ...real, disk: faulty.disk } })
      const client = await fixture.connect(daemon)
      await client.append('a', text('acknowledged'))
      const release = faulty.hold()
      const stuck = client
        .append('a', text('stuck'), { signal: AbortSignal.timeout(20_000) })
        .catch((error: unknown) => error as { outcome?: string })
      await until(
        async () => daemon.status()[0]!,
        (status) => status.state !== 'idle',
      )
      const start = performance.now()
      expect(await daemon.stop()).toEqual({ clean: false })
      expect(performance.now() - start).toBeLessThan(5_000)
      await client.close()
      expect(await stuck).toMatchObject({ outcome: 'unknown' })
      release()
      // Another process would find the lock of a dead one.
      const environment: Environment = { ...real, processes: { ...real.processes, isAlive: () => false } }
      const next = await fixture.connect(await fixture.start({}, { environment }))
      expect((await textsOf(next, 'a'))[0]).toBe('acknowledged')
    })

    test('a stop is one, however often it is asked for', async () => {
      const daemon = await fixture.start()
      expect(await Promise.all([daemon.stop(), daemon.stop(), daemon.drain()])).toEqual([
        { clean: true },
        { clean: true },
        undefined,
      ])
      expect(await readdir(join(fixture.data, 'pool'))).not.toContainEqual(expect.stringMatching(/\.prep$/))
    })
  })

  describe('a pchannel that fails', () => {
    test('at its opening: it says why, the others go on', async () => {
      let daemon = await fixture.start()
      let client = await fixture.connect(daemon)
      for (const name of ['a', 'b', 'c']) await client.append(name, text(name))
      await client.close()
      await daemon.stop()
      const log = join(fixture.data, 'pchannels', '1')
      for (const name of await readdir(log)) {
        if (name.startsWith('MANIFEST-')) await writeFile(join(log, name), 'damaged')
      }
      daemon = await fixture.start()
      expect(daemon.status().map((status) => status.state === 'failed')).toEqual([false, true, false, false])
      const health = await get(daemon, '/health/data')
      expect(health.status).toBe(503)
      expect(JSON.parse(health.body).logs[1]).toMatchObject({
        state: 'failed',
        message: expect.stringContaining('MANIFEST'),
      })
      expect((await get(daemon, '/readyz')).status).toBe(200)
      client = await fixture.connect(daemon)
      await expect(client.append('b', text('x'))).rejects.toMatchObject({
        code: 'MANIFEST_DAMAGED',
        outcome: 'not-written',
      })
      await client.append('a', text('more'))
      expect(await textsOf(client, 'a')).toEqual(['a', 'more'])
      expect((await client.createVchannel('d')).group).toBe(3)
      expect((await client.createVchannel('e')).group).toBe(0)
    })

    test('at work: it is failed, stays readable, and the next start recovers it', async () => {
      const faulty = new FaultyDisk(nodeEnvironment().disk)
      const lines: string[] = []
      const logger = createLogger({ write: (line) => lines.push(line) })
      const daemon = await fixture.start({}, { environment: nodeEnvironment({ disk: faulty.disk }), logger })
      const client = await fixture.connect(daemon)
      for (const name of ['a', 'b']) await client.append(name, text(name))
      faulty.failNext()
      await expect(client.append('a', text('bad'))).rejects.toMatchObject({ outcome: 'unknown' })
      expect(daemon.status().map((status) => status.state === 'failed')).toEqual([true, false, false, false])
      await client.append('b', text('more'))
      expect(await textsOf(client, 'a')).toEqual(['a'])
      expect(await textsOf(client, 'b')).toEqual(['b', 'more'])
      expect((await get(daemon, '/metrics')).body).toContain('tidelog_log_state{pchannel="0",state="failed"} 1\n')
      await until(
        async () => lines,
        (all) => all.some((line) => line.includes('pchannel failed; the others go on pchannel=0')),
      )
      await client.close()
      await daemon.stop()
      const next = await fixture.connect(await fixture.start())
      expect((await textsOf(next, 'a'))[0]).toBe('a')
      await next.append('a', text('again'))
    })

    test('a disk that hangs makes it stalled, and well again when it goes on', async () => {
      const faulty = new FaultyDisk(nodeEnvironment().disk)
      const daemon = await fixture.start({}, { environment: nodeEnvironment({ disk: faulty.disk }) })
      const client = await fixture.connect(daemon)
      await client.append('a', text('x'))
      const release = faulty.hold()
      const stuck = client.append('a', text('y'))
      const stalled = await until(
        () => get(daemon, '/health/data'),
        ({ status }) => status === 503,
      )
      expect(JSON.parse(stalled.body).logs.map((log: { state: string }) => log.state)).toEqual([
        'stalled',
        'idle',
        'idle',
        'idle',
      ])
      release()
      await stuck
      await until(
        () => get(daemon, '/health/data'),
        ({ status }) => status === 200,
      )
    })
  })

  test('retention by bytes is applied to each pchannel while it runs', async () => {
    const daemon = await fixture.start({ segmentBytes: 64 * 1024, retentionBytes: 256 * 1024 })
    const client = await fixture.connect(daemon)
    const payload = Buffer.alloc(16 * 1024, 1)
    for (let index = 0; index < 64; index++) await client.append('a', { payload })
    await until(
      async () => {
        await client.append('a', { payload })
        return daemon.status()[0]!
      },
      ({ firstLsn, bytes }) => firstLsn > 0 && bytes < 512 * 1024,
    )
    const [oldest] = await (async () => {
      for await (const record of client.consume('a', { untilCaughtUp: true, limit: 1 })) return [record]
      return []
    })()
    expect(oldest!.lsn).toBeGreaterThan(0)
  })

  test('retention by age is applied when a segment is finished', async () => {
    const daemon = await fixture.start({ segmentBytes: 64 * 1024, retentionAgeMs: 1 })
    const client = await fixture.connect(daemon)
    const payload = Buffer.alloc(16 * 1024, 1)
    await until(
      async () => {
        await client.append('a', { payload })
        return daemon.status()[0]!
      },
      ({ firstLsn }) => firstLsn > 0,
    )
  })

  test('truncation works through the running daemon', async () => {
    const daemon = await fixture.start()
    const client = await fixture.connect(daemon)
    await client.appendBatch('a', [text('0'), text('1'), text('2')])
    expect(await client.truncate('a', 2)).toEqual({ firstLsn: 2 })
    expect(await textsOf(client, 'a')).toEqual(['2'])
    await expect(client.truncate('unheard-of', 0)).rejects.toMatchObject({ code: 'VCHANNEL_UNKNOWN' })
  })

  test('there is a limit to connections, and room again when one ends', async () => {
    const daemon = await fixture.start({ connectionsMax: 2 })
    const clients = [await fixture.connect(daemon), await fixture.connect(daemon)]
    await expect(fixture.connect(daemon)).rejects.toMatchObject({ code: 'SERVER_UNREACHABLE' })
    await clients[0]!.close()
    const again = await until(
      () => fixture.connect(daemon).catch(() => null),
      (client) => client !== null,
    )
    await again!.append('a', text('x'))
  })

  test('garbage on the port of the log ends that connection alone', async () => {
    const daemon = await fixture.start()
    const client = await fixture.connect(daemon)
    const { host, port } = daemon.addresses.tcp
    await new Promise<void>((resolve) => {
      const socket = connectSocket({ host, port }, () => socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'))
      socket.on('error', () => {})
      socket.on('close', () => resolve())
      socket.resume()
    })
    await client.append('a', text('x'))
  })

  test('the Host header is checked', async () => {
    const daemon = await fixture.start()
    for (const path of ['/metrics', '/health/data', '/readyz', '/healthz']) {
      expect((await get(daemon, path, 'attacker.example')).status).toBe(403)
      expect((await get(daemon, path, 'localhost')).status).toBe(200)
    }
  })

  test('HTTP can be switched off; localhost is an address', async () => {
    const daemon = await startDaemon({
      ...testConfig,
      data: fixture.data,
      http: null,
      listen: { host: 'localhost', port: 0 },
    })
    expect(daemon.addresses.http).toBeNull()
    const client = await fixture.connectTo(tcpAddress(daemon).replace(/\/\/.*:/, '//localhost:'))
    await client.append('a', text('x'))
    await client.close()
    await daemon.stop()
  })
})
