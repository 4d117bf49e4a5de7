/** Writing to a log in memory: appends become frames in order, flush by flush. */
import {
  type Admit,
  type BodyHead,
  type BodyPlan,
  encodeNodeSection,
  FormatError,
  openBodyHead,
  planBody,
  type RecordInput,
  writeBody,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { aborted } from './aborted.ts'
import type {
  AppendedRange,
  EncodedBody,
  LogStore,
  LogStoreReadOptions,
  LogStoreStatus,
  SnapshotStore,
  StoreAppendBodyOptions,
  StoreAppendOptions,
  StoreAppendRecordsOptions,
  StoreFrame,
} from './log-store.ts'
import { createMemoryFrame, type MemoryFrame } from './memory-frame.ts'
import type { MemoryLog } from './memory-log.ts'
import { readMemoryLog } from './memory-read.ts'
import { MemoryRoom, type RoomBounds } from './memory-room.ts'
import { LOGICAL_BITS, MAX_TICK_LEAD_MS, type MemoryTicks } from './memory-ticks.ts'

interface Pending {
  bytes: Buffer
  head: BodyHead
  hash: bigint
  nodeSection: Buffer
  barrierTick: bigint
  admit: Admit | null
  resolve(range: AppendedRange): void
  reject(error: TidelogError): void
}

interface Encoded {
  bytes: Buffer
  recordCount: number
  hash: bigint
  nodeSection: Buffer
}

const NO_BYTES = Buffer.alloc(0)

export interface MemoryStoreOptions extends RoomBounds {
  commit(pchannel: string, frames: number): Promise<void>
}

/** One opening of a log in memory; a newer one of the same log fences it. */
export class MemoryLogStore implements LogStore {
  #floor: ((lsn: number) => number) | null = null
  readonly ownerTerm: number
  readonly #log: MemoryLog
  readonly #ticks: MemoryTicks
  readonly #commit: MemoryStoreOptions['commit']
  readonly #room: MemoryRoom
  readonly #incarnation: number
  #queue: Pending[] = []
  #running: Promise<void> | null = null
  #watermark: bigint
  #stirs = 0
  /** Why nothing more is taken. */
  #ended: TidelogError | null = null
  #closing: Promise<void> | null = null

  constructor(log: MemoryLog, ticks: MemoryTicks, options: MemoryStoreOptions) {
    this.#log = log
    this.#ticks = ticks
    this.#commit = options.commit
    this.#room = new MemoryRoom(log.name, options)
    this.ownerTerm = log.ownerTerm
    this.#incarnation = log.incarnation
    this.#watermark = log.lastTimeTick
  }

  get firstLsn(): number {
    return this.#log.firstLsn
  }

  get nextLsn(): number {
    return this.#log.nextLsn
  }

  get stirs(): number {
    // An opening that is fenced learns it here.
    return this.#stop() === null ? this.#stirs : this.#stirs + 1
  }

  watermark(shared = 0n): bigint {
    const quiet = this.#running === null && this.#queue.length === 0 && this.#stop() === null
    const candidate = quiet ? (shared > 0n ? shared : this.#ticks.fresh()) : this.#log.lastTimeTick
    if (candidate > this.#watermark) this.#watermark = candidate
    return this.#watermark
  }

  changed(): Promise<void> {
    return this.#log.changed()
  }

  append(body: EncodedBody, options: StoreAppendBodyOptions = {}): Promise<AppendedRange> {
    return this.#append(options, body.bytes.length, () => {
      const { recordCount } = body.head
      const nodeSection = encodeNodeSection({ recordCount, stamps: [], voids: options.voids ?? [] })
      // The caller's buffer may be a view of a larger one, or used again.
      const bytes = Buffer.from(body.bytes)
      return { bytes, recordCount, hash: body.hash, nodeSection }
    })
  }

  appendRecords(records: readonly RecordInput[], options: StoreAppendRecordsOptions = {}): Promise<AppendedRange> {
    let plan: BodyPlan
    try {
      plan = planBody(records, undefined, options.contexts)
    } catch (error) {
      return Promise.reject(refused(error))
    }
    return this.#append(options, plan.bodyBytes, () => {
      const bytes = Buffer.alloc(plan.bodyBytes)
      const hash = writeBody(plan, bytes, 0)
      return { bytes, recordCount: plan.recordCount, hash, nodeSection: NO_BYTES }
    })
  }

  async #append(options: StoreAppendOptions, length: number, encode: () => Encoded): Promise<AppendedRange> {
    const { barrierTick = 0n, signal, admit = null } = options
    if (signal?.aborted) throw aborted(signal, 'not-written')
    this.#refuseIfStopped()
    this.#checkBarrier(barrierTick)
    const room = this.#room.take(length, signal)
    if (room !== null) await room
    const { bytes, recordCount, hash, nodeSection } = encode()
    const head = openBodyHead(bytes, length, recordCount, null)
    return await new Promise<AppendedRange>((resolve, reject) => {
      const onAbort = () => reject(aborted(signal!, 'unknown'))
      signal?.addEventListener('abort', onAbort, { once: true })
      const settled = () => signal?.removeEventListener('abort', onAbort)
      this.#queue.push({
        bytes,
        head,
        hash,
        nodeSection,
        barrierTick,
        admit,
        resolve: (range) => {
          settled()
          resolve(range)
        },
        reject: (error) => {
          settled()
          reject(error)
        },
      })
      this.#running ??= this.#run()
    })
  }

  read(options: LogStoreReadOptions): AsyncIterable<StoreFrame> {
    return readMemoryLog(this.#log, options, () => this.#stop())
  }

  setTruncationFloor(floor: ((lsn: number) => number) | null): void {
    this.#floor = floor
  }

  get snapshots(): SnapshotStore {
    const log = this.#log
    return {
      load: async () => log.snapshots(),
      save: async (lsn, bytes) => {
        this.#refuseIfStopped()
        log.addSnapshot(lsn, bytes)
      },
    }
  }

  async truncateBefore(lsn: number): Promise<void> {
    this.#refuseIfStopped()
    this.#log.truncateBefore(lsn, this.#floor)
  }

  status(): LogStoreStatus {
    const stopped = this.#stop()
    const failed = stopped !== null && stopped.code !== 'CLOSED'
    return {
      state: failed ? 'failed' : this.#running === null ? 'idle' : 'healthy',
      message: stopped === null ? '' : stopped.message,
      bytes: this.#log.bytes,
      segments: this.#log.isEmpty ? 0 : 1,
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const closed = new TidelogError('CLOSED', `log ${this.#log.name} is closed`, { outcome: 'not-written' })
    this.#room.refuse(closed)
    this.#ended ??= closed
    this.#ticks.stirs++
    // What was let in is written, also what was let in a moment ago and is not queued yet.
    while (!this.#room.isUnused) await (this.#running ?? Promise.resolve())
    this.#log.announce()
  }

  /** Null while this opening may write. */
  #stop(): TidelogError | null {
    if (this.#ended === null && this.#log.incarnation !== this.#incarnation) {
      this.#ended = new TidelogError(
        'FENCED',
        `log ${this.#log.name} was opened again at owner term ${this.#log.ownerTerm}; this opening may not write any more`,
      )
    }
    return this.#ended
  }

  #refuseIfStopped(): void {
    const stopped = this.#stop()
    if (stopped !== null) throw withOutcome(stopped, 'not-written')
  }

  #checkBarrier(barrierTick: bigint): void {
    if (barrierTick - this.#ticks.now() > BigInt(MAX_TICK_LEAD_MS) << LOGICAL_BITS) {
      throw new TidelogError(
        'TICK_TOO_FAR_AHEAD',
        `barrier tick ${barrierTick} is more than ${MAX_TICK_LEAD_MS} ms ahead of the clock`,
        { outcome: 'not-written' },
      )
    }
  }

  /** Flushes until nothing waits: what came while one flush was under way leaves with the next. */
  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const flush = this.#queue
      this.#queue = []
      await this.#flush(flush)
      this.#room.giveBack(flush.reduce((sum, { bytes }) => sum + bytes.length, 0))
    }
    this.#running = null
  }

  async #flush(flush: readonly Pending[]): Promise<void> {
    const stopped = this.#stop()
    if (stopped !== null && stopped.code !== 'CLOSED') {
      for (const pending of flush) pending.reject(withOutcome(stopped, 'not-written'))
      return
    }
    this.#stirs++
    const frames: MemoryFrame[] = []
    const placed: Pending[] = []
    let lsn = this.#log.nextLsn
    for (const pending of flush) {
      const refusal = pending.admit?.() ?? null
      if (refusal !== null) {
        pending.reject(refusal as TidelogError)
        continue
      }
      const { bytes, head, hash, nodeSection, barrierTick } = pending
      const { recordCount } = head
      const baseTimeTick = this.#ticks.take(recordCount, barrierTick)
      frames.push(createMemoryFrame({ baseLsn: lsn, baseTimeTick, recordCount, head, bytes, hash, nodeSection }))
      placed.push(pending)
      lsn += recordCount
    }
    if (placed.length === 0) return
    try {
      await this.#commit(this.#log.name, frames.length)
    } catch (cause) {
      this.#ticks.stirs++
      this.#ended = new TidelogError('POISONED', `log ${this.#log.name}: a write failed; open it again`, { cause })
      for (const pending of placed) pending.reject(withOutcome(this.#ended, 'unknown'))
      this.#room.refuse(withOutcome(this.#ended, 'not-written'))
      this.#log.announce()
      return
    }
    // A newer owner has read the log already: what it did not see may not appear behind its back.
    if (this.#log.incarnation !== this.#incarnation) {
      const fenced = this.#stop() ?? new TidelogError('FENCED', `log ${this.#log.name} has another owner`)
      for (const pending of placed) pending.reject(withOutcome(fenced, 'not-written'))
      this.#room.refuse(withOutcome(fenced, 'not-written'))
      return
    }
    for (const [index, frame] of frames.entries()) {
      this.#log.add(frame)
      placed[index]!.resolve(rangeOf(frame))
    }
    this.#log.announce()
  }
}

function rangeOf({ baseLsn, baseTimeTick, recordCount }: MemoryFrame): AppendedRange {
  const last = recordCount - 1
  return {
    firstLsn: baseLsn,
    lastLsn: baseLsn + last,
    firstTimeTick: baseTimeTick,
    lastTimeTick: baseTimeTick + BigInt(last),
  }
}

/** As the engine's: whatever is wrong with the records, nothing was written. */
function refused(error: unknown): unknown {
  return error instanceof FormatError
    ? new TidelogError(error.code as 'INVALID_ARGUMENT', error.message, { outcome: 'not-written', cause: error })
    : error
}

function withOutcome(error: TidelogError, outcome: 'not-written' | 'unknown'): TidelogError {
  return new TidelogError(error.code, error.message, { outcome, cause: error.cause })
}
