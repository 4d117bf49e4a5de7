/** Scans over the engine on a real disk: files of several segments, a cache that is soon outrun, a log that is read-only. */
import { setMaxListeners } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLog } from '../../../native-free-storage/index.ts'
import { type EmbeddedStoreOptions, openEmbeddedStore } from '../../../src/log-store/embedded.ts'
import { LocalLogStore } from '../../../src/log-store/local.ts'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import type { ScanOptions } from '../../../src/wal/types.ts'
import { budget } from '../../budget.ts'
import { type ExpectedUnit, expectedUnits, LogScript } from './log-script.ts'
import { compare, scans, steps, write } from './scan-model.ts'
import { collect, unitsOf } from './scanned-units.ts'

const seed = Number(process.env.TIDELOG_SEED ?? 1)
const KIB = 1024

const options: EmbeddedStoreOptions = {
  // Each append waits for the one before: without syncs, so that there are many.
  durability: 'os',
  segmentBytes: 64 * KIB,
  cacheBytes: 32 * KIB,
  writeWay: { mode: 'dsync', depth: 2, reason: 'given' } as NonNullable<EmbeddedStoreOptions['writeWay']>,
}

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-scan-'))
})

afterEach(async () => {
  await rm(directory, { recursive: true, force: true })
})

test(`random logs on the engine are scanned as in memory, also read-only (TIDELOG_SEED=${seed})`, async () => {
  const store = await openEmbeddedStore(directory, options)
  const script = LogScript.on(store)
  const numRuns = budget({ small: 2, ci: 12 })
  for (const drawn of fc.sample(steps, { seed, numRuns })) {
    await write(script, drawn)
    for (const scan of fc.sample(scans, { seed: seed + script.store.nextLsn, numRuns: 4 })) {
      const { found, expected } = await compare(script, scan, (own) => createScanner(store, own))
      expect(found).toEqual(expected)
    }
  }
  await store.close()
  const log = await openLog(directory, { readOnly: true })
  const readOnly = new LocalLogStore(log, () => {})
  expect(unitsOf(await collect(createScanner(readOnly)))).toEqual(script.units)
  expect(() => createScanner(readOnly, { follow: true })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  await log.close()
})

test('followers of any start have each unit once, in order, while the log is written and grows over its cache', async () => {
  const store = await openEmbeddedStore(directory, options)
  const script = LogScript.on(store)
  const stop = new AbortController()
  setMaxListeners(0, stop.signal)
  const followers: { from: number; own: ScanOptions; given: ExpectedUnit[]; run: Promise<void> }[] = []
  const follow = (from: number, own: ScanOptions) => {
    const given: ExpectedUnit[] = []
    const scan = createScanner(store, { ...own, from: { lsn: from }, follow: true, signal: stop.signal })
    const run = (async () => {
      try {
        for await (const item of scan) given.push(...unitsOf([item]))
      } catch (error) {
        if (!stop.signal.aborted) throw error
      }
    })()
    followers.push({ from, own, given, run })
  }
  const rounds = budget({ small: 30, ci: 240 })
  for (let n = 0; n < rounds; n++) {
    const [first, second] = await script.begin(['a', 'b'])
    if (n % (rounds / 6) === 0) follow(n % 2 === 0 ? 0 : store.nextLsn, { transactionBytes: n % 3 === 0 ? 0 : 4 * KIB })
    if (n % (rounds / 6) === 1) follow(0, { vchannels: ['b'], ticks: { everyMs: 1 } })
    await script.rows([
      { vchannel: 'a', transaction: first!, bytes: 600 },
      { vchannel: 'b', bytes: 600 },
      { vchannel: 'b', transaction: second!, bytes: 600 },
    ])
    await script.rows([{ vchannel: 'b', transaction: second!, bytes: 600 }])
    await script.end([
      { begin: second!, commit: true },
      { begin: first!, commit: n % 3 !== 0 },
    ])
  }
  const last = script.units.findLast(({ vchannel }) => vchannel === 'b')!.lsn
  const reached = followers.map(
    ({ given }) =>
      new Promise<void>((resolve) => {
        const look = () => ((given.at(-1)?.lsn ?? 0) >= last ? resolve() : void setImmediate(look))
        look()
      }),
  )
  await Promise.race([Promise.all(reached), Promise.all(followers.map(({ run }) => run))])
  stop.abort()
  await Promise.all(followers.map(({ run }) => run))
  await store.close()
  for (const { from, own, given } of followers) {
    const expected = expectedUnits(script.units, { lsn: from }, { vchannels: own.vchannels })
    // Of what is behind the last unit of `b` it may have been stopped in front.
    expect(given).toEqual(
      expected.slice(0, Math.max(given.length, expected.findLastIndex(({ lsn }) => lsn <= last) + 1)),
    )
  }
})
