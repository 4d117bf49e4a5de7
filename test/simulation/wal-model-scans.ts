/** Commands: truncation, scans, and one that stays. */
import { expect } from 'vitest'
import type { ScanFrom } from '../../src/wal/types.ts'
import { expectedUnits, type Filters } from '../wal/scan/log-script.ts'
import { collect, unitsOf } from '../wal/scan/scanned-units.ts'
import { demand } from './log-ledger.ts'
import { pick, WalStep } from './wal-command.ts'
import { type ExpectedUnit, mustBe, type WalModel } from './wal-model.ts'

export class Truncate extends WalStep {
  readonly #share: number
  constructor(share: number) {
    super()
    this.#share = share
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const { wal } = model
    const asked = Math.floor((this.#share * (wal.nextLsn + 1)) / 1_000)
    const before = wal.firstLsn
    await wal.truncateBefore(asked)
    const { firstLsn } = wal
    demand(firstLsn >= before && firstLsn <= Math.max(before, asked), () => `truncated to ${firstLsn}, not ${asked}`)
    const oldest = Math.min(...model.openTransactions().map(({ handle }) => handle.id))
    demand(firstLsn <= Math.max(before, oldest), () => `an open transaction of ${oldest} is cut at ${firstLsn}`)
    model.firstLsn = firstLsn
    // Whoever asked still reads all from there.
    const cut = model.units.findLast((each) => model.isCut(each))?.lsn ?? -1
    const lsn = Math.max(asked, firstLsn, cut < before ? 0 : cut + 1)
    demand(cut < asked || before > 0, () => `LSN ${cut} is cut by a truncation to ${asked}`)
    mustBe(unitsOf(await collect(wal.scan({ from: { lsn } }))), expectedUnits(model.units, { lsn }, {}))
    if (firstLsn === 0) return
    const below = (async () => collect(wal.scan({ from: { lsn: firstLsn - 1 } })))()
    await expect(below).rejects.toEqual(expect.objectContaining({ code: 'POSITION_TRUNCATED' }))
    if (model.follower !== undefined && model.follower.nextLsn < firstLsn) await endFollower(model)
  }

  override toString = () => `truncate(${this.#share})`
}

export interface DrawnScan {
  from: number
  by: 'lsn' | 'after' | 'unit' | 'skip' | 'tick'
  vchannels: string[] | undefined
  types: number[] | undefined
  after: number | undefined
  fromTick: number | undefined
  /** Items after which it is begun again at the position that was reached. */
  resumeEach: number
}

export class Scan extends WalStep {
  readonly #drawn: DrawnScan
  constructor(drawn: DrawnScan) {
    super()
    this.#drawn = drawn
  }

  async act(model: WalModel): Promise<void> {
    const { wal, firstLsn, choices } = model
    const { by, vchannels, types, resumeEach } = this.#drawn
    const units = model.visible()
    const tickAt = (share: number) => pick(units, share)?.timeTick ?? 0n
    const filters: Filters = { vchannels, types }
    if (this.#drawn.after !== undefined) filters.afterTick = tickAt(this.#drawn.after)
    if (this.#drawn.fromTick !== undefined) filters.fromTick = tickAt(this.#drawn.fromTick)
    const { cut, lowest, lsn } = startOf(model, this.#drawn.from)
    if (cut !== undefined && cut.lsn > firstLsn) {
      const refused = (async () => collect(wal.scan({ from: { lsn: cut.lsn } })))()
      await expect(refused).rejects.toMatchObject({ code: 'POSITION_TRUNCATED', lsnFrom: cut.lsn + 1 })
    }
    const unit = pick(
      units.filter((each) => each.lsn >= lowest),
      this.#drawn.from,
    )
    let from: Exclude<ScanFrom, string> = { lsn }
    let start: { lsn: number; skip?: number } | { timeTick: bigint } = { lsn }
    if (by === 'after' && lsn > lowest) from = { after: lsn - 1 }
    else if (by === 'unit' && unit !== undefined) start = from = { lsn: unit.lsn }
    else if (by === 'skip' && unit?.kind === 'txn') start = from = { lsn: unit.lsn, skip: 1 + (this.#drawn.from % 3) }
    else if (by === 'tick' && unit !== undefined) {
      // Where LSNs below were truncated away, what they were cannot be told from what is asked for.
      if (firstLsn === 0) start = from = { timeTick: unit.timeTick + BigInt(this.#drawn.from % 2) }
    }
    const found = []
    for (let at: ScanFrom = from; ; ) {
      let count = 0
      const scan = wal.scan({ ...filters, from: at, transactionBytes: choices.transactionBytes })
      for await (const item of scan) {
        if (item.kind === 'tick') continue
        found.push(...unitsOf([item]))
        at = item.position
        if (++count === resumeEach) break
      }
      if (count < resumeEach) break
    }
    mustBe(found, expectedUnits(units, start, filters))
  }

  override toString = () => `scan(${JSON.stringify(this.#drawn)})`
}

/** A scan that stays begins. */
export class Follow extends WalStep {
  readonly #share: number
  readonly #vchannels: string[] | undefined
  constructor(share: number, vchannels: string[] | undefined) {
    super()
    this.#share = share
    this.#vchannels = vchannels
  }

  async act(model: WalModel): Promise<void> {
    await endFollower(model)
    const { wal, choices } = model
    const { lsn } = startOf(model, this.#share)
    const { transactionBytes } = choices
    const scan = wal.scan({ from: { lsn }, vchannels: this.#vchannels, follow: true, ticks: true, transactionBytes })
    model.follower = { items: scan, vchannels: this.#vchannels, nextLsn: lsn }
  }

  override toString = () => `follow(${this.#share}, ${this.#vchannels})`
}

/** The scan that stays is given all that came since; no tick overtakes a message. */
export class CatchUp extends WalStep {
  async act(model: WalModel): Promise<void> {
    const { follower } = model
    if (follower === undefined) return
    const { items, vchannels } = follower
    const wanted = expectedUnits(model.units, { lsn: follower.nextLsn }, { vchannels })
    const found = []
    while (found.length < wanted.length) {
      const { value, done } = await items.next()
      demand(
        done !== true && value !== undefined,
        () => `a scan that follows has ended at ${wanted[found.length]?.lsn}`,
      )
      if (value!.kind === 'tick') {
        const { timeTick } = value as { timeTick: bigint }
        const next = wanted[found.length]!
        demand(timeTick < next.timeTick, () => `tick ${timeTick} overtakes LSN ${next.lsn} at ${next.timeTick}`)
      } else found.push(...unitsOf([value!]))
    }
    mustBe(found, wanted)
    const last = found.at(-1)
    if (last !== undefined) follower.nextLsn = last.lsn + 1
  }

  override toString = () => 'catchUp'
}

/** An LSN to begin at. A start between the log's and a commit whose begin is gone is refused: that unit is `cut`. */
function startOf(model: WalModel, share: number): { cut: ExpectedUnit | undefined; lowest: number; lsn: number } {
  const { wal, firstLsn } = model
  const cut = model.units.findLast((each) => each.lsn >= firstLsn && model.isCut(each))
  const lowest = cut === undefined ? firstLsn : cut.lsn + 1
  return { cut, lowest, lsn: lowest + Math.floor((share * (wal.nextLsn - lowest + 1)) / 1_000) }
}

export async function endFollower(model: WalModel): Promise<void> {
  const { follower } = model
  model.follower = undefined
  await follower?.items.return?.()
}
