/**
 * What the users of a simulated log know: what they submitted, what was acknowledged, what they read and were told. The
 * invariants of a log are checked against it, after a crash and at the end.
 */
import type { AppendOptions, Log, LogRecord, TidelogError } from '../../native-free-storage/index.ts'
import type { AppendResult } from '../../native-free-storage/log/pending-frame.ts'

export type Outcome = 'pending' | 'acknowledged' | 'not-written' | 'unknown'

/** One append: a record alone or a batch. Its records have the ids from `firstId` on. */
export interface Submission {
  readonly firstId: number
  readonly count: number
  /** Of the opening of the log that took it. */
  readonly epoch: number
  outcome: Outcome
  firstLsn: number
  firstTimeTick: bigint
}

interface SubmittedRecord {
  vchannel: string
  type: number
  properties: Record<string, string>
  payload: Buffer
}

export interface FoundRecord {
  id: number
  lsn: number
  timeTick: bigint
}

export interface FoundLog {
  records: FoundRecord[]
  gaps: { firstLsn: number; count: number; reason: string }[]
  firstLsn: number
  nextLsn: number
}

/** A broken invariant, in words. */
export class BrokenInvariant extends Error {
  constructor(what: string) {
    super(`broken: ${what}`)
    this.name = 'BrokenInvariant'
  }
}

export function demand(condition: boolean, what: () => string): asserts condition {
  if (!condition) throw new BrokenInvariant(what())
}

/** The record of an id: always the same bytes, so that it need not be kept. */
export function recordOf(id: number, bytes: number): SubmittedRecord {
  const payload = Buffer.alloc(Math.max(8, bytes), (id * 37 + 11) & 0xff)
  payload.writeUInt32LE(id, 0)
  payload.writeUInt32LE(bytes, 4)
  return {
    // Some belong to every vchannel.
    vchannel: id % 13 === 12 ? '' : `v${id % 3}`,
    type: id % 5 === 4 ? 32_768 + id : 0,
    properties: id % 4 === 1 ? { id: String(id) } : {},
    payload,
  }
}

export class Ledger {
  submissions: Submission[] = []
  epoch = 0
  nextId = 0
  /** Nothing at or above it was asked to be removed. Infinity: retention may remove all that it likes. */
  askedFirstLsn = 0
  /** A truncation up to here was acknowledged. */
  firstLsn = 0
  /** The greatest watermark that was given, and the LSN behind all that was readable then. */
  watermark = { tick: 0n, nextLsn: 0 }
  lastTold = { epoch: 0, tick: 0n }
  /** Ticks that somebody knows of an earlier opening: none at or below it is given again. */
  #knownTick = 0n
  /** What stands at an LSN, since somebody was told so. */
  known = new Map<number, FoundRecord>()
  /** At durability `os` power was lost: what was acknowledged before may be gone, and a recorded gap in its place. */
  mayLoseBelow = 0
  /** Stored ticks that were acknowledged, and the LSN that was to come then. */
  storedTicks: { tick: bigint; nextLsn: number }[] = []
  #failedEpochs = new Set<number>()

  copy(): Ledger {
    const copy = new Ledger()
    Object.assign(copy, this)
    copy.submissions = this.submissions.map((submission) => ({ ...submission }))
    copy.#failedEpochs = new Set(this.#failedEpochs)
    copy.known = new Map(this.known)
    copy.storedTicks = [...this.storedTicks]
    copy.#knownTick = this.#knownTick
    return copy
  }

  /** The log is opened anew. */
  nextEpoch(): number {
    for (const { timeTick } of this.known.values()) if (timeTick > this.#knownTick) this.#knownTick = timeTick
    const { tick = 0n } = this.storedTicks.at(-1) ?? {}
    if (tick > this.#knownTick) this.#knownTick = tick
    return ++this.epoch
  }

  /** How many appends of an opening have which outcome. */
  countOf(epoch: number): Record<Outcome, number> {
    const counts = { pending: 0, acknowledged: 0, 'not-written': 0, unknown: 0 }
    for (const submission of this.submissions) if (submission.epoch === epoch) counts[submission.outcome]++
    return counts
  }

  /** Appends to the log; settles when the append does, whatever its outcome. */
  async submit(
    log: Log,
    sizes: readonly number[],
    epoch = this.epoch,
    options?: AppendOptions,
  ): Promise<TidelogError | null> {
    const submission: Submission = {
      firstId: this.nextId,
      count: sizes.length,
      epoch,
      outcome: 'pending',
      firstLsn: -1,
      firstTimeTick: 0n,
    }
    this.submissions.push(submission)
    this.nextId += sizes.length
    const records = sizes.map((bytes, index) => recordOf(submission.firstId + index, bytes))
    let result: AppendResult
    try {
      result = await log.append(records, options)
    } catch (error) {
      const { outcome } = error as TidelogError
      demand(outcome !== undefined, () => `an append failed without an outcome: ${error}`)
      submission.outcome = outcome
      const { code } = error as TidelogError
      if (code === 'POISONED' || code === 'FENCED') this.#failedEpochs.add(epoch)
      return error as TidelogError
    }
    demand(!this.#failedEpochs.has(epoch), () => `record ${submission.firstId} was acknowledged after a failure`)
    submission.outcome = 'acknowledged'
    submission.firstLsn = result.firstLsn
    submission.firstTimeTick = result.firstTimeTick
    demand(result.lastLsn === result.firstLsn + sizes.length - 1, () => `${sizes.length} records got other LSNs`)
    for (let index = 0; index < sizes.length; index++) {
      const lsn = result.firstLsn + index
      const record = { id: submission.firstId + index, lsn, timeTick: result.firstTimeTick + BigInt(index) }
      const before = this.known.get(lsn)
      demand(before === undefined || before.id === record.id, () => `LSN ${lsn} was given twice`)
      demand(epoch < this.epoch || record.timeTick > this.#knownTick, () => {
        return `LSN ${lsn} got the tick ${record.timeTick}, although ${this.#knownTick} was known before`
      })
      demand(record.timeTick > this.watermark.tick || lsn < this.watermark.nextLsn, () => {
        return `LSN ${lsn} got the tick ${record.timeTick}, below the watermark ${this.watermark.tick}`
      })
      this.known.set(lsn, record)
    }
    return null
  }

  /** Stores a time tick; settles when that does, whatever its outcome. */
  async submitTick(log: Log): Promise<void> {
    try {
      const tick = await log.appendTick()
      const { tick: before = 0n } = this.storedTicks.at(-1) ?? {}
      demand(tick > before, () => `the tick ${tick} was stored behind ${before}`)
      this.storedTicks.push({ tick, nextLsn: log.nextLsn })
    } catch (error) {
      demand((error as TidelogError).outcome !== undefined, () => `a tick failed without an outcome: ${error}`)
    }
  }

  tellWatermark(log: Log, epoch = this.epoch): void {
    const tick = log.watermark()
    // A new owner begins below it, and says so by a tick that its consumers know already.
    demand(epoch !== this.lastTold.epoch || tick >= this.lastTold.tick, () => {
      return `the watermark went back from ${this.lastTold.tick} to ${tick}`
    })
    this.lastTold = { epoch, tick }
    if (tick > this.watermark.tick) this.watermark = { tick, nextLsn: log.nextLsn }
  }

  async truncate(log: Log, lsn: number): Promise<void> {
    this.askedFirstLsn = Math.max(this.askedFirstLsn, lsn)
    await log.truncateBefore(lsn)
    this.firstLsn = Math.max(this.firstLsn, lsn)
  }

  /** A record was read by somebody: it has to stay. */
  noteRead(record: FoundRecord): void {
    const before = this.known.get(record.lsn)
    demand(before === undefined || before.id === record.id, () => {
      return `LSN ${record.lsn} was record ${before?.id}, and record ${record.id} is read`
    })
    demand(record.id < this.nextId, () => `LSN ${record.lsn} holds a record that nobody submitted`)
    this.known.set(record.lsn, record)
  }

  /** Reads the whole log and checks it against all that is known. What was read is known afterwards. */
  async check(log: Log, tailMayWait = false): Promise<FoundLog> {
    const found = await readAll(log)
    this.checkFound(found, tailMayWait)
    for (const record of found.records) this.known.set(record.lsn, record)
    return found
  }

  /** `tailMayWait`: what stands behind the end of the log waits for room on the disk. */
  checkFound(found: FoundLog, tailMayWait = false): void {
    const { records, gaps, firstLsn, nextLsn } = found
    demand(firstLsn >= this.firstLsn, () => `truncated before ${this.firstLsn}, yet the log begins at ${firstLsn}`)
    demand(firstLsn <= this.askedFirstLsn, () => `the log begins at ${firstLsn}; asked was ${this.askedFirstLsn}`)

    // Dense but for recorded gaps.
    let expected = firstLsn
    let lastTick = 0n
    const skipped = [...gaps]
    const skip = (upTo: number): void => {
      while (skipped[0] !== undefined && skipped[0].firstLsn <= Math.max(upTo, expected)) {
        const gap = skipped.shift()!
        const end = gap.firstLsn + gap.count
        demand(gap.firstLsn <= expected && end >= expected, () => `a gap at ${gap.firstLsn}, expected was ${expected}`)
        expected = end
      }
    }
    const byLsn = new Map<number, FoundRecord>()
    let lastId = -1
    for (const record of records) {
      skip(expected)
      demand(record.lsn === expected, () => `LSN ${expected} was to follow, ${record.lsn} came`)
      demand(record.timeTick > lastTick, () => `the tick of LSN ${record.lsn} does not grow`)
      demand(record.id > lastId, () => `record ${record.id} stands behind record ${lastId}`)
      demand(record.id < this.nextId, () => `LSN ${record.lsn} holds a record that nobody submitted`)
      demand(record.timeTick > this.watermark.tick || record.lsn < this.watermark.nextLsn, () => {
        return `LSN ${record.lsn} with tick ${record.timeTick} came after the watermark ${this.watermark.tick}`
      })
      byLsn.set(record.lsn, record)
      lastId = record.id
      lastTick = record.timeTick
      expected = record.lsn + 1
    }
    skip(Number.MAX_SAFE_INTEGER)
    demand(expected === nextLsn, () => `the log ends at ${nextLsn}, its records at ${expected}`)

    for (const known of this.known.values()) {
      if (known.lsn < firstLsn) continue
      const here = byLsn.get(known.lsn)
      if (here === undefined && (known.lsn < this.mayLoseBelow || (tailMayWait && known.lsn >= nextLsn))) continue
      demand(here !== undefined, () => `LSN ${known.lsn} (record ${known.id}), which was acknowledged or read, is gone`)
      demand(here.id === known.id, () => `LSN ${known.lsn} was record ${known.id}, and is ${here.id}`)
      demand(here.timeTick === known.timeTick, () => `the tick of LSN ${known.lsn} has changed`)
    }
    this.#checkPrefix(byLsn, firstLsn)
    this.#checkTicks(records)
  }

  /** Whatever becomes of a stored tick: every record has a smaller one, or came behind it and has a greater one. */
  #checkTicks(records: readonly FoundRecord[]): void {
    let at = 0
    for (const { tick, nextLsn } of this.storedTicks) {
      while (at < records.length && records[at]!.timeTick < tick) at++
      const behind = records[at]
      demand(behind === undefined || behind.timeTick > tick, () => `the tick ${tick} was given to a record, too`)
      // Several appends may be acknowledged together: those before it were durable with it.
      demand(at === 0 || records[at - 1]!.lsn < nextLsn, () => {
        return `LSN ${records[at - 1]!.lsn} came behind the stored tick ${tick}, and has a smaller one`
      })
    }
  }

  /** Of each opening of the log, what survives is a prefix of what it took. */
  #checkPrefix(byLsn: ReadonlyMap<number, FoundRecord>, firstLsn: number): void {
    const ids = new Set<number>()
    for (const { id } of byLsn.values()) ids.add(id)
    const firstId = byLsn.get(firstLsn)?.id ?? 0
    let missingEpoch = -1
    for (const submission of this.submissions) {
      const { firstId: from, count, epoch, outcome } = submission
      let present = 0
      for (let id = from; id < from + count; id++) if (ids.has(id)) present++
      if (outcome === 'not-written') {
        demand(present === 0, () => `record ${from} was refused as not written, and is there`)
        continue
      }
      if (from < firstId || ids.size === 0) continue
      demand(present === 0 || present === count, () => `${present} of the ${count} records from ${from} are there`)
      if (present === 0) {
        // Refused with "unknown": what came later was told apart by its caller.
        if (outcome !== 'unknown') missingEpoch = epoch
      } else demand(missingEpoch !== epoch, () => `record ${from} survived, and one before it did not`)
    }
  }
}

const readAheadBytes = 64 * 1024

export async function readAll(log: Log): Promise<FoundLog> {
  const found: FoundLog = { records: [], gaps: [], firstLsn: log.firstLsn, nextLsn: log.nextLsn }
  for await (const frame of log.read({ gaps: true, readAheadBytes })) {
    if (frame.gap !== null) found.gaps.push(frame.gap)
    for (const record of frame) found.records.push(identified(record))
  }
  return found
}

/** Which record it is; it has to be that one in every byte. */
export function identified(record: LogRecord): FoundRecord {
  const payload = Buffer.from(record.payload)
  demand(payload.length >= 8, () => `LSN ${record.lsn} holds ${payload.length} bytes`)
  const id = payload.readUInt32LE(0)
  const expected = recordOf(id, payload.readUInt32LE(4))
  const same =
    expected.payload.equals(payload) &&
    expected.vchannel === record.vchannel &&
    expected.type === record.type &&
    JSON.stringify(expected.properties) === JSON.stringify({ ...record.properties })
  demand(same, () => `LSN ${record.lsn} is not record ${id} as it was submitted`)
  return { id, lsn: record.lsn, timeTick: record.timeTick }
}
