/** Transactions on the memory store, with the pipeline and the lock that they have in a WAL, and nothing else. */
import { encodeContext, loadChecksum } from '../../../native-free-storage/index.ts'
import type { LogStore } from '../../../src/log-store/log-store.ts'
import type { Effect } from '../../../src/wal/effect.ts'
import { effectsOfFrame } from '../../../src/wal/effects-of.ts'
import { AppendPipeline, type StartedAppend } from '../../../src/wal/pipeline/append-pipeline.ts'
import { ExclusiveLock } from '../../../src/wal/pipeline/exclusive-lock.ts'
import type { Stage, UnitResult } from '../../../src/wal/pipeline/interceptor.ts'
import type { NodeAppender } from '../../../src/wal/pipeline/node-appender.ts'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import { type TransactionLimits, TransactionManager } from '../../../src/wal/transactions/transaction-manager.ts'
import { TransactionTable } from '../../../src/wal/transactions/transaction-table.ts'
import { beginTransaction } from '../../../src/wal/transactions/wal-transaction.ts'
import type { MutableMessage, WalTxn } from '../../../src/wal/types.ts'
import { NO_OPTIONS, unitOfBody, unitOfMessages, unitOfRecords } from '../../../src/wal/unit.ts'
import { encodeBody } from '../../log-store/encode-body.ts'
import { MemorySubject } from '../open-memory-wal.ts'

export class TransactionLog implements NodeAppender {
  readonly subject: MemorySubject
  readonly store: LogStore
  readonly lock: ExclusiveLock
  readonly table: TransactionTable
  readonly manager: TransactionManager
  /** A stage before that of transactions, for tests to hold or refuse with. */
  readonly first: { before: Stage['before']; admit: Stage['admit'] } = { before: undefined, admit: undefined }
  readonly #pipeline: AppendPipeline

  private constructor(subject: MemorySubject, store: LogStore, table: TransactionTable, limits: TransactionLimits) {
    this.subject = subject
    this.store = store
    this.table = table
    this.lock = new ExclusiveLock(subject.clock, { waitMs: 30_000, waitersMax: 1_000 })
    this.manager = new TransactionManager(subject.clock, table, this, limits)
    const first: Stage = {
      name: 'first',
      before: (unit) => this.first.before?.(unit),
      admit: (unit) => this.first.admit?.(unit) ?? null,
    }
    this.#pipeline = new AppendPipeline(
      store,
      this.lock,
      [first, this.manager.stage],
      (effects, { firstLsn, firstTimeTick }) => applyAll(table, effects, firstLsn, firstTimeTick),
    )
  }

  /** As an opening does it: the log is replayed, and what is open rolled back. */
  static async open(subject = new MemorySubject(), limits: TransactionLimits = {}): Promise<TransactionLog> {
    await loadChecksum()
    const store = await subject.store()
    const log = new TransactionLog(subject, store, await replayed(store), limits)
    await log.manager.recover(false)
    return log
  }

  appendControl(records: Parameters<NodeAppender['appendControl']>[0]): Promise<UnitResult> {
    return this.#pipeline.run(unitOfRecords(records, 0n)).settled
  }

  appendMessages(...[messages, shared]: Parameters<NodeAppender['appendMessages']>): Promise<UnitResult> {
    return this.#pipeline.run(unitOfMessages([...messages], 0, undefined, shared, NO_OPTIONS)).settled
  }

  /** Plain, or exclusive. */
  append(message: MutableMessage): Promise<UnitResult> {
    return this.#pipeline.run(unitOfMessages([message], 0, undefined, null, NO_OPTIONS)).settled
  }

  /** As a client's frame: records of one transaction, the first with this index in it. */
  async receive(
    transaction: number,
    vchannel: string,
    texts: readonly string[],
    index: number | null,
    signal?: AbortSignal,
  ): Promise<StartedAppend> {
    const records = texts.map((text) => ({ vchannel, payload: Buffer.from(text), contextIndex: 0 }))
    const body = await encodeBody(records, [encodeContext({ transaction: BigInt(transaction) })])
    return this.#pipeline.run(unitOfBody(body, index, { ...NO_OPTIONS, signal }))
  }

  begin(vchannel = 'a', keepaliveMs?: number): Promise<WalTxn> {
    return beginTransaction(this.manager, this, vchannel, { keepaliveMs })
  }

  /** What a reader of the whole log is given: texts, those of a transaction in one list. */
  async read(): Promise<(string | string[])[]> {
    const units: (string | string[])[] = []
    for await (const item of createScanner(this.store, {}, { clock: this.subject.clock })) {
      if (item.kind === 'message') units.push(Buffer.from(item.payload).toString())
      if (item.kind === 'txn') units.push(item.messages.map(({ payload }) => Buffer.from(payload).toString()))
    }
    return units
  }
}

/** The state that the log says, from its beginning. */
export async function replayed(store: LogStore): Promise<TransactionTable> {
  const table = new TransactionTable()
  for await (const frame of store.read({ from: 'earliest' })) {
    applyAll(table, effectsOfFrame(frame), frame.baseLsn, frame.baseTimeTick)
  }
  return table
}

function applyAll(table: TransactionTable, effects: readonly Effect[], baseLsn: number, baseTick: bigint): void {
  for (const effect of effects) table.apply(effect, baseLsn + effect.row, baseTick + BigInt(effect.row))
}

export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'no error',
    (error: { code?: string; outcome?: string }) => `${error.code}${error.outcome === 'not-written' ? '' : '?'}`,
  )
}
