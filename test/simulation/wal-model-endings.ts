/** How the life of a WAL ends: closed, killed, without power; between two calls, or in the middle of several. */
import { expect } from 'vitest'
import { tickOf } from '../../native-free-storage/index.ts'
import type { ScanPosition } from '../../src/wal/types.ts'
import { collect, unitsOf } from '../wal/scan/scanned-units.ts'
import { demand } from './log-ledger.ts'
import { type Drawn, messageOf, pick, type WalCommand } from './wal-command.ts'
import { type ExpectedMessage, type ExpectedUnit, KEY_WINDOW_MS, mustBe, type WalModel } from './wal-model.ts'
import { endFollower } from './wal-model-scans.ts'

export type Ending = 'close' | 'process dies' | 'power is lost'

/** One call under way. */
export interface DrawnCall {
  what: 'single' | 'batch' | 'keyed' | 'sequenced' | 'body' | 'commit' | 'begin' | 'open'
  share: number
  drawn: Drawn[]
  key: string
}

interface Call {
  /** The unit that it makes visible, by its texts; empty: none. */
  readonly texts: readonly string[]
  answer: { lsn: number; timeTick: bigint } | undefined
  /** It was found after the crash. */
  found(unit: ExpectedUnit): void
}

export class End implements WalCommand {
  readonly #how: Ending
  readonly #afterSteps: number
  readonly #calls: readonly DrawnCall[]
  constructor(how: Ending, afterSteps: number, calls: readonly DrawnCall[]) {
    this.#how = how
    this.#afterSteps = afterSteps
    this.#calls = how === 'close' ? [] : calls
  }

  check(model: Readonly<WalModel>): boolean {
    return this.#how !== 'power is lost' || model.session.way.durability === 'disk'
  }

  async run(model: WalModel): Promise<void> {
    const calls: Call[] = []
    if (this.#how === 'close') await close(model)
    else await this.#crash(model, calls)
    model.endLife()
    await model.open()
    await this.#reconcile(model, calls)
    await model.verify()
    await resumeEverywhere(model)
  }

  async #crash(model: WalModel, calls: Call[]): Promise<void> {
    const { session } = model
    const { disk } = session
    const power = this.#how === 'power is lost'
    const at = disk.steps + this.#afterSteps
    let next: typeof disk | undefined
    const die = () => {
      disk.onStep = undefined
      if (power) {
        next = disk.reboot(at)
        disk.powerLoss()
      } else {
        disk.processCrash(`${session.seed}/${at}`)
        next = disk.nextProcess()
      }
    }
    const died = new Promise<void>((resolve) => {
      disk.onStep = (step) => {
        if (step < at) return
        die()
        resolve()
      }
    })
    const started = this.#calls.flatMap((call) => start(model, call, calls))
    if (started.length > 0) await Promise.race([died, Promise.all(started)])
    if (next === undefined) die()
    session.disk = next!
  }

  /** What was acknowledged is there; of what was under way each unit, as a whole or not at all, and once. */
  async #reconcile(model: WalModel, calls: readonly Call[]): Promise<void> {
    const { transactionBytes } = model.choices
    const found = unitsOf(await collect(model.wal.scan({ transactionBytes })))
    model.firstLsn = model.wal.firstLsn
    const known = new Set(model.visible().map(({ lsn }) => lsn))
    for (const call of calls) {
      if (call.texts.length === 0) continue
      const units = found.filter((unit) => textsOf(unit).some((text) => call.texts.includes(text)))
      if (units.length === 0) {
        demand(call.answer === undefined, () => `LSN ${call.answer?.lsn} was acknowledged and is gone`)
        continue
      }
      const texts = units.flatMap(textsOf)
      expect(texts.toSorted(), 'all of a unit or nothing').toEqual([...call.texts].toSorted())
      for (const unit of units) {
        demand(!known.has(unit.lsn), () => `LSN ${unit.lsn} was there before`)
        known.add(unit.lsn)
        if (!model.units.includes(unit)) model.add(unit)
      }
      const first = units[0]!
      if (call.answer !== undefined) {
        const { lsn, timeTick } = call.answer
        expect(first).toMatchObject({ lsn, timeTick })
      }
      call.found(first)
    }
    mustBe(found, model.visible())
  }

  toString = () => `${this.#how}(${this.#afterSteps}; ${this.#calls.map(({ what }) => what)})`
}

function textsOf(unit: ExpectedUnit): string[] {
  return unit.kind === 'message' ? [unit.message.text] : unit.messages.map(({ text }) => text)
}

/** The promises that may settle before the crash. Each takes what it was drawn for, where that is there. */
function start(model: WalModel, { what, share, drawn, key }: DrawnCall, calls: Call[]): Promise<unknown>[] {
  const { wal } = model
  const note = (texts: string[], promise: Promise<unknown>, found: Call['found'] = () => {}) => {
    const call: Call = { texts, answer: undefined, found }
    calls.push(call)
    const settled = promise.then(
      (answer) => {
        if (texts.length === 0) return
        const { lsn, timeTick, firstLsn, firstTimeTick } = answer as Record<string, never>
        call.answer = { lsn: lsn ?? firstLsn!, timeTick: timeTick ?? firstTimeTick! }
      },
      // The process is dying: what a call says then is bound to nothing but that it was not acknowledged.
      () => {},
    )
    return [settled]
  }
  if (what === 'batch') {
    const made = drawn.map((each) => messageOf(model, { ...each, vchannel: drawn[0]!.vchannel }))
    const bytes = made.reduce((sum, { expected }) => sum + expected.text.length, 0)
    if (bytes > model.choices.frameBytesMax / 2) return []
    const messages = made.map(({ message }) => message)
    const texts = made.map(({ expected }) => expected.text)
    return note(texts, wal.append(messages))
  }
  if (what === 'begin') return note([], wal.begin(drawn[0]!.vchannel))
  if (what === 'open') {
    const { vchannel } = drawn[0]!
    // An epoch that was answered is never given again.
    const opening = wal.producer(vchannel, { id: 'p' }).then(({ epoch }) => {
      model.producer(vchannel, 'p').epoch = epoch
    })
    return note([], opening)
  }
  if (what === 'body' || what === 'commit') {
    const transaction = pick(model.openTransactions(), share)
    if (transaction === undefined || (what === 'commit' && transaction.bodies.length === 0)) return []
    if (what === 'commit') {
      const texts = transaction.bodies.map(({ text }) => text)
      transaction.state = 'ended'
      return note(texts, transaction.handle.commit())
    }
    const { message, expected } = messageOf(model, { ...drawn[0]!, vchannel: transaction.vchannel })
    const appending = transaction.handle.append(message)
    // A commit that comes later in this crash waits for it.
    transaction.bodies.push({ ...expected, lsn: -1 } satisfies ExpectedMessage)
    return note([], appending)
  }
  if (what === 'sequenced') {
    const producer = pick(
      [...model.producers.values()].filter(({ handles }) => handles.length > 0),
      share,
    )
    if (producer === undefined) return []
    const { message, expected } = messageOf(model, { ...drawn[0]!, vchannel: producer.vchannel })
    return note([expected.text], producer.handles.at(-1)!.append(message), ({ lsn, timeTick }) => {
      producer.written.push({ lsn, timeTick })
    })
  }
  const { message, expected } = messageOf(model, drawn[0]!)
  if (what === 'single') return note([expected.text], wal.append(message))
  const name = `${drawn[0]!.vchannel} ${key}`
  const known = model.keys.get(name)
  // A repeat, of before or of this crash: it must write nothing, whatever it answers. One that may be out of its window by
  // then is as good as new, or not.
  if (known !== undefined)
    return mayBeOld(model, known.timeTick) ? [] : note([], wal.append(message, { idempotencyKey: key }))
  if (calls.some((call) => (call as { name?: string }).name === name)) return []
  const settled = note([expected.text], wal.append(message, { idempotencyKey: key }), ({ lsn, timeTick }) => {
    model.keys.set(name, { lsn, timeTick })
  })
  Object.assign(calls.at(-1)!, { name })
  return settled
}

/** By the ticks, or by the clock, which a restart follows at once. */
function mayBeOld({ wal, session }: WalModel, timeTick: bigint): boolean {
  const window = tickOf(KEY_WINDOW_MS)
  return wal.watermark() - timeTick >= window || tickOf(session.disk.clock.nowMs()) - timeTick >= window
}

async function close(model: WalModel): Promise<void> {
  const { wal } = model
  await endFollower(model)
  const open = model.openTransactions()
  await wal.close()
  for (const { handle } of open) await expect(handle.commit()).rejects.toMatchObject({ outcome: 'not-written' })
  await expect(wal.append({ vchannel: 'a', payload: null })).rejects.toMatchObject({ code: 'CLOSED' })
}

/** From the position behind each unit a scan gives the rest. */
async function resumeEverywhere(model: WalModel): Promise<void> {
  const { wal, choices } = model
  const units = model.visible()
  const positions: ScanPosition[] = []
  for await (const item of wal.scan({ transactionBytes: choices.transactionBytes })) {
    if (item.kind !== 'tick') positions.push(item.position)
  }
  // Some of them: the first, the last, and those between that are transactions.
  const cut = model.units.findLast((unit) => model.isCut(unit))?.lsn ?? -1
  for (const [index, from] of positions.entries()) {
    if (from.lsn <= cut) continue
    if (index > 0 && index < positions.length - 1 && units[index]!.kind !== 'txn') continue
    mustBe(unitsOf(await collect(wal.scan({ from, transactionBytes: 0 }))), units.slice(index + 1))
  }
}
