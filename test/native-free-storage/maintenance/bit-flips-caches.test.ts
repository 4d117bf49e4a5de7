/**
 * Every single-bit flip of a 64 KiB log is found and named: its indexes, its manifest, its lease; then the segments of
 * logs with every kind of frame, and of one that was not closed.
 */
import fs from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { SEGMENT_HEADER_BYTES } from '../../../native-free-storage/format/segment-header.ts'
import type { LogVerification } from '../../../native-free-storage/maintenance/findings.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { budget } from '../../budget.ts'
import { type TestLog, testLog } from '../segment/build-segment.ts'
import { flipBits, textOf, type Unit, unitsOf } from './bit-flips.ts'
import { type Files, memoryDirectory, memoryEnvironment, smallLog } from './memory-files.ts'

const seed = process.env.TIDELOG_SEED ?? '1'
const ALL = Number.MAX_SAFE_INTEGER
const wanted = (small: number): number => budget({ small, ci: ALL })

it('finds and names every flipped bit of the indexes, the manifest and the lease of a 64 KiB log', async () => {
  const files = await smallLog()
  const units = (await unitsOf(files)).filter(({ file }) => !file.endsWith('.seg'))
  expect(new Set(units.map(({ code }) => code))).toEqual(new Set(['INDEX_WRONG', 'MANIFEST_DAMAGED', 'LEASE_DAMAGED']))
  const counts = await flipBits(files, units, wanted(600), seed)
  console.log(`indexes, manifest, lease: ${textOf(counts)}; seed ${seed}`)
})

it('finds and names every flipped bit of a log with every kind of frame, node sections and packed frames', async () => {
  const log = await testLog()
  log.append(
    [
      { vchannel: 'a', payload: Buffer.from('hello') },
      { vchannel: 'b', properties: { k: 'v' } },
    ],
    {
      voids: [1],
      stamps: [{ record: 0, key: 7, value: Buffer.from('odd') }],
    },
  )
  log.tick()
  log.marker()
  await log.roll()
  log.gap(2, 'void')
  log.append([{ vchannel: 'c', payload: Buffer.from('x') }])
  log.gap(1, 'leased')
  await log.roll()
  log.append([{ vchannel: 'c', payload: null }])
  await log.roll()
  const last = log.segments.at(-1)!
  log.append([{ vchannel: '', payload: Buffer.alloc(700, 1) }])
  log.sealActive()
  await log.writeIndexOf(last)
  log.publish({}, { closed: true })
  const files = filesOf(log)
  expect((await verifyLog(memoryEnvironment(files), memoryDirectory)).findings).toEqual([])
  // The headers and indexes are looked at above.
  const units = (await unitsOf(files)).filter(({ file, from }) => file.endsWith('.seg') && from >= SEGMENT_HEADER_BYTES)
  const counts = await flipBits(files, units, wanted(600), seed)
  console.log(`every kind of frame: ${textOf(counts)}; seed ${seed}`)
})

it('finds every flipped bit of a log that was not closed, and blames nothing but a torn write for what was not proven', async () => {
  const log = await testLog()
  for (let i = 0; i < 4; i++) log.append([{ vchannel: 'a', payload: Buffer.alloc(300 + i, i) }])
  const { nextLsn } = log
  const proven = { syncedPosition: log.active.position, chain: log.active.chain }
  const lastTimeTick = log.active.lastTick
  log.append([{ vchannel: 'a', payload: Buffer.alloc(100, 9) }])
  const unprovenFrom = log.active.position
  log.append([{ vchannel: 'b', payload: Buffer.alloc(100, 9) }])
  const end = log.active.position
  log.publish({ nextLsn, lastTimeTick }, proven)
  const { name } = log.active
  fs.truncateSync(join(log.directory, name), end + 1536)
  const files = filesOf(log)
  const before = await verifyLog(memoryEnvironment(files), memoryDirectory)
  expect(before.findings.map(({ code, position }) => [code, position])).toEqual([['TAIL_UNPROVEN', unprovenFrom]])
  const at = (from: number, to: number, code: Unit['code'], position: number | null): Unit => {
    return { file: name, from, to, code, position }
  }
  const units: Unit[] = [
    // The manifest and the durable position of the last frame prove all but that one.
    at(4096, proven.syncedPosition, 'FRAME_DAMAGED', null),
    at(proven.syncedPosition, unprovenFrom, 'TAIL_DAMAGED', proven.syncedPosition),
    at(unprovenFrom, end, 'TAIL_TORN', unprovenFrom),
    at(end, end + 1536, 'TAIL_TORN', end),
  ]
  const counts = await flipBits(files, units, wanted(600), seed, (unit, position, result) => {
    return toldOfTail(unit, position, result, before)
  })
  console.log(`a tail that was not closed: ${textOf(counts)}; seed ${seed}`)
})

/** Padding is told as such wherever it stands; whether a body is that of a torn write shows in the walk. */
function toldOfTail(
  unit: Unit,
  position: number,
  { findings }: LogVerification,
  before: LogVerification,
): string | null {
  const codes: string[] = [unit.code, 'PADDING_NOT_ZERO', 'FRAME_DAMAGED']
  const told = findings.find(({ code, file, position: found }) => {
    if (!codes.includes(code) || file !== unit.file || found === null) return false
    if (found === position) return true
    if (code === 'PADDING_NOT_ZERO') return false
    return unit.position === null ? found <= position && found > position - 1024 : found === unit.position
  })
  const known = new Set(before.findings.map(({ code }) => code))
  const isTorn = unit.code === 'TAIL_TORN'
  const blamed = findings.find(({ code, severity }) => {
    return isTorn && severity === 'data-lost' && !known.has(code)
  })
  if (told === undefined) return `it is not told: ${JSON.stringify(findings)}`
  return blamed === undefined ? null : `what was not proven is called lost: ${JSON.stringify(blamed)}`
}

function filesOf(log: TestLog): Files {
  const names = fs.readdirSync(log.directory)
  return new Map(names.map((name) => [name, fs.readFileSync(join(log.directory, name))]))
}
