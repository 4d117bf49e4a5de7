/**
 * Which vchannels there are, and on which pchannel each one lives: for ever, whatever the number of pchannels. Kept in
 * a small log of its own (one record a creation, a line of JSON, so that `dump` shows it), held in memory, durable
 * before a vchannel is used. An opening that read many small frames writes them anew in few large ones.
 */
import {
  openBodyHead,
  planBody,
  type RecordInput,
  vchannelNameFault,
  writeBody,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { CATALOG_LOG, CATALOG_VCHANNEL, catalogPayload, FRAME_ENTRIES_MAX } from '../log-store/catalog-entry.ts'
import type { AppendedRange, LogStore, LogStoreStatus } from '../log-store/log-store.ts'
import type { VchannelInfo } from './node-service.ts'

/** An opening that reads more frames than this, beyond those that the entries need, rewrites the catalog. */
const LOOSE_FRAMES_MAX = 1024
/** Creations that may wait for the disk. */
const PENDING_MAX = 65_536

export interface CatalogOptions {
  pchannels: number
  vchannelsMax: number
  nowMs: () => number
}

interface Pending {
  info: VchannelInfo
  resolve(info: VchannelInfo): void
  reject(error: unknown): void
}

export class VchannelCatalog {
  readonly #store: LogStore
  readonly #options: CatalogOptions
  readonly #entries = new Map<string, VchannelInfo>()
  /** Vchannels of each pchannel, those under way included. */
  readonly #counts: number[]
  /** Under way, by name: who asks for the same one waits for the same outcome. */
  readonly #creating = new Map<string, Promise<VchannelInfo>>()
  /** Creations whose outcome is unknown: another try has to give the same place. */
  readonly #undecided = new Map<string, VchannelInfo>()
  #pending: Pending[] = []
  #running = false
  #sorted: readonly VchannelInfo[] | null = null

  private constructor(store: LogStore, options: CatalogOptions) {
    this.#store = store
    this.#options = options
    this.#counts = new Array<number>(options.pchannels).fill(0)
  }

  /** Reads the whole catalog. @throws TidelogError DATA_DIRECTORY_INVALID when what it says cannot be. */
  static async open(store: LogStore, options: CatalogOptions): Promise<VchannelCatalog> {
    const catalog = new VchannelCatalog(store, options)
    let frames = 0
    for await (const frame of store.read({ from: 'earliest' })) {
      if (frame.kind === 'gap') {
        throw invalid(
          `LSNs ${frame.gap!.firstLsn} to ${frame.gap!.firstLsn + frame.gap!.count - 1} of the catalog are lost: vchannels may be missing`,
        )
      }
      frames++
      for (const record of frame) catalog.#load(record.lsn, record.payload)
    }
    if (frames > LOOSE_FRAMES_MAX + 2 * Math.ceil(catalog.#entries.size / FRAME_ENTRIES_MAX)) await catalog.#rewrite()
    return catalog
  }

  get size(): number {
    return this.#entries.size
  }

  get(name: string): VchannelInfo | undefined {
    return this.#entries.get(name)
  }

  /** Sorted by name (UTF-16 order). The same array until something is created. */
  list(): readonly VchannelInfo[] {
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    return this.#sorted
  }

  /** Durable vchannels and those under way on pchannel `group`. */
  count(group: number): number {
    return this.#counts[group] ?? 0
  }

  /**
   * The vchannel `name`, created if it is not there, durable when this settles. It is placed on the pchannel with the
   * fewest vchannels, of several on the lowest number, among those that `usable` lets pass.
   *
   * @throws TidelogError INVALID_ARGUMENT (the name), LIMIT_EXCEEDED (vchannelsMax), QUEUE_FULL, or what the append to
   *   the catalog's log threw.
   */
  create(name: string, usable: (group: number) => boolean): Promise<VchannelInfo> {
    const known = this.#entries.get(name)
    if (known !== undefined) return Promise.resolve(known)
    const underWay = this.#creating.get(name)
    if (underWay !== undefined) return underWay
    try {
      const info = this.#undecided.get(name) ?? this.#place(name, usable)
      const created = this.#enqueue(info)
      this.#creating.set(name, created)
      return created
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Of the catalog's own log. */
  status(): LogStoreStatus {
    return this.#store.status()
  }

  /** Settles every creation and closes the log. */
  close(): Promise<void> {
    return this.#store.close()
  }

  #load(lsn: number, payload: Uint8Array): void {
    const info = parseEntry(lsn, payload, this.#options.pchannels)
    const known = this.#entries.get(info.name)
    if (known === undefined) {
      this.#entries.set(info.name, info)
      this.#counts[info.group]! += 1
    } else if (known.group !== info.group) {
      throw invalid(`the catalog has "${info.name}" on pchannel ${known.group}, and at LSN ${lsn} on ${info.group}`)
    }
  }

  #place(name: string, usable: (group: number) => boolean): VchannelInfo {
    const fault = name === '' ? 'it is empty' : vchannelNameFault(name)
    if (fault !== null) {
      throw new TidelogError('INVALID_ARGUMENT', `the vchannel name ${JSON.stringify(name)} is refused: ${fault}`, {
        outcome: 'not-written',
      })
    }
    if (this.#entries.size + this.#creating.size + this.#undecided.size >= this.#options.vchannelsMax) {
      throw new TidelogError(
        'LIMIT_EXCEEDED',
        `there are ${this.#entries.size} vchannels; vchannels-max allows no more. "${name}" was not created.`,
        { outcome: 'not-written' },
      )
    }
    if (this.#creating.size >= PENDING_MAX) {
      throw new TidelogError('QUEUE_FULL', `${PENDING_MAX} vchannels are being created; try again later`, {
        outcome: 'not-written',
        retriable: true,
      })
    }
    let best = -1
    for (let group = 0; group < this.#counts.length; group++) {
      if (usable(group) && (best < 0 || this.#counts[group]! < this.#counts[best]!)) best = group
    }
    if (best < 0) {
      throw new TidelogError('IO_FAILED', `no pchannel can take "${name}": all of them are failed`, {
        outcome: 'not-written',
      })
    }
    this.#counts[best]! += 1
    return { name, group: best, createdMs: this.#options.nowMs() }
  }

  #enqueue(info: VchannelInfo): Promise<VchannelInfo> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ info, resolve, reject })
      if (!this.#running) void this.#run()
    })
  }

  /** Writes what waits, all of it in one frame; what comes meanwhile goes into the next. Never rejects. */
  async #run(): Promise<void> {
    this.#running = true
    while (this.#pending.length > 0) {
      const batch = this.#pending.splice(0, FRAME_ENTRIES_MAX)
      try {
        await appendEntries(
          this.#store,
          batch.map(({ info }) => info),
        )
        for (const { info, resolve } of batch) {
          this.#creating.delete(info.name)
          this.#undecided.delete(info.name)
          this.#entries.set(info.name, info)
          this.#sorted = null
          resolve(info)
        }
      } catch (error) {
        const written = error instanceof TidelogError && error.outcome === 'not-written' ? 'no' : 'unknown'
        for (const { info, reject } of batch) {
          this.#creating.delete(info.name)
          if (written === 'unknown') this.#undecided.set(info.name, info)
          else if (!this.#undecided.has(info.name)) this.#counts[info.group]! -= 1
          reject(error)
        }
      }
    }
    this.#running = false
  }

  /** Everything again in few frames, then the front goes. A crash in between leaves entries twice: they agree. */
  async #rewrite(): Promise<void> {
    const entries = this.list()
    const first = this.#store.nextLsn
    for (let index = 0; index < entries.length; index += FRAME_ENTRIES_MAX) {
      await appendEntries(this.#store, entries.slice(index, index + FRAME_ENTRIES_MAX))
    }
    await this.#store.truncateBefore(first)
  }
}

function appendEntries(store: LogStore, entries: readonly VchannelInfo[]): Promise<AppendedRange> {
  const records: RecordInput[] = entries.map(({ name, group, createdMs }) => ({
    vchannel: CATALOG_VCHANNEL,
    payload: catalogPayload({ name, pchannel: group, createdMs }),
  }))
  const plan = planBody(records)
  const bytes = Buffer.alloc(plan.bodyBytes)
  const hash = writeBody(plan, bytes, 0)
  return store.append({ bytes, hash, head: openBodyHead(bytes, bytes.length, plan.recordCount, hash) })
}

function parseEntry(lsn: number, payload: Uint8Array, pchannels: number): VchannelInfo {
  let entry: unknown
  try {
    entry = JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString('utf8'))
  } catch (cause) {
    throw invalid(`the catalog's record at LSN ${lsn} is no JSON`, cause)
  }
  const { name, pchannel, createdMs } = (entry ?? {}) as Record<string, unknown>
  if (typeof name !== 'string' || name === '' || vchannelNameFault(name) !== null) {
    throw invalid(`the catalog's record at LSN ${lsn} has no valid name`)
  }
  if (typeof pchannel !== 'number' || !Number.isInteger(pchannel) || pchannel < 0 || pchannel >= pchannels) {
    throw invalid(`the catalog has "${name}" on pchannel ${pchannel}, and there are ${pchannels} of them`)
  }
  if (typeof createdMs !== 'number') throw invalid(`the catalog's record at LSN ${lsn} has no time of creation`)
  return { name, group: pchannel, createdMs }
}

function invalid(what: string, cause?: unknown): TidelogError<'DATA_DIRECTORY_INVALID'> {
  return new TidelogError('DATA_DIRECTORY_INVALID', `${what}. Nothing was changed.`, { file: CATALOG_LOG, cause })
}
