/**
 * The HTTP port: health and metrics, read only. It listens on loopback, and checks the Host header all the same: a
 * page of another site, whose name its owner points at 127.0.0.1, must not read it (DNS rebinding).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { SpaceStatus } from '../../native-free-storage/index.ts'
import type { LogStoreStatus } from '../log-store/log-store.ts'
import type { GroupStatus } from '../streaming-node/node-service.ts'
import { isLoopbackHost } from './units.ts'

export interface HealthSources {
  /** Whether new records are taken; else why not, in one word. */
  readiness(): 'ready' | 'starting' | 'draining' | 'failed'
  groups(): readonly GroupStatus[]
  /** The room on the file system of the data; null before it is known. */
  space(): SpaceStatus | null
  /** The log of the vchannels; null before it is open. */
  catalog(): LogStoreStatus | null
  metrics(): Promise<{ contentType: string; body: string }>
  /** Called once a request. */
  onResponse(status: number): void
}

/** Each is small: a scrape and a few probes at a time. */
const CONNECTIONS_MAX = 64
const REQUESTS_A_CONNECTION_MAX = 1000
const HEADER_BYTES_MAX = 8 * 1024
const HEADERS_TIMEOUT_MS = 5_000
const REQUEST_TIMEOUT_MS = 10_000
const KEEP_ALIVE_TIMEOUT_MS = 60_000
const TIMEOUT_CHECK_MS = 1_000

interface Answer {
  status: number
  contentType: string
  body: string
  headers?: Record<string, string>
}

const routes: Record<string, (sources: HealthSources) => Answer | Promise<Answer>> = {
  '/healthz': () => json(200, { status: 'ok' }),
  '/readyz'(sources) {
    const status = sources.readiness()
    // Ready also while appends are refused for want of room: consumers and truncation, which makes room, have to come in.
    const refusing = sources.space()?.state === 'refusing'
    return json(status === 'ready' ? 200 : 503, refusing ? { status, space: 'refusing' } : { status })
  },
  '/health/data'(sources) {
    const logs = sources
      .groups()
      .map(({ group, state, message, failure, ownerTerm, firstLsn, nextLsn, bytes, segments }) => ({
        pchannel: group,
        state,
        message,
        failure,
        ownerTerm,
        firstLsn,
        nextLsn,
        bytes,
        segments,
      }))
    const space = sources.space()
    const catalog = sources.catalog()
    const states = [...logs.map(({ state }) => state), catalog?.state]
    const bad = states.some((state) => state === 'failed' || state === 'stalled') || space?.state === 'refusing'
    return json(bad ? 503 : 200, { status: bad ? 'degraded' : 'healthy', space, catalog, logs })
  },
  async '/metrics'(sources) {
    const { contentType, body } = await sources.metrics()
    return { status: 200, contentType, body }
  },
}

/** Not listening yet. */
export function createHealthServer(sources: HealthSources): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
      requireHostHeader: false,
    },
    (request, response) => {
      answer(request, sources)
        .catch((): Answer => json(500, { error: 'the daemon failed to answer; its log says more' }))
        .then((result) => {
          send(request, response, result)
          sources.onResponse(result.status)
        })
        // A response to somebody who is gone.
        .catch(() => response.destroy())
    },
  )
  server.maxConnections = CONNECTIONS_MAX
  server.maxRequestsPerSocket = REQUESTS_A_CONNECTION_MAX
  return server
}

async function answer(request: IncomingMessage, sources: HealthSources): Promise<Answer> {
  const { host } = request.headers
  if (host === undefined) return json(400, { error: 'a Host header is needed' })
  if (!isLoopbackHost(hostName(host))) {
    return json(403, { error: 'the Host header has to name loopback: 127.0.0.1, ::1 or localhost' })
  }
  // Neither the query nor the fragment means anything here.
  const path = request.url?.split(/[?#]/, 1)[0] ?? ''
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (route === undefined) return json(404, { error: 'not found', paths: Object.keys(routes) })
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { ...json(405, { error: 'only GET and HEAD' }), headers: { allow: 'GET, HEAD' } }
  }
  return await route(sources)
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, contentType, body, headers }: Answer,
): void {
  const hasBody = request.headers['content-length'] !== undefined || request.headers['transfer-encoding'] !== undefined
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    // A body is never read: the connection ends with the answer.
    ...(hasBody || status >= 400 ? { connection: 'close' } : {}),
    ...headers,
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function json(status: number, content: unknown): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(content)}\n` }
}

/** The name in a Host header: without port, without the brackets of IPv6. */
function hostName(host: string): string {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::\d{1,5})?$/.exec(host.trim())
  return match?.[1] ?? match?.[2] ?? ''
}
