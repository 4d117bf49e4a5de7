/**
 * Makes units of the frames that a reader meets: what is visible by itself at once, a transaction at its commit, and
 * nothing of one that was rolled back or ended by an exclusive message. What it does is a function of the log alone.
 *
 * A reader may start anywhere. A commit names the LSN of its begin: what lies between that and the start is looked back
 * at when it is needed, each frame once, for assembly only. Bodies are kept in memory within a bound; of the other
 * transactions only a few ranges of LSNs are, and their bodies are read again at the commit.
 *
 * Nothing of a transaction is given before its number of bodies and their hash are those of the commit.
 */
import type { FrameGap } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import type { LogStore, LogStoreReadOptions, StoreFrame } from '../../log-store/log-store.ts'
import { exclusiveTypes, MessageType } from '../../message/message-type.ts'
import { foldLsn } from '../transactions/transaction-hash.ts'
import { type CommitFields, readCommit } from './control-record.ts'
import { FrameMemory } from './frame-memory.ts'
import { type HeldFrame, holdFrame } from './held-frame.ts'
import { type OpenTransaction, OpenTransactions } from './open-transactions.ts'
import { isBody, isPlain, transactionsOf, voidsOf } from './row-roles.ts'

export interface AssemblerOptions {
  /** As the store is read with. All when left out. */
  vchannels?: readonly string[] | undefined
  /** Types that are delivered. All when left out. With some, only bodies in frames that hold one of them are counted. */
  types?: readonly number[] | undefined
  /** Of the frames of open transactions. Default 16 MiB. */
  memoryBytes?: number | undefined
  /** Where the reader starts, when it knows: commits below are passed over. */
  fromLsn?: number | undefined
  /** It was asked to start with what is left: transactions whose begin was truncated away before are passed over. */
  fromEarliest?: boolean | undefined
  /** Commits with a smaller tick are passed over. */
  fromTick?: bigint | undefined
  signal?: AbortSignal | undefined
}

/** Has rows that are visible by themselves: all but those of system types and those of a transaction. */
export interface FrameStep {
  readonly kind: 'frame'
  readonly frame: StoreFrame
}

export interface TransactionStep {
  readonly kind: 'transaction'
  /** LSN of its begin. */
  readonly transaction: number
  /** Of the commit. */
  readonly lsn: number
  readonly timeTick: bigint
  readonly vchannel: string
  /** As the commit says, of all types. */
  readonly bodies: number
  /**
   * The frames that hold its bodies, in order; in each, the rows whose context names the transaction. Iterated once,
   * before the next step. Views of larger reads, unless `areCopies`.
   */
  readonly parts: AsyncIterable<StoreFrame>
  readonly areCopies: boolean
}

export type AssembledStep = FrameStep | TransactionStep

export interface AssemblerStatistics {
  open: number
  /** Of frames of open transactions, now and at most. */
  heldBytes: number
  heldBytesMax: number
  /** Frames that were read again for bodies that were not in memory, or lay before the start. */
  framesReadAgain: number
}

const MEMORY_BYTES = 16 * 1024 * 1024
const CONTROL_TYPES = [MessageType.beginTxn, MessageType.commitTxn, MessageType.rollbackTxn]
const ROW_BYTES = 16

interface Commit extends CommitFields {
  readonly lsn: number
  readonly timeTick: bigint
  readonly vchannel: string
}

export class TransactionAssembler {
  /** Types that the store is to be read with; undefined: all. */
  readonly readTypes: readonly number[] | undefined
  readonly #store: Pick<LogStore, 'read' | 'firstLsn'>
  readonly #options: AssemblerOptions
  readonly #wanted: { vchannels: ReadonlySet<string> | null; types: ReadonlySet<number> | null }
  readonly #memoryBytes: number
  readonly #memory: FrameMemory
  readonly #fromTick: bigint
  /** Null before the first frame of a start by tick. */
  #open: OpenTransactions | null
  /** Where `#open` began, before it was extended backwards. */
  #start = 0
  /** The first LSN that there was when it began. */
  readonly #firstLsn: number
  #framesReadAgain = 0
  /** The lost LSNs that were met last. */
  #gap: FrameGap | null = null

  constructor(store: Pick<LogStore, 'read' | 'firstLsn'>, options: AssemblerOptions = {}) {
    const { vchannels, types, fromLsn } = options
    this.#store = store
    this.#firstLsn = store.firstLsn
    this.#options = options
    // Records of the empty name belong to every vchannel.
    const names = vchannels === undefined ? null : new Set([...vchannels, ''])
    this.#wanted = { vchannels: names, types: types === undefined ? null : new Set(types) }
    this.readTypes = types === undefined ? undefined : [...new Set([...types, ...CONTROL_TYPES, ...exclusiveTypes])]
    this.#memoryBytes = options.memoryBytes ?? MEMORY_BYTES
    this.#memory = new FrameMemory(this.#memoryBytes)
    this.#fromTick = options.fromTick ?? 0n
    this.#open = null
    if (fromLsn !== undefined) this.#begin(fromLsn)
  }

  statistics(): AssemblerStatistics {
    return {
      open: this.#open?.open.size ?? 0,
      ...this.#memory.statistics,
      framesReadAgain: this.#framesReadAgain,
    }
  }

  /** Whether the frame is delivered as it is: `steps` would give it and nothing else. */
  passes(frame: StoreFrame): boolean {
    if (frame.head !== null) return isPlain(frame.head)
    this.#noteGap(frame)
    return true
  }

  /**
   * Of the frame that the reader was given behind those before. Errors: TICK_ORDER (a commit and its bodies do not fit),
   * FRAME_DAMAGED (bodies were lost with a gap), POSITION_TRUNCATED (a begin was), FRAME_INVALID, and those of reading.
   */
  async *steps(frame: StoreFrame): AsyncGenerator<AssembledStep, void, undefined> {
    if (this.passes(frame)) {
      yield { kind: 'frame', frame }
      return
    }
    const { baseLsn, baseTimeTick } = frame
    const { fromLsn = 0 } = this.#options
    const below = this.#fromTick > baseTimeTick ? Number(this.#fromTick - baseTimeTick) : 0
    // What lies below the start is looked back at like all that was not read.
    const first = Math.max(fromLsn - baseLsn, this.#open === null ? below : 0, 0)
    const open = this.#open ?? this.#begin(baseLsn + first)
    const head = frame.head!
    for (const row of open.take(frame, first, frame.recordCount)) {
      const vchannel = head.vchannels[head.vchannelIndex(row)]!
      const timeTick = baseTimeTick + BigInt(row)
      const step = await this.#commit({ ...readCommit(frame, row), lsn: baseLsn + row, timeTick, vchannel })
      if (step !== null) yield step
    }
    if (open.hasVisible) yield { kind: 'frame', frame }
  }

  #begin(fromLsn: number): OpenTransactions {
    this.#start = fromLsn
    this.#open = new OpenTransactions(fromLsn, this.#wanted, this.#memory)
    return this.#open
  }

  async #commit(commit: Commit): Promise<TransactionStep | null> {
    const open = this.#open!
    const { begin, lsn, timeTick } = commit
    if (timeTick < this.#fromTick) {
      open.end(begin)
      return null
    }
    if (begin >= lsn) throw misfit(commit, 'it names a begin behind itself')
    if (begin < open.from) await this.#lookBack(open, begin, commit)
    const transaction = begin < open.from ? undefined : open.open.get(begin)
    if (transaction === undefined) {
      open.end(begin)
      await this.#expectEnded(commit, open)
      return null
    }
    if (transaction.vchannel !== commit.vchannel) {
      throw misfit(commit, `it was begun on the vchannel ${JSON.stringify(transaction.vchannel)}`)
    }
    const { frames } = transaction
    open.end(begin)
    if (transaction.hash !== null) {
      this.#check(commit, transaction.bodies, transaction.hash)
      return this.#step(commit, transaction, frames)
    }
    return this.#step(commit, transaction, await this.#checkByReading(commit, transaction))
  }

  /** `copies`: all frames with its bodies; null: they are read again. */
  #step(commit: Commit, transaction: OpenTransaction, copies: readonly StoreFrame[] | null): TransactionStep {
    const { begin, lsn, timeTick, vchannel, bodies } = commit
    const areCopies = copies !== null
    const parts = areCopies ? eachOf(copies) : this.#partsOf(commit, transaction)
    return { kind: 'transaction', transaction: begin, lsn, timeTick, vchannel, bodies, parts, areCopies }
  }

  /** The frames with its bodies, read again. */
  async *#partsOf(commit: Commit, transaction: OpenTransaction): AsyncGenerator<StoreFrame, void, undefined> {
    let wanted = 0
    if (transaction.wanted === 0) return
    for await (const part of this.#readAgain(commit, transaction)) {
      wanted += part.wanted
      if (part.wanted > 0) yield part.frame
    }
    if (wanted !== transaction.wanted) {
      throw misfit(commit, `${wanted} of its ${transaction.wanted} bodies were there when they were read again`)
    }
  }

  /** Of one whose bodies were not met in order: gives copies of their frames where there is room for all of them. */
  async #checkByReading(commit: Commit, transaction: OpenTransaction): Promise<readonly HeldFrame[] | null> {
    let hash = BigInt(commit.begin)
    let bodies = 0
    let wanted = 0
    let copies: HeldFrame[] | null = []
    let bytes = 0
    for await (const { frame, lsns, section, bodyBytes, ...part } of this.#readAgain(commit, transaction)) {
      bodies += lsns.length
      wanted += part.wanted
      for (const lsn of lsns) hash = foldLsn(hash, lsn)
      const copy = copies === null ? null : holdFrame(frame, section, bodyBytes)
      bytes += copy?.heldBytes ?? 0
      if (copy === null || bytes > this.#memoryBytes) copies = null
      else copies?.push(copy)
    }
    this.#check(commit, bodies, hash)
    transaction.wanted = wanted
    return copies
  }

  /** Each frame with bodies of the transaction once, by the ranges in which they stand. */
  async *#readAgain(commit: Commit, { id, runs }: OpenTransaction): AsyncGenerator<PartRead, void, undefined> {
    const { vchannel } = commit
    for (const { first, last } of runs) {
      const options: LogStoreReadOptions = {
        from: { lsn: first },
        follow: false,
        ...this.#readOptions(this.#options.types),
      }
      if (vchannel !== '') options.vchannels = [vchannel]
      try {
        for await (const frame of this.#store.read(options)) {
          if (frame.baseLsn > last) break
          this.#framesReadAgain++
          const part = bodiesIn(frame, { id, vchannel }, first, this.#wanted.types)
          if (part !== null) yield part
        }
      } catch (error) {
        throw truncated(commit, error)
      }
    }
  }

  /** What lies between `begin` and what is known. */
  async #lookBack(open: OpenTransactions, begin: number, commit: Commit): Promise<void> {
    const { firstLsn } = this.#store
    const { vchannels } = this.#options
    // At least as much again as was looked back at before: however commits follow, each frame is read but a few times.
    const again = open.from - (this.#start - open.from)
    const from = Math.max(firstLsn, Math.min(begin, again))
    if (from >= open.from) return
    const earlier = new OpenTransactions(from, this.#wanted, null)
    const options: LogStoreReadOptions = { from: { lsn: from }, follow: false, ...this.#readOptions(this.readTypes) }
    if (vchannels !== undefined) options.vchannels = vchannels
    try {
      for await (const frame of this.#store.read(options)) {
        if (frame.baseLsn >= open.from) break
        this.#framesReadAgain++
        if (this.passes(frame)) continue
        const first = Math.max(0, from - frame.baseLsn)
        const end = Math.min(frame.recordCount, open.from - frame.baseLsn)
        for (const row of earlier.take(frame, first, end)) earlier.end(readCommit(frame, row).begin)
      }
    } catch (error) {
      throw truncated(commit, error)
    }
    open.precede(earlier)
  }

  /** A commit of none that is open: without effect when it had ended before, and no right log otherwise. */
  async #expectEnded(commit: Commit, open: OpenTransactions): Promise<void> {
    const { begin, lsn, vchannel } = commit
    const { firstLsn } = this.#store
    // The truncation kept its commit for the sake of an older transaction that was open, and gave it up: it keeps whole
    // what was committed behind the LSN that it was told. Who asks for what is left, does not miss it.
    if (this.#options.fromEarliest === true && begin < this.#firstLsn) return
    // One without records is missed by nobody.
    if (commit.bodies === 0 && begin < firstLsn) return
    if (begin < firstLsn || begin < open.from) {
      const message = `the transaction ${begin}, which was committed at LSN ${lsn}, is there in part: the log begins with LSN ${firstLsn}. Everything behind that commit can be read.`
      throw new TidelogError('POSITION_TRUNCATED', message, { lsn: begin, lsnFrom: lsn + 1 })
    }
    const options: LogStoreReadOptions = { from: { lsn: begin }, follow: false, ...this.#readOptions(undefined) }
    if (vchannel !== '') options.vchannels = [vchannel]
    for await (const frame of this.#store.read(options)) {
      this.#framesReadAgain++
      this.#noteGap(frame)
      if (frame.head === null || frame.baseLsn > begin) break
      const row = begin - frame.baseLsn
      const isBegin = frame.head.type(row) === MessageType.beginTxn
      if (isBegin && frame.head.vchannels[frame.head.vchannelIndex(row)] === vchannel) return
      break
    }
    throw this.#missing(commit, 'there is no begin with that LSN')
  }

  #check(commit: Commit, bodies: number, hash: bigint): void {
    const isWhole = this.#wanted.types === null || bodies === commit.bodies
    if (bodies > commit.bodies || (isWhole && bodies !== commit.bodies)) {
      throw this.#missing(commit, `it has ${bodies} bodies and the commit says ${commit.bodies}`)
    }
    if (isWhole && hash !== commit.hash) throw this.#missing(commit, 'its bodies are not those of the commit')
  }

  #missing(commit: Commit, why: string): TidelogError<string> {
    const gap = this.#gap
    const last = gap === null ? -1 : gap.firstLsn + gap.count - 1
    if (gap === null || last < commit.begin) return misfit(commit, why)
    const message = `the transaction ${commit.begin}, which was committed at LSN ${commit.lsn}, has lost records with the LSNs ${gap.firstLsn} to ${last}: ${why}. Reading can go on behind LSN ${commit.lsn}.`
    return new TidelogError('FRAME_DAMAGED', message, { lsn: commit.lsn, lsnFrom: gap.firstLsn, lsnTo: last })
  }

  #noteGap({ gap }: StoreFrame): void {
    if (gap !== null && gap.reason === 'lost') this.#gap = gap
  }

  #readOptions(types: readonly number[] | undefined): { types?: readonly number[]; signal?: AbortSignal } {
    const { signal } = this.#options
    return { ...(types === undefined ? {} : { types }), ...(signal === undefined ? {} : { signal }) }
  }
}

interface PartRead {
  readonly frame: StoreFrame
  /** Bodies of the types that are delivered. */
  readonly wanted: number
  /** Of all bodies. */
  readonly lsns: readonly number[]
  /** Index of the vchannel's section. */
  readonly section: number
  /** Of the bodies, with their rows. */
  readonly bodyBytes: number
}

/** Null: it has none from `first` on. */
function bodiesIn(
  frame: StoreFrame,
  { id, vchannel }: { id: number; vchannel: string },
  first: number,
  types: ReadonlySet<number> | null,
): PartRead | null {
  const { head, baseLsn } = frame
  const transactions = head === null ? null : transactionsOf(head)
  if (head === null || transactions === null || !transactions.includes(id)) return null
  const isVoid = voidsOf(frame)
  const lsns: number[] = []
  let section = -1
  let bodyBytes = 0
  let wanted = 0
  for (let row = Math.max(0, first - baseLsn); row < head.recordCount; row++) {
    const context = head.contextIndex(row)
    if (context < 0 || transactions[context] !== id || isVoid?.(row) === true || !isBody(head.type(row))) continue
    if (head.vchannels[head.vchannelIndex(row)] !== vchannel) continue
    lsns.push(baseLsn + row)
    if (types === null || types.has(head.type(row))) wanted++
    section = head.vchannelIndex(row)
    bodyBytes += head.payloadLength(row) + head.propertiesLength(row) + ROW_BYTES
  }
  return section < 0 ? null : { frame, wanted, lsns, section, bodyBytes }
}

async function* eachOf(frames: readonly StoreFrame[]): AsyncGenerator<StoreFrame, void, undefined> {
  yield* frames
}

function truncated(commit: Commit, error: unknown): unknown {
  if (!(error instanceof TidelogError) || error.code !== 'POSITION_TRUNCATED') return error
  const message = `the transaction ${commit.begin}, which was committed at LSN ${commit.lsn}, is there in part: ${error.message}`
  return new TidelogError('POSITION_TRUNCATED', message, { lsn: commit.begin, lsnFrom: error.lsnFrom, cause: error })
}

function misfit({ begin, lsn }: Commit, why: string): TidelogError<string> {
  const message = `LSN ${lsn} commits the transaction ${begin}, which does not fit: ${why}`
  return new TidelogError<string>('TICK_ORDER', message, { lsn, lsnFrom: begin, lsnTo: lsn })
}
