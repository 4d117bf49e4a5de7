/** A transaction in the hand of a caller in this process. */
import { TidelogError } from '../../errors.ts'
import type { NodeAppender } from '../pipeline/node-appender.ts'
import type { MutableMessage, TxnOptions, WalAppended, WalTxn } from '../types.ts'
import { transactionError } from './transaction-errors.ts'
import type { TransactionManager } from './transaction-manager.ts'

export async function beginTransaction(
  manager: TransactionManager,
  appender: Pick<NodeAppender, 'appendMessages'>,
  vchannel: string,
  options: TxnOptions = {},
): Promise<WalTxn> {
  const { transaction } = await manager.begin(vchannel, options)
  return new WalTransaction(manager, appender, transaction, vchannel)
}

type End = Promise<{ lsn: number; timeTick: bigint }>

class WalTransaction implements WalTxn {
  readonly id: number
  readonly vchannel: string
  readonly #manager: TransactionManager
  readonly #appender: Pick<NodeAppender, 'appendMessages'>
  /** Appends that have not settled: those too that the transaction has not heard of yet. */
  #underWay = 0
  #onIdle: (() => void) | null = null
  #commit: End | null = null
  #rollback: Promise<void> | null = null

  constructor(
    manager: TransactionManager,
    appender: Pick<NodeAppender, 'appendMessages'>,
    id: number,
    vchannel: string,
  ) {
    this.#manager = manager
    this.#appender = appender
    this.id = id
    this.vchannel = vchannel
  }

  async append(message: Omit<MutableMessage, 'vchannel'> & { vchannel?: string }): Promise<WalAppended> {
    if (this.#commit !== null || this.#rollback !== null) {
      throw transactionError('TRANSACTION_STATE', `the transaction ${this.id} is being committed or rolled back`)
    }
    this.#underWay++
    try {
      const { vchannel = this.vchannel } = message
      if (vchannel !== this.vchannel) {
        const what = `the transaction ${this.id} is one of "${this.vchannel}"`
        throw transactionError('INVALID_ARGUMENT', `${what}, and the message is for "${vchannel}"`)
      }
      const { range } = await this.#appender.appendMessages([{ ...message, vchannel }], { transaction: this.id })
      return { lsn: range.firstLsn, timeTick: range.firstTimeTick, duplicate: false }
    } catch (error) {
      this.#manager.doom(this.id, error)
      throw error
    } finally {
      this.#underWay--
      if (this.#underWay === 0) this.#onIdle?.()
    }
  }

  commit(): End {
    if (this.#rollback !== null) {
      const message = `the transaction ${this.id} is rolled back`
      return Promise.reject(transactionError('TRANSACTION_STATE', message))
    }
    this.#commit ??= this.#commitOnce()
    return this.#commit
  }

  rollback(): Promise<void> {
    this.#rollback ??= this.#rollbackOnce()
    return this.#rollback
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (this.#commit ?? this.rollback()).catch(() => {
      // It expires, or an opening rolls it back.
    })
  }

  async #commitOnce(): End {
    try {
      if (this.#underWay > 0) {
        await new Promise<void>((resolve) => {
          this.#onIdle = resolve
        })
      }
      const { lsn, timeTick } = await this.#manager.commit(this.id)
      return { lsn, timeTick }
    } catch (error) {
      // Nothing was written, and it is open as before: it may be committed again.
      if (error instanceof TidelogError && error.outcome === 'not-written' && error.retriable) this.#commit = null
      throw error
    }
  }

  async #rollbackOnce(): Promise<void> {
    try {
      await this.#manager.rollback(this.id)
    } catch (error) {
      this.#rollback = null
      throw error
    }
  }
}
