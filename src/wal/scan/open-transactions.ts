/**
 * The transactions that are open in a stretch of the log, as its frames are met in order: who began, where the bodies
 * stand, who ended. Of those that began before the stretch it knows the bodies in it and whether they ended in it; which
 * vchannel they are of only their begin says.
 */
import { TidelogError } from '../../errors.ts'
import type { StoreFrame } from '../../log-store/log-store.ts'
import { exclusiveScope } from '../../message/message-type.ts'
import { foldLsn } from '../transactions/transaction-hash.ts'
import { BodyRuns } from './body-runs.ts'
import { readRollback } from './control-record.ts'
import type { FrameHolder, FrameMemory } from './frame-memory.ts'
import { holdFrame } from './held-frame.ts'
import { isBody, Role, roleOf, transactionsOf, voidsOf } from './row-roles.ts'

export interface OpenTransaction extends FrameHolder {
  readonly id: number
  /** That of its begin. Of one that began before the stretch: that of its bodies, null when they are on several. */
  vchannel: string | null
  readonly runs: BodyRuns
  /** Bodies met, and `foldLsn` over them; null: not all were met in order. */
  bodies: number
  hash: bigint | null
  /** Those of the types that are delivered. */
  wanted: number
}

/** Of a frame with rows of one transaction. */
interface Bodies {
  first: number
  last: number
  bytes: number
  section: number
}

/** More are never remembered: a node lets far fewer be open at once. */
const REMEMBERED_MAX = 1_048_576
const ROW_BYTES = 16

export class OpenTransactions {
  readonly open = new Map<number, OpenTransaction>()
  /** Began before the stretch and ended in it. */
  readonly ended = new Set<number>()
  /** On these vchannels (empty: all) every transaction that had begun before the stretch was ended in it. */
  readonly endedOn = new Set<string>()
  /** Of the frame that was taken last: rows that are delivered by themselves. */
  hasVisible = false
  #from: number
  readonly #memory: FrameMemory | null
  readonly #vchannels: ReadonlySet<string> | null
  readonly #types: ReadonlySet<number> | null

  /** Null in the place of `memory`: no frame is kept. */
  constructor(
    from: number,
    wanted: { vchannels: ReadonlySet<string> | null; types: ReadonlySet<number> | null },
    memory: FrameMemory | null,
  ) {
    this.#from = from
    this.#vchannels = wanted.vchannels
    this.#types = wanted.types
    this.#memory = memory
  }

  /** LSN at which the stretch begins. */
  get from(): number {
    return this.#from
  }

  /** Takes the rows `first` to `end - 1` of a frame. Gives those that are commits, which are for the caller to end. */
  *take(frame: StoreFrame, first: number, end: number): Generator<number, void, undefined> {
    const head = frame.head!
    const transactions = transactionsOf(head)
    const isVoid = voidsOf(frame)
    const met = new Map<OpenTransaction, Bodies>()
    let isChecked = false
    let hasVisible = false
    for (let row = first; row < end; row++) {
      const section = head.vchannelIndex(row)
      const vchannel = head.vchannels[section]!
      if (this.#vchannels !== null && !this.#vchannels.has(vchannel)) continue
      if (isVoid?.(row) === true) continue
      const type = head.type(row)
      const role = roleOf(type)
      const lsn = frame.baseLsn + row
      if (role === Role.begin) this.open.set(lsn, newTransaction(lsn, vchannel, this.#memory !== null))
      else if (role === Role.rollback) this.end(readRollback(frame, row))
      else if (role === Role.commit) {
        if (!isChecked) refuseMixed(frame, lsn)
        isChecked = true
        yield row
      } else if (role === Role.exclusive) this.endAllOn(exclusiveScope(type, vchannel))
      if (!isBody(type)) continue
      const context = head.contextIndex(row)
      const isWanted = this.#types === null || this.#types.has(type)
      const id = transactions === null || context < 0 ? -1 : transactions[context]!
      if (id < 0) {
        hasVisible ||= isWanted
        continue
      }
      const transaction = this.#ofBody(id, vchannel)
      if (transaction === undefined) continue
      const bodies = met.get(transaction)
      const bytes = head.payloadLength(row) + head.propertiesLength(row) + ROW_BYTES
      transaction.bodies++
      if (isWanted) transaction.wanted++
      if (transaction.hash !== null) transaction.hash = foldLsn(transaction.hash, lsn)
      if (bodies === undefined) met.set(transaction, { first: lsn, last: lsn, bytes, section })
      else {
        bodies.last = lsn
        bodies.bytes += bytes
      }
    }
    this.#keep(frame, met)
    this.hasVisible = hasVisible
  }

  /** Null: all. */
  end(id: number | null): void {
    if (id === null) {
      this.endAllOn('')
      return
    }
    const transaction = this.open.get(id)
    if (transaction !== undefined) {
      this.open.delete(id)
      this.#memory?.release(transaction)
    }
    if (id < this.from) remember(this.ended, id)
  }

  /** On the empty vchannel: all. */
  endAllOn(vchannel: string): void {
    for (const transaction of this.open.values()) {
      if (vchannel !== '' && transaction.vchannel !== vchannel) continue
      this.open.delete(transaction.id)
      this.#memory?.release(transaction)
    }
    remember(this.endedOn, vchannel)
  }

  /** Whether one that began before the stretch is known to have ended in it. */
  hasEnded(id: number, vchannel: string | null): boolean {
    return this.ended.has(id) || this.endedOn.has('') || (vchannel !== null && this.endedOn.has(vchannel))
  }

  /** The stretch grows by the one in front of it, which ends where this one begins. */
  precede(earlier: OpenTransactions): void {
    const { open } = this
    for (const [id, transaction] of open) {
      // What would have to be open at the end of the earlier stretch, and is not, had ended before.
      const isGone =
        id >= earlier.from ? id < this.from && !earlier.open.has(id) : earlier.hasEnded(id, transaction.vchannel)
      if (isGone) open.delete(id)
    }
    for (const [id, transaction] of earlier.open) {
      if (this.hasEnded(id, transaction.vchannel)) {
        // Of one whose begin is not known those bodies alone are done with.
        if (id >= earlier.from) open.delete(id)
        continue
      }
      const later = open.get(id)
      if (later !== undefined) {
        transaction.runs.append(later.runs)
        transaction.bodies += later.bodies
        transaction.wanted += later.wanted
        transaction.hash = null
        if (id < earlier.from && transaction.vchannel !== later.vchannel) transaction.vchannel = null
      }
      open.set(id, transaction)
    }
    for (const id of this.ended) if (id >= earlier.from) this.ended.delete(id)
    for (const id of earlier.ended) remember(this.ended, id)
    for (const vchannel of earlier.endedOn) remember(this.endedOn, vchannel)
    this.#from = earlier.from
  }

  /** Undefined: the body counts for nothing, as one does on another vchannel than its begin. */
  #ofBody(id: number, vchannel: string): OpenTransaction | undefined {
    const known = this.open.get(id)
    if (id >= this.from) return known?.vchannel === vchannel ? known : undefined
    if (this.hasEnded(id, vchannel)) return undefined
    if (known !== undefined) {
      if (known.vchannel !== vchannel) known.vchannel = null
      return known
    }
    const transaction = newTransaction(id, vchannel, false)
    // Which of them count is seen when they are read again, behind the begin.
    transaction.hash = null
    this.open.set(id, transaction)
    return transaction
  }

  #keep(frame: StoreFrame, met: Map<OpenTransaction, Bodies>): void {
    for (const [transaction, { first, last, bytes, section }] of met) {
      // It may have been ended by a later row.
      if (this.open.get(transaction.id) !== transaction) continue
      transaction.runs.add(first, last)
      if (transaction.frames !== null) this.#memory?.add(transaction, holdFrame(frame, section, bytes))
    }
    met.clear()
  }
}

function newTransaction(id: number, vchannel: string, keepsFrames: boolean): OpenTransaction {
  const frames = keepsFrames ? [] : null
  return { id, vchannel, runs: new BodyRuns(), bodies: 0, hash: BigInt(id), wanted: 0, frames, heldBytes: 0 }
}

function remember<T>(set: Set<T>, value: T): void {
  if (set.size >= REMEMBERED_MAX) {
    for (const oldest of set) {
      set.delete(oldest)
      break
    }
  }
  set.add(value)
}

/** Between a commit and a record of another kind in one frame a reader could not tell which comes first. */
function refuseMixed(frame: StoreFrame, lsn: number): void {
  const head = frame.head!
  for (let row = 0; row < head.recordCount; row++) {
    const role = roleOf(head.type(row))
    if (role === Role.begin || role === Role.commit || role === Role.rollback) continue
    throw new TidelogError('TICK_ORDER', `LSN ${lsn}: a commit shares its frame with records of another kind`, { lsn })
  }
}
