/** Commands: the clock of the machine, and the tick that everyone may rely on. */
import { demand } from './log-ledger.ts'
import { HOUR_MS, messageOf, WalStep } from './wal-command.ts'
import type { WalModel } from './wal-model.ts'

/** Of the wall clock; nothing expires by it. */
export class StepClock extends WalStep {
  readonly #hours: number
  constructor(hours: number) {
    super()
    this.#hours = hours
  }

  async act(model: WalModel): Promise<void> {
    model.session.disk.clock.stepWallClock(this.#hours * HOUR_MS)
  }

  override toString = () => `clock(${this.#hours} h)`
}

/** Everything that was acknowledged is below the watermark within an interval; what is under way is not, before it is. */
export class Confirm extends WalStep {
  override async act(model: WalModel): Promise<void> {
    const { wal } = model
    const { expected, message } = messageOf(model, { vchannel: 'a', type: 0, bytes: 20 })
    let answer: { lsn: number; timeTick: bigint } | undefined
    const appending = wal.append(message).then((appended) => {
      answer = appended
    })
    // The next one: a clock that has stepped back gives no greater milliseconds for as long as it did.
    const atLeast = wal.watermark() + 1n
    const tick = await wal.confirmed({ atLeast })
    demand(tick >= atLeast, () => `T ${tick} is below ${atLeast}`)
    // Durable by now, or behind the watermark.
    if (answer !== undefined) model.addMessage(expected, answer)
    if (tick > model.published) model.published = tick
    if (answer !== undefined) return
    await appending
    model.addMessage(expected, answer!)
  }

  override toString = () => 'confirm'
}
