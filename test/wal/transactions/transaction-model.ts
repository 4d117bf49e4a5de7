/**
 * Random use of transactions, with restarts that replay the log, against a list of what has to be visible. What was
 * acknowledged decides: a commit that was answered is there, whole, at its place; all else is not.
 */
import fc from 'fast-check'
import { expect } from 'vitest'
import { MessageType } from '../../../src/message/message-type.ts'
import type { WalTxn } from '../../../src/wal/types.ts'
import { turn } from '../manual-clock.ts'
import { replayed, TransactionLog } from './transaction-log.ts'

type Command =
  | { kind: 'begin'; vchannel: string; keepaliveMs: number }
  | { kind: 'append'; at: number; count: number }
  | { kind: 'plain'; vchannel: string }
  | { kind: 'commit' | 'rollback'; at: number; repeat: boolean }
  | { kind: 'drop'; vchannel: string }
  | { kind: 'commit and drop'; at: number; dropFirst: boolean }
  | { kind: 'fail'; at: number }
  | { kind: 'pass'; ms: number }
  | { kind: 'restart'; close: boolean }

const vchannel = fc.constantFrom('a', 'b')
const at = fc.nat(5)

export const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('begin' as const), vchannel, keepaliveMs: fc.constantFrom(100, 1_000) }),
    },
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant('append' as const), at, count: fc.integer({ min: 1, max: 3 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('plain' as const), vchannel }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constantFrom('commit' as const, 'rollback' as const), at, repeat: fc.boolean() }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('drop' as const), vchannel: fc.constantFrom('a', 'b', '') }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('commit and drop' as const), at, dropFirst: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const), at }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.constantFrom(40, 90, 500) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), close: fc.boolean() }) },
  ),
  { maxLength: 25 },
)

interface Open {
  readonly txn: WalTxn
  readonly vchannel: string
  readonly keepaliveMs: number
  readonly texts: string[]
  lastUsedMs: number
  failed: boolean
}

export async function runTransactionModel(script: readonly Command[]): Promise<void> {
  let log = await TransactionLog.open()
  const { clock } = log.subject
  const units: (string | string[])[] = []
  let open: Open[] = []
  const committed: { id: number; lsn: number; timeTick: bigint }[] = []
  let texts = 0
  const pick = (index: number): Open | undefined => (open.length === 0 ? undefined : open[index % open.length])
  const without = (one: Open) => {
    open = open.filter((other) => other !== one)
  }
  const end = (vchannel: string) => {
    open = open.filter((one) => vchannel !== '' && one.vchannel !== vchannel)
  }
  const drop = (vchannel: string) =>
    log.append({ vchannel, type: vchannel === '' ? MessageType.flushAll : MessageType.dropCollection })
  /** True: it was committed. */
  const commit = (one: Open): Promise<boolean> =>
    one.txn.commit().then(
      (place) => {
        committed.push({ id: one.txn.id, ...place })
        return true
      },
      (error: { code: string }) => {
        expect(['TRANSACTION_ABORTED', 'TRANSACTION_EXPIRED']).toContain(error.code)
        return false
      },
    )

  for (const command of script) {
    switch (command.kind) {
      case 'begin': {
        const { vchannel, keepaliveMs } = command
        const txn = await log.begin(vchannel, keepaliveMs)
        open.push({ txn, vchannel, keepaliveMs, texts: [], lastUsedMs: clock.monotonicMs(), failed: false })
        break
      }
      case 'append': {
        const one = pick(command.at)
        if (one === undefined || one.failed) break
        const written = Array.from({ length: command.count }, () => `t${texts++}`)
        await Promise.all(written.map((text) => one.txn.append({ payload: Buffer.from(text) })))
        one.texts.push(...written)
        one.lastUsedMs = clock.monotonicMs()
        break
      }
      case 'plain': {
        const text = `p${texts++}`
        await log.append({ vchannel: command.vchannel, payload: Buffer.from(text) })
        units.push(text)
        break
      }
      case 'commit': {
        const one = pick(command.at)
        if (one === undefined) break
        without(one)
        const isCommitted = await commit(one)
        expect(isCommitted).toBe(!one.failed)
        if (isCommitted && one.texts.length > 0) units.push(one.texts)
        if (isCommitted && command.repeat) {
          const { id, ...place } = committed.at(-1)!
          expect(await log.manager.commit(id)).toEqual(place)
        }
        break
      }
      case 'rollback': {
        const one = pick(command.at)
        if (one === undefined) break
        without(one)
        await one.txn.rollback()
        if (command.repeat) await log.manager.rollback(one.txn.id)
        break
      }
      case 'drop':
        await drop(command.vchannel)
        units.push('')
        end(command.vchannel)
        break
      case 'commit and drop': {
        const one = pick(command.at)
        if (one === undefined) break
        const dropping = command.dropFirst ? drop(one.vchannel) : null
        const committing = commit(one)
        const behind = dropping ?? turn().then(() => drop(one.vchannel))
        const [isCommitted] = await Promise.all([committing, behind])
        expect(isCommitted).toBe(!command.dropFirst && !one.failed)
        if (isCommitted && one.texts.length > 0) units.push(one.texts)
        units.push('')
        end(one.vchannel)
        break
      }
      case 'fail': {
        const one = pick(command.at)
        if (one === undefined) break
        log.first.before = (unit) => {
          if (!unit.internal) throw new Error('refused')
        }
        await one.txn.append({ payload: Buffer.from('never') }).catch(() => {})
        log.first.before = undefined
        one.failed = true
        break
      }
      case 'pass': {
        await clock.advance(command.ms)
        const now = clock.monotonicMs()
        const expired = open.filter(({ lastUsedMs, keepaliveMs }) => now - lastUsedMs >= keepaliveMs)
        for (const one of expired) {
          without(one)
          const code = await one.txn.append({}).catch((error: { code: string }) => error.code)
          expect(code).toBe('TRANSACTION_EXPIRED')
        }
        break
      }
      case 'restart': {
        if (command.close) await log.manager.close()
        log = await TransactionLog.open(log.subject)
        for (const { txn } of open) expect(log.table.ended(txn.id)?.outcome).toBe('rolled-back')
        open = []
        for (const { id, ...place } of committed) expect(await log.manager.commit(id)).toEqual(place)
        break
      }
    }
    expect(log.manager.list().map(({ transaction }) => transaction)).toEqual(open.map(({ txn }) => txn.id))
  }
  expect(await log.read()).toEqual(units)
  // The state is what the log says, whoever reads it.
  expect((await replayed(log.store)).encode()).toEqual(log.table.encode())
  await log.manager.close()
  expect((await replayed(log.store)).openCount).toBe(0)
}
