/**
 * A streaming node: a fixed number of pchannels, each one log, and the catalog of the vchannels that live on them. It
 * knows log stores and no files, so that it runs on the engine and in memory alike.
 */
import { loadChecksum, type SpaceStatus } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { CATALOG_LOG } from '../log-store/catalog-entry.ts'
import type { EncodedBody, LogStoreOpener, LogStoreStatus } from '../log-store/log-store.ts'
import { type Logger, silentLogger } from '../observability/logger.ts'
import type {
  ProducerOpened,
  Throttle,
  TxnBegun,
  TxnEnded,
  WireProducer,
  WireTransaction,
} from '../protocol/wal-messages.ts'
import type { Admission as AdmissionBound } from '../wal/pipeline/admission.ts'
import type { WalOptions, WalStatistics } from '../wal/wal.ts'
import type {
  AppendBodyOptions,
  GroupStatus,
  LogReader,
  NodeService,
  PlacedAppend,
  VchannelInfo,
} from './node-service.ts'
import { type Admission, type AppendObserver, Pchannel } from './pchannel.ts'
import { VchannelCatalog } from './vchannel-catalog.ts'

export interface NodeOptions {
  /** Opens the logs `0` to `pchannels - 1`, and `catalog`. */
  stores: LogStoreOpener
  pchannels: number
  /** Given from outside; default 0, for a node that has its data for itself. */
  ownerTerm?: number
  /** How often connections publish the watermark; default 10. */
  timeTickIntervalMs?: number
  /** Default 100,000. */
  vchannelsMax?: number
  /** Pchannels that are opened at a time; default 4. */
  openingMax?: number
  observer?: AppendObserver
  /** Of each pchannel's WAL; `nodeAdmission` is what they share. */
  wal?: Omit<WalOptions, 'name' | 'timeTickIntervalMs'>
  /** Asked before appends and creations. Default: nobody watches the room. */
  admission?: Admission
  logger?: Logger
  clock?: { nowMs(): number; monotonicMs(): number }
}

const noObserver: AppendObserver = { appended: () => {}, appendFailed: () => {}, repeated: () => {} }
/** What the creation of a vchannel writes: one record in a frame of its own. */
const CREATION_BYTES = 1024
const systemClock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() }

export class StreamingNode implements NodeService {
  readonly timeTickIntervalMs: number
  readonly #pchannels: readonly Pchannel[]
  readonly #stores: LogStoreOpener
  readonly #catalog: VchannelCatalog
  readonly #logger: Logger
  readonly #admission: Admission | null
  readonly #usable = (group: number) => this.#pchannels[group]!.usable
  readonly #throttleListeners = new Set<(throttle: Throttle) => void>()
  #accepting = true
  #creating = 0
  #creationsSettled: (() => void)[] = []
  #closing: Promise<void> | null = null

  private constructor(
    stores: LogStoreOpener,
    pchannels: readonly Pchannel[],
    catalog: VchannelCatalog,
    timeTickIntervalMs: number,
    logger: Logger,
    admission: Admission | null,
    nodeAdmission: AdmissionBound | undefined,
  ) {
    this.#stores = stores
    this.#pchannels = pchannels
    this.#catalog = catalog
    this.timeTickIntervalMs = timeTickIntervalMs
    this.#logger = logger
    this.#admission = admission
    for (const pchannel of pchannels) pchannel.onThrottle(() => this.#throttled(pchannel))
    nodeAdmission?.onChange(() => {
      for (const pchannel of pchannels) this.#throttled(pchannel)
    })
  }

  /**
   * Opens the catalog, without which nothing goes, and the pchannels, each of which may be failed.
   *
   * @throws TidelogError what opening or reading the catalog threw.
   */
  static async open(options: NodeOptions): Promise<StreamingNode> {
    const { stores, pchannels, ownerTerm = 0, timeTickIntervalMs = 10, vchannelsMax = 100_000 } = options
    const { observer = noObserver, logger = silentLogger, clock = systemClock, openingMax = 4 } = options
    const admission = options.admission ?? null
    const wal = options.wal ?? {}
    await loadChecksum()
    const catalogStore = await stores.open(CATALOG_LOG, ownerTerm)
    const opened: Pchannel[] = []
    try {
      const catalog = await VchannelCatalog.open(catalogStore, { pchannels, vchannelsMax, nowMs: () => clock.nowMs() })
      const parts = {
        observer,
        admission,
        wal: { ...wal, timeTickIntervalMs },
        nowMs: () => clock.nowMs(),
        monotonicMs: () => clock.monotonicMs(),
      }
      let next = 0
      const openSome = async () => {
        for (let number = next++; number < pchannels; number = next++) {
          // Every log is begun before the first vchannel is placed on it.
          const mustExist = catalog.count(number) > 0
          opened[number] = await Pchannel.open(stores, number, ownerTerm, parts, { mustExist })
        }
      }
      await Promise.all(Array.from({ length: openingMax }, openSome))
      for (const { number, failure } of opened) {
        if (failure !== null)
          logger.error('pchannel failed to open; the others go on', { pchannel: number, error: failure })
      }
      return new StreamingNode(stores, opened, catalog, timeTickIntervalMs, logger, admission, wal.nodeAdmission)
    } catch (error) {
      await Promise.allSettled([catalogStore.close(), ...opened.map((pchannel) => pchannel.close())])
      throw error
    }
  }

  get accepting(): boolean {
    return this.#accepting
  }

  async resolve(vchannel: string, create: boolean): Promise<VchannelInfo> {
    const known = this.#catalog.get(vchannel)
    if (known !== undefined) return known
    if (!create) throw unknownVchannel(vchannel)
    if (!this.#accepting) throw draining()
    const refusal = this.#admission?.admit(CREATION_BYTES) ?? null
    if (refusal !== null) throw refusal
    this.#creating++
    try {
      return await this.#catalog.create(vchannel, this.#usable)
    } finally {
      this.#admission?.settled(CREATION_BYTES)
      this.#creating--
      if (this.#creating === 0) for (const settled of this.#creationsSettled.splice(0)) settled()
    }
  }

  vchannels(): readonly VchannelInfo[] {
    return this.#catalog.list()
  }

  append(group: number, body: EncodedBody, options: AppendBodyOptions): PlacedAppend {
    if (!this.#accepting) return refused(draining())
    const pchannel = this.#pchannels[group]
    if (pchannel === undefined) return refused(unknownGroup(group))
    for (const name of body.head.vchannels) {
      // The empty name speaks to every vchannel of the pchannel: that is for the node, not for one producer.
      if (this.#catalog.get(name)?.group !== group) return refused(foreignVchannel(name, group))
    }
    return pchannel.append(body, options)
  }

  reader(group: number): LogReader {
    return this.#pchannel(group).reader
  }

  nextLsn(group: number): number {
    return this.#openPchannel(group).nextLsn
  }

  firstLsn(group: number): number {
    return this.#openPchannel(group).firstLsn
  }

  changed(group: number): Promise<void> {
    return this.#pchannel(group).changed()
  }

  watermark(group: number, shared?: bigint): bigint {
    return this.#pchannel(group).watermark(shared)
  }

  stirs(group: number): number {
    return this.#pchannels[group]!.stirs
  }

  get anyStirs(): number {
    return this.#stores.stirs ?? Number.NaN
  }

  sharedTick(): bigint {
    return this.#stores.sharedTick?.() ?? 0n
  }

  async begin(vchannel: string, keepaliveMs: number): Promise<TxnBegun> {
    return await this.#writable(vchannel).begin(vchannel, keepaliveMs)
  }

  /** Also while it drains: what is open may still be committed. */
  async end(group: number, transaction: number, options: { commit: boolean; bodies: number }): Promise<TxnEnded> {
    return await this.#pchannel(group).end(transaction, options)
  }

  transactions(): readonly WireTransaction[] {
    return this.#pchannels.flatMap((pchannel) => pchannel.transactions())
  }

  async openProducer(vchannel: string, id: string, epoch: number | null): Promise<ProducerOpened> {
    return await this.#writable(vchannel).openProducer(vchannel, id, epoch)
  }

  producers(): readonly WireProducer[] {
    return this.#pchannels.flatMap((pchannel) => pchannel.producers())
  }

  confirmed(group: number, atLeast: bigint, signal: AbortSignal): Promise<bigint> {
    return this.#pchannel(group).confirmed(atLeast, signal)
  }

  /** For metrics; null where there is no WAL. */
  walFigures(group: number): WalStatistics | null {
    return this.#pchannels[group]?.walFigures() ?? null
  }

  throttle(group: number): Throttle | null {
    return this.#pchannels[group]?.throttle() ?? null
  }

  onThrottle(listener: (throttle: Throttle) => void): () => void {
    this.#throttleListeners.add(listener)
    return () => this.#throttleListeners.delete(listener)
  }

  status(): readonly GroupStatus[] {
    return this.#pchannels.map((pchannel) => pchannel.status(this.#catalog.count(pchannel.number)))
  }

  space(): SpaceStatus | null {
    return this.#admission?.status() ?? null
  }

  /** State of each pchannel, by number: cheap, for those who look often. */
  states(): readonly LogStoreStatus[] {
    return this.#pchannels.map((pchannel) => pchannel.storeStatus())
  }

  /** Of the log of the vchannels: while it is failed, none can be created. */
  catalogStatus(): LogStoreStatus {
    return this.#catalog.status()
  }

  async truncateBefore(vchannel: string, lsn: number): Promise<{ firstLsn: number }> {
    const info = this.#catalog.get(vchannel)
    if (info === undefined) throw unknownVchannel(vchannel)
    if (!this.#accepting) throw draining()
    const pchannel = this.#openPchannel(info.group)
    if (!Number.isSafeInteger(lsn) || lsn < 0 || lsn > pchannel.nextLsn) {
      throw new TidelogError(
        'INVALID_ARGUMENT',
        `LSN ${lsn} is outside of the log of "${vchannel}", which ends before ${pchannel.nextLsn}. Nothing was removed.`,
        { lsn, outcome: 'not-written' },
      )
    }
    await pchannel.truncateBefore(lsn)
    return { firstLsn: pchannel.firstLsn }
  }

  /** From now on nothing new is taken; settles when all that was taken is settled. Idempotent. */
  async drain(): Promise<void> {
    this.#accepting = false
    if (this.#creating > 0) await new Promise<void>((resolve) => this.#creationsSettled.push(resolve))
    await Promise.all(this.#pchannels.map((pchannel) => pchannel.drained()))
  }

  /** Seals and closes every log, also when one of them fails at it. Idempotent. */
  close(): Promise<void> {
    this.#accepting = false
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const closings = [...this.#pchannels.map((pchannel) => pchannel.close()), this.#catalog.close()]
    for (const [index, closed] of (await Promise.allSettled(closings)).entries()) {
      if (closed.status === 'fulfilled') continue
      const log = index < this.#pchannels.length ? String(index) : CATALOG_LOG
      this.#logger.error('a log did not close cleanly; what was acknowledged is kept', { log, error: closed.reason })
    }
  }

  #throttled(pchannel: Pchannel): void {
    const throttle = pchannel.throttle()
    for (const listener of this.#throttleListeners) listener(throttle)
  }

  /** That of a vchannel, for something new. Throws VCHANNEL_UNKNOWN, DRAINING. */
  #writable(vchannel: string): Pchannel {
    const info = this.#catalog.get(vchannel)
    if (info === undefined) throw unknownVchannel(vchannel)
    if (!this.#accepting) throw draining()
    return this.#pchannels[info.group]!
  }

  #openPchannel(group: number): Pchannel {
    const pchannel = this.#pchannel(group)
    pchannel.requireOpen()
    return pchannel
  }

  #pchannel(group: number): Pchannel {
    const pchannel = this.#pchannels[group]
    if (pchannel === undefined) throw unknownGroup(group)
    return pchannel
  }
}

function refused(error: TidelogError<string>): PlacedAppend {
  return { entered: null, settled: Promise.reject(error) }
}

function draining(): TidelogError<'DRAINING'> {
  return new TidelogError('DRAINING', 'the node is stopping and takes nothing new; try again at the next one', {
    outcome: 'not-written',
    retriable: true,
  })
}

function unknownVchannel(name: string): TidelogError<'VCHANNEL_UNKNOWN'> {
  return new TidelogError('VCHANNEL_UNKNOWN', `there is no vchannel ${JSON.stringify(name)}`, {
    outcome: 'not-written',
  })
}

function unknownGroup(group: number): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', `there is no group ${group} at this node`, { outcome: 'not-written' })
}

function foreignVchannel(name: string, group: number): TidelogError<'INVALID_BODY'> {
  return new TidelogError('INVALID_BODY', `vchannel ${JSON.stringify(name)} does not belong to group ${group}`, {
    outcome: 'not-written',
  })
}
