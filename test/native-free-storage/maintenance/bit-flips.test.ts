/** Every single-bit flip of a 64 KiB log is found and named: its segments, with header, frames, padding and seal. */
import { expect, it } from 'vitest'
import type { RecordInput } from '../../../native-free-storage/index.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { budget, budgetName } from '../../budget.ts'
import { flipBits, textOf, unitsOf } from './bit-flips.ts'
import { memoryDirectory, memoryEnvironment, smallLog, writtenFiles } from './memory-files.ts'

const seed = process.env.TIDELOG_SEED ?? '1'
const ALL = Number.MAX_SAFE_INTEGER

it('finds and names every flipped bit of the segments of a 64 KiB log', async () => {
  const files = await smallLog()
  const units = (await unitsOf(files)).filter(({ file }) => file.endsWith('.seg'))
  const bytes = units.reduce((sum, { from, to }) => sum + to - from, 0)
  expect(bytes).toBeGreaterThanOrEqual(65_536)
  expect((await verifyLog(memoryEnvironment(files), memoryDirectory)).findings).toEqual([])
  const counts = await flipBits(files, units, budget({ small: 2_000, ci: ALL }), seed)
  console.log(`segments, ${bytes} bytes: ${textOf(counts)}; seed ${seed}`)
  if (budgetName() !== 'small') expect(counts.bits).toBe(bytes * 8)
  expect((await verifyLog(memoryEnvironment(files), memoryDirectory)).findings).toEqual([])
})

it.runIf(budgetName() === 'soak')('finds and names flipped bits of a 4 MiB log', async () => {
  const opening: RecordInput[][] = Array.from({ length: 60 }, (_, i) => [
    { vchannel: `v${i % 5}`, payload: Buffer.alloc(20_000, i) },
    { vchannel: `v${i % 7}`, payload: Buffer.alloc(100, i), properties: { index: `${i}` } },
  ])
  const files = await writtenFiles([opening, opening, opening, opening])
  const units = await unitsOf(files)
  expect([...files.values()].reduce((sum, bytes) => sum + bytes.length, 0)).toBeGreaterThan(4 * 1024 * 1024)
  const counts = await flipBits(files, units, budget({ small: 0, ci: 0, soak: 200_000 }), seed)
  console.log(`4 MiB: ${textOf(counts)}; seed ${seed}`)
})
