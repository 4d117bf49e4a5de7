import { request, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { SpaceStatus } from '../../native-free-storage/index.ts'
import { createHealthServer, type HealthSources } from '../../src/daemon/http-server.ts'
import type { GroupStatus } from '../../src/streaming-node/node-service.ts'

const healthy: GroupStatus = {
  group: 0,
  name: '0',
  state: 'healthy',
  message: '',
  ownerTerm: 0,
  firstLsn: 0,
  nextLsn: 7,
  watermark: 1n,
  bytes: 4096,
  segments: 1,
  vchannels: 1,
  transactions: 0,
  throttle: 'ok',
}

describe('health over HTTP', () => {
  let server: Server
  let port: number
  let groups: GroupStatus[]
  let space: SpaceStatus | null
  let readiness: ReturnType<HealthSources['readiness']>
  let fail: boolean
  let answered: number[]

  beforeEach(async () => {
    groups = [healthy]
    space = null
    readiness = 'ready'
    fail = false
    answered = []
    server = createHealthServer({
      readiness: () => readiness,
      groups: () => groups,
      space: () => space,
      catalog: () => null,
      metrics: async () => {
        if (fail) throw new Error('a collector failed')
        return { contentType: 'text/plain', body: 'up 1\n' }
      },
      onResponse: (status) => answered.push(status),
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    port = (server.address() as AddressInfo).port
  })

  afterEach(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })

  const get = (path: string, options: { method?: string; host?: string } = {}) =>
    new Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }>((resolve, reject) => {
      const headers = { host: options.host ?? `127.0.0.1:${port}` }
      const sent = request({ port, host: '127.0.0.1', path, method: options.method ?? 'GET', headers }, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('end', () => resolve({ status: response.statusCode!, body, headers: response.headers }))
      })
      sent.on('error', reject)
      sent.end()
    })

  /** Everything that comes back for raw bytes, until the server closes. */
  const raw = (bytes: string) =>
    new Promise<string>((resolve, reject) => {
      let text = ''
      const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(bytes))
      socket.setEncoding('latin1')
      socket.on('data', (chunk: string) => {
        text += chunk
      })
      socket.on('close', () => resolve(text))
      socket.on('error', reject)
    })

  test('/healthz answers as long as the process does', async () => {
    readiness = 'draining'
    expect(await get('/healthz')).toMatchObject({ status: 200, body: '{"status":"ok"}\n' })
  })

  test('/readyz is 503 when nothing new is taken', async () => {
    expect(await get('/readyz?probe=1')).toMatchObject({ status: 200, body: '{"status":"ready"}\n' })
    readiness = 'draining'
    expect(await get('/readyz')).toMatchObject({ status: 503, body: '{"status":"draining"}\n' })
  })

  test('a disk that is nearly full is told by both; /readyz stays ready, for consumers and for truncation', async () => {
    space = { state: 'warning', message: 'filling', usedBytes: 85, freeBytes: 15, refusals: 0 }
    expect(await get('/readyz')).toMatchObject({ status: 200, body: '{"status":"ready"}\n' })
    const warned = await get('/health/data')
    expect(warned.status).toBe(200)
    expect(JSON.parse(warned.body)).toMatchObject({ status: 'healthy', space: { state: 'warning', usedBytes: 85 } })
    space = { ...space, state: 'refusing', refusals: 3 }
    expect(await get('/readyz')).toMatchObject({ status: 200, body: '{"status":"ready","space":"refusing"}\n' })
    const refusing = await get('/health/data')
    expect(refusing.status).toBe(503)
    expect(JSON.parse(refusing.body)).toMatchObject({ status: 'degraded', space: { state: 'refusing', refusals: 3 } })
  })

  test('/health/data tells the state of each log, and is 503 when one is stalled or failed', async () => {
    groups = [healthy, { ...healthy, group: 1, state: 'idle' }]
    const good = await get('/health/data')
    expect(good.status).toBe(200)
    expect(JSON.parse(good.body)).toMatchObject({
      status: 'healthy',
      logs: [{ pchannel: 0, nextLsn: 7 }, { state: 'idle' }],
    })
    groups = [healthy, { ...healthy, group: 1, state: 'failed', message: 'write failed: EIO' }]
    const bad = await get('/health/data')
    expect(bad.status).toBe(503)
    expect(JSON.parse(bad.body)).toMatchObject({
      status: 'degraded',
      logs: [{ state: 'healthy' }, { state: 'failed', message: 'write failed: EIO' }],
    })
    groups = [{ ...healthy, state: 'stalled' }]
    expect((await get('/health/data')).status).toBe(503)
  })

  test('/metrics; a collector that fails is a 500, and the next request is answered', async () => {
    expect(await get('/metrics')).toMatchObject({ status: 200, body: 'up 1\n' })
    fail = true
    expect((await get('/metrics')).status).toBe(500)
    fail = false
    expect((await get('/metrics')).status).toBe(200)
    expect(answered).toEqual([200, 500, 200])
  })

  test.each(['example.com', 'example.com:7421', '127.0.0.1.example.com', 'localhost.example.com', '10.0.0.1', '[::2]'])(
    'Host %j is refused',
    async (host) => {
      for (const path of ['/metrics', '/healthz']) expect((await get(path, { host })).status).toBe(403)
    },
  )

  test.each(['localhost', 'LOCALHOST:80', '127.0.0.1', '127.0.0.1:7421', '[::1]:7421', '[::1]'])(
    'Host %j is taken',
    async (host) => {
      expect((await get('/healthz', { host })).status).toBe(200)
    },
  )

  test('without Host: 400', async () => {
    expect(await raw('GET /healthz HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /)
    expect(await raw('GET /healthz HTTP/1.1\r\nHost:\r\n\r\n')).toMatch(/^HTTP\/1\.1 403 /)
  })

  test('only GET and HEAD, only the paths that there are', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
      expect(await get('/healthz', { method })).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } })
    }
    expect(await get('/healthz', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' })
    for (const path of ['/', '/metrics/', '/toString', '/__proto__', '/../etc/passwd']) {
      expect((await get(path)).status).toBe(404)
    }
  })

  test('a body is not read: the connection ends with the answer', async () => {
    const head = `POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n`
    expect(await raw(`${head}${'x'.repeat(10_000)}`)).toMatch(/^HTTP\/1\.1 405 .*\r\nconnection: close\r\n/is)
  })

  test('headers are bounded, and garbage ends the connection', async () => {
    expect(await raw(`GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    )
    expect(await raw('\u0000\u0001garbage\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /)
  })

  test('nothing is cached or sniffed', async () => {
    expect((await get('/healthz')).headers).toMatchObject({
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
  })
})
