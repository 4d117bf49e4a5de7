/** Commands: transactions, and what ends them. */
import { expect } from 'vitest'
import { exclusiveScope, MessageType } from '../../src/message/message-type.ts'
import { demand } from './log-ledger.ts'
import { HOUR_MS, LAPSE_MS, messageOf, pick, WalStep, withCode } from './wal-command.ts'
import type { ModelTransaction, WalModel } from './wal-model.ts'

export class Begin extends WalStep {
  readonly #vchannel: string
  readonly #keepaliveMs: number
  constructor(vchannel: string, isShort: boolean) {
    super()
    this.#vchannel = vchannel
    this.#keepaliveMs = isShort ? LAPSE_MS / 2 : 24 * HOUR_MS
  }

  async act(model: WalModel): Promise<void> {
    const handle = await model.wal.begin(this.#vchannel, { keepaliveMs: this.#keepaliveMs })
    demand(
      model.transactions.every((each) => each.handle.id < handle.id),
      () => `id ${handle.id} is given twice`,
    )
    const rest = { vchannel: this.#vchannel, keepaliveMs: this.#keepaliveMs, bodies: [] }
    model.transactions.push({ handle, ...rest, state: 'open', answer: undefined })
  }

  override toString = () => `begin(${this.#vchannel}, ${this.#keepaliveMs})`
}

const notOpen = ['TRANSACTION_STATE', 'TRANSACTION_EXPIRED', 'TRANSACTION_ABORTED']

export class InTransaction extends WalStep {
  readonly #share: number
  readonly #what: 'append' | 'commit' | 'rollback'
  readonly #bytes: readonly number[]
  constructor(share: number, what: 'append' | 'commit' | 'rollback', bytes: readonly number[]) {
    super()
    this.#share = share
    this.#what = what
    this.#bytes = bytes
  }

  override check(model: Readonly<WalModel>): boolean {
    return model.transactions.length > 0
  }

  override get looks(): boolean {
    return this.#what !== 'append'
  }

  async act(model: WalModel): Promise<void> {
    const transaction = pick(model.transactions, this.#share)!
    if (this.#what === 'append') await this.#append(model, transaction)
    else if (this.#what === 'rollback') await this.#rollback(transaction)
    else await this.#commit(model, transaction)
  }

  async #append(model: WalModel, { handle, vchannel, bodies, state }: ModelTransaction): Promise<void> {
    const made = this.#bytes.map((bytes) => messageOf(model, { vchannel, type: bytes % 2 === 0 ? 0 : 2, bytes }))
    const appending = made.map(({ message }) => handle.append(message))
    if (state !== 'open') {
      for (const each of appending) await expect(each).rejects.toEqual(withCode(...notOpen))
      return
    }
    const answers = await Promise.all(appending)
    for (const [index, { lsn, timeTick }] of answers.entries()) {
      demand(timeTick > model.published, () => `tick ${timeTick} of LSN ${lsn}: T had passed it`)
      bodies.push({ ...made[index]!.expected, lsn })
    }
    bodies.sort((a, b) => a.lsn - b.lsn)
  }

  async #rollback(transaction: ModelTransaction): Promise<void> {
    const rolling = transaction.handle.rollback()
    if (transaction.state === 'committed') await expect(rolling).rejects.toEqual(withCode('TRANSACTION_STATE'))
    // What has ended by itself is as good as rolled back.
    else if (transaction.state === 'ended') await rolling.catch((error) => expect(error).toEqual(withCode(...notOpen)))
    else {
      await rolling
      transaction.state = 'ended'
    }
  }

  async #commit(model: WalModel, transaction: ModelTransaction): Promise<void> {
    const { handle, state, bodies, vchannel } = transaction
    const committing = handle.commit()
    if (state === 'ended') {
      await expect(committing).rejects.toEqual(withCode(...notOpen))
      return
    }
    const { lsn, timeTick } = await committing
    if (state === 'committed') {
      expect({ lsn, timeTick }).toEqual(transaction.answer)
      return
    }
    transaction.state = 'committed'
    transaction.answer = { lsn, timeTick }
    if (bodies.length === 0) return
    model.add({ kind: 'txn', lsn, timeTick, vchannel, transaction: handle.id, messages: [...bodies] })
  }

  override toString = () => `${this.#what}InTransaction(${this.#share}; ${this.#bytes})`
}

export class Exclusive extends WalStep {
  readonly #type: number
  readonly #vchannel: string
  constructor(type: number, vchannel: string) {
    super()
    this.#type = type
    this.#vchannel = vchannel
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const text = model.text(0)
    const vchannel = this.#type === MessageType.flushAll ? '' : this.#vchannel
    const answer = await model.wal.append({ vchannel, type: this.#type, payload: Buffer.from(text) })
    model.addMessage({ vchannel, type: this.#type, text }, answer)
    const scope = exclusiveScope(this.#type, vchannel)
    for (const each of model.openTransactions()) {
      if (scope !== '' && each.vchannel !== scope) continue
      each.state = 'ended'
      await expect(each.handle.commit()).rejects.toEqual(withCode(...notOpen))
    }
  }

  override toString = () => `exclusive(${this.#type}, ${this.#vchannel})`
}

/** Time passes: transactions with a short keepalive expire. */
export class Lapse extends WalStep {
  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    await model.session.sleep(LAPSE_MS)
    for (const each of model.openTransactions()) {
      if (each.keepaliveMs > LAPSE_MS) continue
      each.state = 'ended'
      await expect(each.handle.commit()).rejects.toEqual(withCode('TRANSACTION_EXPIRED'))
    }
  }

  override toString = () => 'lapse'
}
