/**
 * The daemon's metrics, for Prometheus. Every name stands in docs/OPERATIONS.md (a test compares). Labels are bounded:
 * a pchannel's number, a state, an error code; never a vchannel, a client or a path.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { SpaceStatus } from '../../native-free-storage/index.ts'
import type { GroupStatus } from '../streaming-node/node-service.ts'
import { registerWalMetrics, type WalSources } from './wal-metrics.ts'

/** Cumulative figures of one log's engine, read when metrics are asked for. */
export interface LogFigures {
  flushes: number
  flushSeconds: number
  rolls: number
  cuts: number
  /** Held for the disk: waiting or under way. */
  queuedBytes: number
}

export interface MetricsSources extends WalSources {
  version: string
  /** State of every pchannel. */
  groups(): readonly GroupStatus[]
  /** Of a pchannel's log; undefined where there is none. */
  logFigures(pchannel: number): LogFigures | undefined
  /** What lies in the quarantine of a pchannel's log; undefined while it is not known. */
  quarantinedBytes(pchannel: number): number | undefined
  pool(): { preparedBytes: number; misses: number }
  cacheUsedBytes(): number
  /** The file system of the data directory, as it said last. */
  space(): SpaceStatus
  ready(): boolean
}

const states = ['healthy', 'stalled', 'failed', 'idle'] as const
const spaceStates = ['unknown', 'ok', 'warning', 'refusing'] as const
/** Appends take from tens of microseconds (`os`) to seconds (a stuck disk). */
const APPEND_BUCKETS_SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30]
/** More different codes than this would be a mistake: the rest is counted as one. */
const CODES_MAX = 64
const OTHER = 'OTHER'
/** Bits of a tick below the milliseconds. */
const LOGICAL_BITS = 18n

export class DaemonMetrics {
  readonly registry = new Registry()
  readonly #codes = new Set<string>()
  readonly #records: Counter<'pchannel'>
  readonly #frames: Counter<'pchannel'>
  readonly #bytes: Counter<'pchannel'>
  readonly #seconds: Histogram<'pchannel'>
  readonly #failures: Counter<'pchannel' | 'outcome'>
  readonly #repeated: Counter<'pchannel'>
  readonly #connections: Gauge
  readonly #connectionsOpened: Counter
  readonly #connectionsClosed: Counter<'code'>
  readonly #received: Counter
  readonly #sent: Counter
  readonly #refusals: Counter<'code'>
  readonly #consumers: Gauge
  readonly #consumersClosed: Counter<'code'>
  readonly #deliveredRecords: Counter<'pchannel'>
  readonly #deliveredBytes: Counter<'pchannel'>
  readonly #httpRequests: Counter<'status'>

  constructor(sources: MetricsSources) {
    const { registry } = this
    const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
      new Counter<L>({ name, help, labelNames: [...labelNames], registers: [registry] })
    this.#records = counter('tidelog_append_records_total', 'Records appended and acknowledged.', ['pchannel'])
    this.#frames = counter('tidelog_append_frames_total', 'Frames appended and acknowledged.', ['pchannel'])
    this.#bytes = counter('tidelog_append_bytes_total', 'Bytes of the bodies of acknowledged frames.', ['pchannel'])
    this.#failures = counter(
      'tidelog_append_failures_total',
      'Frames that were not acknowledged, by what became of them.',
      ['pchannel', 'outcome'],
    )
    this.#seconds = new Histogram({
      name: 'tidelog_append_duration_seconds',
      help: 'From the receipt of a frame to its acknowledgement.',
      labelNames: ['pchannel'],
      buckets: APPEND_BUCKETS_SECONDS,
      registers: [registry],
    })
    this.#repeated = counter(
      'tidelog_append_duplicates_total',
      'Records that were in the log before and were answered as the first time.',
      ['pchannel'],
    )
    this.#connections = new Gauge({
      name: 'tidelog_connections',
      help: 'Connections that are open.',
      registers: [registry],
    })
    this.#connectionsOpened = counter('tidelog_connections_opened_total', 'Connections that were accepted.')
    this.#connectionsClosed = counter('tidelog_connections_closed_total', 'Connections that ended, by the reason.', [
      'code',
    ])
    this.#received = counter('tidelog_received_bytes_total', 'Bytes received from clients.')
    this.#sent = counter('tidelog_sent_bytes_total', 'Bytes sent to clients.')
    this.#refusals = counter('tidelog_produce_refusals_total', 'Frames answered with an error, by its code.', ['code'])
    this.#consumers = new Gauge({ name: 'tidelog_consumers', help: 'Consumers that are open.', registers: [registry] })
    this.#consumersClosed = counter('tidelog_consumers_closed_total', 'Consumers that ended, by the reason.', ['code'])
    this.#deliveredRecords = counter('tidelog_delivered_records_total', 'Records in frames sent to consumers.', [
      'pchannel',
    ])
    this.#deliveredBytes = counter('tidelog_delivered_bytes_total', 'Bytes of frames sent to consumers.', ['pchannel'])
    this.#httpRequests = counter('tidelog_http_requests_total', 'Requests to the HTTP port, by status.', ['status'])
    registerLogMetrics(registry, sources)
    registerWalMetrics(registry, sources)
    registerQuarantineMetric(registry, sources)
    registerProcessMetrics(registry, sources)
  }

  get contentType(): string {
    return this.registry.contentType
  }

  /** The exposition in Prometheus's text format. */
  render(): Promise<string> {
    return this.registry.metrics()
  }

  appended(pchannel: number, records: number, bytes: number, seconds: number): void {
    const labels = { pchannel: String(pchannel) }
    this.#records.inc(labels, records)
    this.#frames.inc(labels)
    this.#bytes.inc(labels, bytes)
    this.#seconds.observe(labels, seconds)
  }

  appendFailed(pchannel: number, outcome: 'not-written' | 'unknown'): void {
    this.#failures.inc({ pchannel: String(pchannel), outcome })
  }

  repeated(pchannel: number, records: number): void {
    this.#repeated.inc({ pchannel: String(pchannel) }, records)
  }

  connectionOpened(): void {
    this.#connections.inc()
    this.#connectionsOpened.inc()
  }

  connectionClosed(code: string): void {
    this.#connections.dec()
    this.#connectionsClosed.inc({ code: this.#bounded(code) })
  }

  bytesReceived(bytes: number): void {
    this.#received.inc(bytes)
  }

  bytesSent(bytes: number): void {
    this.#sent.inc(bytes)
  }

  /** Counted where the log acknowledges: `appended`. */
  produced(): void {}

  produceFailed(_group: number, code: string): void {
    this.#refusals.inc({ code: this.#bounded(code) })
  }

  delivered(group: number, records: number, messageBytes: number): void {
    const labels = { pchannel: String(group) }
    this.#deliveredRecords.inc(labels, records)
    this.#deliveredBytes.inc(labels, messageBytes)
  }

  consumerOpened(): void {
    this.#consumers.inc()
  }

  consumerClosed(code: string): void {
    this.#consumers.dec()
    this.#consumersClosed.inc({ code: this.#bounded(code) })
  }

  httpRequest(status: number): void {
    this.#httpRequests.inc({ status: String(status) })
  }

  #bounded(code: string): string {
    if (this.#codes.has(code)) return code
    if (this.#codes.size >= CODES_MAX) return OTHER
    this.#codes.add(code)
    return code
  }
}

/** What is read from the logs when somebody asks. */
function registerLogMetrics(registry: Registry, sources: MetricsSources): void {
  const gauge = (name: string, help: string, read: (status: GroupStatus) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['pchannel'],
      registers: [registry],
      collect() {
        for (const status of sources.groups()) this.set({ pchannel: status.name }, read(status))
      },
    })
  gauge('tidelog_log_first_lsn', 'First LSN that can be read.', (status) => status.firstLsn)
  gauge('tidelog_log_next_lsn', 'One above the last durable LSN.', (status) => status.nextLsn)
  gauge('tidelog_log_size_bytes', 'Bytes of the files of the log.', (status) => status.bytes)
  gauge('tidelog_log_segments', 'Segments of the log.', (status) => status.segments)
  gauge('tidelog_log_vchannels', 'Vchannels that live in the log.', (status) => status.vchannels)
  gauge(
    'tidelog_log_watermark_seconds',
    'The watermark: every record up to this time, in seconds since 1970, is durable and readable.',
    (status) => Number(status.watermark >> LOGICAL_BITS) / 1000,
  )
  new Gauge({
    name: 'tidelog_log_state',
    help: '1 for the state in which the log is.',
    labelNames: ['pchannel', 'state'],
    registers: [registry],
    collect() {
      for (const status of sources.groups()) {
        for (const state of states) this.set({ pchannel: status.name, state }, status.state === state ? 1 : 0)
      }
    },
  })
  const figure = (name: string, help: string, read: (figures: LogFigures) => number) =>
    new Counter({
      name,
      help,
      labelNames: ['pchannel'],
      registers: [registry],
      collect() {
        this.reset()
        for (const status of sources.groups()) {
          const figures = sources.logFigures(status.group)
          if (figures !== undefined) this.inc({ pchannel: status.name }, read(figures))
        }
      },
    })
  figure('tidelog_log_flushes_total', 'Writes of one or more frames to the disk.', (figures) => figures.flushes)
  figure('tidelog_log_flush_seconds_total', 'Time that flushes took together.', (figures) => figures.flushSeconds)
  figure('tidelog_log_rolls_total', 'Segments that were finished.', (figures) => figures.rolls)
  figure('tidelog_log_cuts_total', 'Segments that were cut after a failed or stuck write.', (figures) => figures.cuts)
  new Gauge({
    name: 'tidelog_log_queued_bytes',
    help: 'Bytes that wait for the disk or are under way.',
    labelNames: ['pchannel'],
    registers: [registry],
    collect() {
      for (const status of sources.groups()) {
        const figures = sources.logFigures(status.group)
        if (figures !== undefined) this.set({ pchannel: status.name }, figures.queuedBytes)
      }
    },
  })
}

function registerQuarantineMetric(registry: Registry, sources: MetricsSources): void {
  new Gauge({
    name: 'tidelog_log_quarantine_bytes',
    help: 'Bytes of the files in the quarantine of the log, which nothing removes but people. Measured once a minute.',
    labelNames: ['pchannel'],
    registers: [registry],
    collect() {
      for (const status of sources.groups()) {
        const bytes = sources.quarantinedBytes(status.group)
        if (bytes === undefined) this.remove({ pchannel: status.name })
        else this.set({ pchannel: status.name }, bytes)
      }
    },
  })
}

function registerProcessMetrics(registry: Registry, sources: MetricsSources): void {
  const registers = [registry]
  new Gauge({
    name: 'tidelog_build_info',
    help: 'Always 1; the labels tell the versions.',
    labelNames: ['version', 'node_version'],
    registers,
  }).set({ version: sources.version, node_version: process.version }, 1)
  const gauge = (name: string, help: string, read: () => number | Promise<number>) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await read())
      },
    })
  const counter = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  gauge('tidelog_ready', '1 while /readyz says ready.', () => (sources.ready() ? 1 : 0))
  gauge('tidelog_cache_used_bytes', 'Bytes in the write-ahead cache.', () => sources.cacheUsedBytes())
  gauge('tidelog_pool_prepared_bytes', 'Bytes of files that lie prepared.', () => sources.pool().preparedBytes)
  counter('tidelog_pool_misses_total', 'Times that a log found no prepared file.', () => sources.pool().misses)
  registerSpaceMetrics(registry, sources)
  counter('process_cpu_seconds_total', 'User and system CPU time of the process.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  gauge('process_resident_memory_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss())
  const startSeconds = Date.now() / 1000 - process.uptime()
  gauge('process_start_time_seconds', 'Start of the process, seconds since 1970.', () => startSeconds)
}

/** Of the last answer of the file system: nothing is asked when metrics are. Without an answer there is no value. */
function registerSpaceMetrics(registry: Registry, sources: MetricsSources): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: (used: number, free: number) => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const { usedBytes, freeBytes } = sources.space()
        if (usedBytes === null || freeBytes === null) this.remove()
        else this.set(read(usedBytes, freeBytes))
      },
    })
  gauge('tidelog_data_free_bytes', 'What may still be written on the file system of the data.', (_, free) => free)
  gauge(
    'tidelog_data_used_ratio',
    'Share of the file system of the data that is used, 0 to 1, as df counts it.',
    (used, free) => (used + free === 0 ? 0 : used / (used + free)),
  )
  new Gauge({
    name: 'tidelog_data_space_state',
    help: '1 for the state of the room on the file system of the data; refusing: appends are refused.',
    labelNames: ['state'],
    registers,
    collect() {
      const now = sources.space().state
      for (const state of spaceStates) this.set({ state }, state === now ? 1 : 0)
    },
  })
  new Counter({
    name: 'tidelog_data_space_refusals_total',
    help: 'Frames and new vchannels that were refused because the file system is nearly full.',
    registers,
    collect() {
      this.reset()
      this.inc(sources.space().refusals)
    },
  })
}
