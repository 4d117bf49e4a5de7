/** Random logs, and random scans of them, against what the script of the log says. */
import fc from 'fast-check'
import { MessageType } from '../../../src/message/message-type.ts'
import type { Scan, ScanOptions, ScanPosition } from '../../../src/wal/types.ts'
import { type ExpectedUnit, expectedUnits, type Filters, type LogScript, type Row } from './log-script.ts'
import { unitsOf } from './scanned-units.ts'

const VCHANNELS = ['a', 'b', 'c']
const TYPES = [0, MessageType.insert, 40_000]
const EXCLUSIVE = [MessageType.createCollection, MessageType.manualFlush, MessageType.flushAll]

/** A step of the script; numbers are drawn modulo what there is. */
type Step =
  | { kind: 'begin'; vchannels: number[] }
  | { kind: 'rows'; rows: { of: number; type: number; isVoid: boolean; bytes: number }[] }
  | { kind: 'end'; endings: { of: number; commit: boolean }[] }
  | { kind: 'again'; of: number }
  | { kind: 'late'; of: number }
  | { kind: 'exclusive'; type: number; vchannel: number }
  | { kind: 'rollback-all' }
  | { kind: 'epoch'; vchannel: number }

const small = fc.nat({ max: 40 })
const row = fc.record({
  of: small,
  type: small,
  isVoid: fc.nat({ max: 11 }).map((n) => n === 0),
  bytes: fc.constantFrom(0, 10, 10, 300, 6_000),
})

export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('begin' as const), vchannels: many(small, 4) }) },
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('rows' as const), rows: many(row, 8) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('end' as const),
        endings: many(fc.record({ of: small, commit: fc.nat({ max: 4 }).map((n) => n > 0) }), 4),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('again' as const), of: small }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('late' as const), of: small }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('exclusive' as const), type: small, vchannel: small }),
    },
    {
      weight: 1,
      arbitrary: fc
        .nat({ max: 3 })
        .map((n): Step => pick([{ kind: 'rollback-all' }, { kind: 'epoch', vchannel: n }], n)),
    },
  ),
  { minLength: 1, maxLength: 30, size: 'max' },
)

export interface DrawnScan {
  from: number
  by: 'lsn' | 'after' | 'skip' | 'tick' | 'earliest'
  vchannels: string[] | undefined
  types: number[] | undefined
  after: number | undefined
  fromTick: number | undefined
  transactionBytes: number
  /** Items after which it is begun anew at the position reached. */
  resumeEach: number
}

const share = fc.noBias(fc.integer({ min: 0, max: 999 }))
const rarely = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 })

export const scans: fc.Arbitrary<DrawnScan> = fc.record({
  from: share,
  by: fc.constantFrom('lsn', 'lsn', 'after', 'skip', 'tick', 'earliest'),
  vchannels: rarely(fc.subarray(VCHANNELS, { minLength: 1 })),
  types: rarely(fc.subarray([...TYPES, ...EXCLUSIVE], { minLength: 1 })),
  after: rarely(share),
  fromTick: rarely(share),
  transactionBytes: fc.constantFrom(0, 3_000, 16 * 1024 * 1024),
  resumeEach: fc.constantFrom(1, 3, 1_000),
})

export async function write(script: LogScript, drawn: readonly Step[]): Promise<void> {
  for (const step of drawn) {
    const open = [...script.open.keys()]
    switch (step.kind) {
      case 'begin':
        await script.begin(step.vchannels.map((n) => pick(VCHANNELS, n)))
        break
      case 'rows':
        await script.rows(step.rows.map((drawnRow) => rowOf(script, open, drawnRow)))
        break
      case 'end': {
        const begins = [...new Set(step.endings.map(({ of }) => pick(open, of)))].filter((id) => id !== undefined)
        const endings = begins.map((begin) => ({
          begin,
          commit: step.endings.find(({ of }) => pick(open, of) === begin)!.commit,
        }))
        if (endings.length > 0) await script.end(endings)
        break
      }
      // What no node writes: it changes nothing for any reader.
      case 'again': {
        const ended = pick(script.ended, step.of)
        if (ended !== undefined) await script.end([{ begin: ended.id, commit: true }])
        break
      }
      case 'late': {
        const ended = pick(script.ended, step.of)
        if (ended !== undefined) await script.rows([{ vchannel: ended.vchannel, transaction: ended.id }])
        break
      }
      case 'exclusive': {
        const type = pick(EXCLUSIVE, step.type)
        const isAll = type === MessageType.flushAll || step.vchannel % 4 === 0
        await script.exclusive(type, isAll ? '' : pick(VCHANNELS, step.vchannel))
        break
      }
      case 'rollback-all':
        await script.rollbackAll()
        break
      case 'epoch':
        await script.epoch(pick(VCHANNELS, step.vchannel))
        break
    }
  }
}

function rowOf(
  script: LogScript,
  open: readonly number[],
  { of, type, isVoid, bytes }: { of: number; type: number; isVoid: boolean; bytes: number },
): Row {
  const common = { type: pick(TYPES, type), isVoid, bytes }
  // Plain ones too, with a producer or without, also such as belong to every vchannel.
  if (open.length === 0 || of % 3 === 0) {
    const vchannel = of === 39 ? '' : pick(VCHANNELS, of)
    return of % 2 === 0 ? { ...common, vchannel } : { ...common, vchannel, producer: 7 }
  }
  const transaction = pick(open, of)
  // What no node writes: on another vchannel than its begin it counts for nothing.
  if (of % 8 === 7) return { ...common, transaction, vchannel: pick(VCHANNELS, type) }
  return { ...common, transaction, vchannel: script.open.get(transaction)!.vchannel }
}

/** Runs the scan that was drawn in pieces; gives what it gave and what it should have. */
export async function compare(
  script: LogScript,
  drawn: DrawnScan,
  scan: (options: ScanOptions) => Scan,
): Promise<{ found: ExpectedUnit[]; expected: ExpectedUnit[] }> {
  const { units, store } = script
  const lsn = Math.floor((drawn.from * (store.nextLsn + 1)) / 1_000)
  const tickAt = (part: number) => script.ticks[Math.floor((part * store.nextLsn) / 1_000)] ?? 0n
  const filters: Filters = { vchannels: drawn.vchannels, types: drawn.types }
  if (drawn.after !== undefined) filters.afterTick = tickAt(drawn.after)
  if (drawn.fromTick !== undefined) filters.fromTick = tickAt(drawn.fromTick)
  let from: Exclude<ScanOptions['from'], undefined | string>
  let start: { lsn: number; skip?: number } | { timeTick: bigint }
  const transactions = units.filter(({ kind }) => kind === 'txn')
  if (drawn.by === 'tick') start = from = { timeTick: tickAt(drawn.from) }
  else if (drawn.by === 'after' && lsn > 0) {
    start = { lsn }
    from = { after: lsn - 1 }
  } else if (drawn.by === 'skip' && transactions.length > 0) {
    start = from = { lsn: pick(transactions, drawn.from).lsn, skip: 1 + (drawn.from % 3) }
  } else start = from = { lsn: drawn.by === 'earliest' ? 0 : lsn }
  const options: ScanOptions = { ...filters, transactionBytes: drawn.transactionBytes }
  const found: ExpectedUnit[] = []
  let at: ScanOptions['from'] = drawn.by === 'earliest' ? 'earliest' : from
  for (;;) {
    const piece = scan({ ...options, from: at })
    let reached: ScanPosition | null = null
    let count = 0
    for await (const item of piece) {
      if (item.kind === 'tick') continue
      found.push(...unitsOf([item]))
      reached = item.position
      if (++count === drawn.resumeEach) break
    }
    if (reached === null || count < drawn.resumeEach) break
    at = reached
  }
  return { found, expected: expectedUnits(units, start, filters) }
}

function pick<T>(list: readonly T[], number: number): T {
  return list[number % list.length]!
}

function many<T>(arbitrary: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<T[]> {
  return fc.array(arbitrary, { minLength: 1, maxLength })
}
