/** One pchannel of a node: its log, or why there is none. A failed one never takes the others down. */
import { isDiskError, type SpaceStatus } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type {
  AppendedRange,
  EncodedBody,
  LogStore,
  LogStoreOpener,
  LogStoreReadOptions,
  LogStoreStatus,
  StoreFailure,
  StoreFrame,
} from '../log-store/log-store.ts'
import type { GroupStatus } from './node-service.ts'

/** What is told of each append: for metrics. Both are called once a frame, never for each record. */
export interface AppendObserver {
  appended(pchannel: number, records: number, bytes: number, seconds: number): void
  appendFailed(pchannel: number, outcome: 'not-written' | 'unknown'): void
}

/** Says whether there is room for more: the engine's `SpaceWatch`. Asked once a frame. */
export interface Admission {
  /** Null, or why not: an error that says `not-written`. After null, `settled` is told once. */
  admit(bytes: number): TidelogError | null
  settled(bytes: number): void
  status(): SpaceStatus
}

/** What a pchannel needs besides its log. */
export interface PchannelParts {
  observer: AppendObserver
  /** Null: nobody watches the room. */
  admission: Admission | null
  nowMs: () => number
  monotonicMs: () => number
}

export class Pchannel {
  readonly number: number
  readonly #ownerTerm: number
  readonly #store: LogStore | null
  readonly #failure: TidelogError | null
  readonly #parts: PchannelParts
  readonly #openedMs: number
  #inFlight = 0
  #settled: (() => void) | null = null

  private constructor(number: number, ownerTerm: number, store: LogStore | TidelogError, parts: PchannelParts) {
    this.number = number
    this.#ownerTerm = ownerTerm
    this.#store = store instanceof TidelogError ? null : store
    this.#failure = store instanceof TidelogError ? store : null
    this.#parts = parts
    this.#openedMs = parts.nowMs()
  }

  /** Never rejects: a log that cannot be opened makes a failed pchannel. */
  static async open(
    opener: LogStoreOpener,
    number: number,
    ownerTerm: number,
    parts: PchannelParts,
    options: { mustExist?: boolean } = {},
  ): Promise<Pchannel> {
    let store: LogStore | TidelogError
    try {
      store = await opener.open(String(number), ownerTerm, options)
    } catch (cause) {
      store =
        cause instanceof TidelogError
          ? cause
          : new TidelogError('IO_FAILED', `pchannel ${number} cannot be opened: ${(cause as Error).message}`, { cause })
    }
    return new Pchannel(number, ownerTerm, store, parts)
  }

  /** Why the log could not be opened. */
  get failure(): TidelogError | null {
    return this.#failure
  }

  get firstLsn(): number {
    return this.#store?.firstLsn ?? 0
  }

  get nextLsn(): number {
    return this.#store?.nextLsn ?? 0
  }

  /** Throws why the log could not be opened: it must not look like one without records. */
  requireOpen(): void {
    if (this.#store === null) throw this.#refusal()
  }

  get usable(): boolean {
    return this.#store !== null && this.#store.status().state !== 'failed'
  }

  watermark(shared?: bigint): bigint {
    return this.#store?.watermark(shared) ?? 0n
  }

  /** Never settles for a pchannel that could not be opened: nothing changes there. */
  changed(): Promise<void> {
    return this.#store?.changed() ?? never
  }

  append(body: EncodedBody, options: { barrierTick?: bigint; signal?: AbortSignal }): Promise<AppendedRange> {
    const { observer, admission, monotonicMs } = this.#parts
    const bytes = body.bytes.length
    const refusal = this.#store === null ? this.#refusal() : (admission?.admit(bytes) ?? null)
    if (this.#store === null || refusal !== null) {
      observer.appendFailed(this.number, 'not-written')
      return Promise.reject(refusal)
    }
    const startMs = monotonicMs()
    this.#inFlight++
    const appended = this.#store.append(body, options)
    appended.then(
      (range) => {
        const records = range.lastLsn - range.firstLsn + 1
        observer.appended(this.number, records, bytes, (monotonicMs() - startMs) / 1000)
        admission?.settled(bytes)
        this.#leave()
      },
      (error: unknown) => {
        observer.appendFailed(this.number, outcomeOf(error))
        admission?.settled(bytes)
        this.#leave()
      },
    )
    return appended
  }

  read(options: LogStoreReadOptions): AsyncIterable<StoreFrame> {
    if (this.#store === null) throw this.#refusal()
    return this.#store.read(options)
  }

  async truncateBefore(lsn: number): Promise<void> {
    if (this.#store === null) throw this.#refusal()
    await this.#store.truncateBefore(lsn)
  }

  /** Settles when no append is under way. */
  async drained(): Promise<void> {
    while (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        const before = this.#settled
        this.#settled = () => {
          before?.()
          resolve()
        }
      })
    }
  }

  async close(): Promise<void> {
    await this.#store?.close()
  }

  /** State and size alone: unlike `status`, it takes no tick, and so never makes an idle node write its lease. */
  storeStatus(): LogStoreStatus {
    if (this.#store !== null) return this.#store.status()
    const { code, message, file, cause } = this.#failure!
    const since = new Date(this.#openedMs).toISOString()
    const disk = isDiskError(cause) ? cause : null
    const failure: StoreFailure = {
      code,
      sinceMs: this.#openedMs,
      operation: disk?.operation ?? 'open',
      file: disk?.path ?? file ?? null,
      errno: disk?.code ?? null,
    }
    return { state: 'failed', message: `${code} since ${since}: ${message}`, bytes: 0, segments: 0, failure }
  }

  status(vchannels: number): GroupStatus {
    const store = this.#store
    const status = this.storeStatus()
    return {
      group: this.number,
      name: String(this.number),
      state: status.state,
      message: status.message,
      ownerTerm: store?.ownerTerm ?? this.#ownerTerm,
      firstLsn: this.firstLsn,
      nextLsn: this.nextLsn,
      watermark: this.watermark(),
      bytes: status.bytes,
      segments: status.segments,
      vchannels,
      transactions: 0,
      throttle: 'ok',
      failure: status.failure ?? null,
    }
  }

  #leave(): void {
    this.#inFlight--
    if (this.#inFlight > 0) return
    const settled = this.#settled
    this.#settled = null
    settled?.()
  }

  /** A new error for each call: who catches one may hold on to it. */
  #refusal(): TidelogError {
    const { code, message, file, position, lsn, lsnFrom, lsnTo } = this.#failure!
    return new TidelogError(code, `pchannel ${this.number} is failed: ${message}`, {
      file,
      position,
      lsn,
      lsnFrom,
      lsnTo,
      outcome: 'not-written',
      cause: this.#failure,
    })
  }
}

const never = new Promise<void>(() => {})

function outcomeOf(error: unknown): 'not-written' | 'unknown' {
  return error instanceof TidelogError && error.outcome === 'not-written' ? 'not-written' : 'unknown'
}
