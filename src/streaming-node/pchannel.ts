/** One pchannel of a node: its WAL, or why there is none. A failed one never takes the others down. */
import { isDiskError, type SpaceStatus } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import type { EncodedBody, LogStore, LogStoreOpener, LogStoreStatus, StoreFailure } from '../log-store/log-store.ts'
import type {
  ProducerOpened,
  Throttle,
  TxnBegun,
  TxnEnded,
  WireProducer,
  WireTransaction,
} from '../protocol/wal-messages.ts'
import type { ThrottleState as WalThrottle } from '../wal/pipeline/admission.ts'
import { Wal, type WalOptions, type WalStatistics } from '../wal/wal.ts'
import type { AppendBodyOptions, GroupStatus, LogReader, PlacedAppend } from './node-service.ts'

/** What is told of each append: for metrics. Both are called once a frame, never for each record. */
export interface AppendObserver {
  appended(pchannel: number, records: number, bytes: number, seconds: number): void
  appendFailed(pchannel: number, outcome: 'not-written' | 'unknown'): void
  /** Records that were in the log before were answered as the first time. */
  repeated(pchannel: number, records: number): void
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
  /** Of every pchannel: intervals, limits, what they share. */
  wal: Omit<WalOptions, 'name'>
  nowMs: () => number
  monotonicMs: () => number
}

export class Pchannel {
  readonly number: number
  readonly #ownerTerm: number
  readonly #store: LogStore | null
  readonly #wal: Wal | null
  readonly #failure: TidelogError | null
  readonly #parts: PchannelParts
  readonly #openedMs: number
  #inFlight = 0
  #settled: (() => void) | null = null

  private constructor(number: number, ownerTerm: number, opened: Opened | TidelogError, parts: PchannelParts) {
    this.number = number
    this.#ownerTerm = ownerTerm
    const failed = opened instanceof TidelogError
    this.#store = failed ? null : opened.store
    this.#wal = failed ? null : opened.wal
    this.#failure = failed ? opened : null
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
    let opened: Opened | TidelogError
    try {
      const store = await opener.open(String(number), ownerTerm, options)
      opened = { store, wal: await openWal(store, number, parts) }
    } catch (cause) {
      opened =
        cause instanceof TidelogError
          ? cause
          : new TidelogError('IO_FAILED', `pchannel ${number} cannot be opened: ${(cause as Error).message}`, { cause })
    }
    return new Pchannel(number, ownerTerm, opened, parts)
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

  get stirs(): number {
    return this.#store?.stirs ?? Number.NaN
  }

  watermark(shared?: bigint): bigint {
    return this.#store?.watermark(shared) ?? 0n
  }

  /** Never settles for a pchannel that could not be opened: nothing changes there. */
  changed(): Promise<void> {
    return this.#store?.changed() ?? never
  }

  append(body: EncodedBody, options: AppendBodyOptions): PlacedAppend {
    const { observer, admission, monotonicMs } = this.#parts
    const bytes = body.bytes.length
    const refusal = this.#wal === null ? this.#refusal() : (admission?.admit(bytes) ?? null)
    if (this.#wal === null || refusal !== null) {
      observer.appendFailed(this.number, 'not-written')
      return { entered: null, settled: Promise.reject(refusal) }
    }
    const startMs = monotonicMs()
    this.#inFlight++
    const { entered, settled } = this.#wal.appendBody(body, {
      ...options,
      transactionIndex: options.transactionIndex ?? undefined,
    })
    settled.then(
      ({ duplicate, duplicates }) => {
        const { recordCount } = body.head
        const repeated = duplicate ? recordCount : duplicates.length
        if (repeated > 0) observer.repeated(this.number, repeated)
        const seconds = (monotonicMs() - startMs) / 1000
        if (!duplicate) observer.appended(this.number, recordCount - repeated, bytes, seconds)
        admission?.settled(bytes)
        this.#leave()
      },
      (error: unknown) => {
        observer.appendFailed(this.number, outcomeOf(error))
        admission?.settled(bytes)
        this.#leave()
      },
    )
    return { entered, settled }
  }

  /** Its log, for reading. Throws why it could not be opened. */
  get reader(): LogReader {
    if (this.#store === null) throw this.#refusal()
    return this.#store
  }

  async begin(vchannel: string, keepaliveMs: number): Promise<TxnBegun> {
    const begun = await this.#openWal().beginTransaction(vchannel, {
      keepaliveMs: keepaliveMs === 0 ? undefined : keepaliveMs,
    })
    return { ...begun, group: this.number }
  }

  async end(transaction: number, { commit, bodies }: { commit: boolean; bodies: number }): Promise<TxnEnded> {
    const wal = this.#openWal()
    return commit ? await wal.commitTransaction(transaction, bodies) : await wal.rollbackTransaction(transaction)
  }

  transactions(): WireTransaction[] {
    return (this.#wal?.transactions() ?? []).map((transaction) => ({
      ...transaction,
      group: this.number,
      ageMs: Math.round(transaction.ageMs),
      leftMs: Math.max(0, Math.round(transaction.leftMs)),
    }))
  }

  async openProducer(vchannel: string, id: string, epoch: number | null): Promise<ProducerOpened> {
    const wal = this.#openWal()
    const opened = epoch === null ? await wal.openProducer(vchannel, id) : wal.resumeProducer(vchannel, id, epoch)
    return { ...opened, group: this.number }
  }

  producers(): WireProducer[] {
    return (this.#wal?.producers() ?? []).map((producer) => ({
      ...producer,
      group: this.number,
      lastSequence: Math.max(0, producer.lastSequence),
    }))
  }

  /** The watermark, once it is at or above `atLeast`. */
  confirmed(atLeast: bigint, signal: AbortSignal): Promise<bigint> {
    if (this.#wal === null) return Promise.reject(this.#refusal())
    return this.#wal.confirmed({ atLeast, signal })
  }

  /** What it takes by its own bounds and by those of the node: the worse of both. */
  throttle(): Throttle {
    const group = this.number
    const own: WalThrottle = this.#wal?.throttle ?? OPEN
    const shared: WalThrottle = this.#parts.wal.nodeAdmission?.state ?? OPEN
    const state = RANK[own.state] >= RANK[shared.state] ? own.state : shared.state
    const rates = [own.bytesPerSecond, shared.bytesPerSecond].filter((rate) => rate > 0)
    return { group, state, bytesPerSecond: rates.length === 0 ? 0 : Math.min(...rates) }
  }

  walFigures(): WalStatistics | null {
    return this.#wal?.status().statistics ?? null
  }

  /** Told when its own bounds change what it takes. */
  onThrottle(listener: () => void): void {
    this.#wal?.onThrottle(listener)
  }

  async truncateBefore(lsn: number): Promise<void> {
    if (this.#wal === null) throw this.#refusal()
    await this.#wal.truncateBefore(lsn)
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
    await this.#wal?.close()
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
      transactions: this.#wal?.status().statistics.transactions.open ?? 0,
      throttle: this.throttle().state,
      failure: status.failure ?? null,
    }
  }

  #openWal(): Wal {
    if (this.#wal === null) throw this.#refusal()
    return this.#wal
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

const OPEN: WalThrottle = { state: 'ok', bytesPerSecond: 0 }
const RANK = { ok: 0, slow: 1, refusing: 2 } as const

interface Opened {
  store: LogStore
  wal: Wal
}

async function openWal(store: LogStore, number: number, parts: PchannelParts): Promise<Wal> {
  try {
    return await Wal.open(store, { ...parts.wal, name: `pchannel ${number}` })
  } catch (error) {
    await store.close().catch(() => {})
    throw error
  }
}

const never = new Promise<void>(() => {})

function outcomeOf(error: unknown): 'not-written' | 'unknown' {
  return error instanceof TidelogError && error.outcome === 'not-written' ? 'not-written' : 'unknown'
}
