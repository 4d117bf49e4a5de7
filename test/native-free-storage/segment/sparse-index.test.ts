import fs from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import { loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { FrameKind } from '../../../native-free-storage/format/frame-header.ts'
import { SegmentIndexFile, writeIndexFile } from '../../../native-free-storage/segment/index-file.ts'
import { rebuildIndex } from '../../../native-free-storage/segment/rebuild-index.ts'
import { SegmentFiles } from '../../../native-free-storage/segment/segment-file.ts'
import {
  type IndexedFrame,
  type SegmentIndex,
  SegmentIndexBuilder,
} from '../../../native-free-storage/segment/sparse-index.ts'
import { budget } from '../../budget.ts'
import { temporaryDirectory, testLog } from './build-segment.ts'

const environment = nodeEnvironment()
const segment = { id: 'a'.repeat(16), baseLsn: 0, name: `${'0'.repeat(20)}-${'a'.repeat(16)}.seg` }
const end = { position: 1 << 26, chain: 77n, nextLsn: 1, lastTimeTick: 5n }

/** Frames of a segment as random sizes, names and kinds make them. */
const frames = fc
  .array(
    fc.record({
      bytes: fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 20_000 })),
      names: fc.uniqueArray(fc.nat(300), { minLength: 1, maxLength: 6 }),
      extra: fc.nat(20),
      kind: fc.constantFrom(0, 0, 0, 0, 1, 2, 5),
      tickStep: fc.nat(1000),
    }),
    { minLength: 1, maxLength: 400 },
  )
  .map((shapes): IndexedFrame[] => {
    let position = 4096
    let baseLsn = 10
    let baseTimeTick = 1_000n
    return shapes.map((shape) => {
      const kind = shape.kind as FrameKind
      const isRecords = kind === FrameKind.records
      const names = shape.names.map((n) => (n === 0 ? '' : `name-${n}`))
      const recordCount = isRecords ? names.length + shape.extra : 0
      baseTimeTick += BigInt(shape.tickStep)
      const frame = { position, baseLsn, baseTimeTick, recordCount, kind, vchannels: isRecords ? names : [] }
      position += shape.bytes * 8 + 96
      baseLsn += kind === FrameKind.gap ? 3 : recordCount
      baseTimeTick += BigInt(Math.max(1, recordCount))
      return frame
    })
  })

/** What a look at every frame says. */
function linearPostings(all: readonly IndexedFrame[], names: readonly string[], from: number): number[] {
  return all
    .filter((frame) => frame.position >= from)
    .filter(
      (frame) => frame.kind === FrameKind.gap || frame.vchannels.some((name) => name === '' || names.includes(name)),
    )
    .map((frame) => frame.position)
}

async function checkIndex(index: SegmentIndex, all: readonly IndexedFrame[]): Promise<void> {
  const last = all.at(-1)!
  for (const frame of all) {
    const holdsLsns = frame.recordCount > 0 || frame.kind === FrameKind.gap
    for (const lsn of holdsLsns ? [frame.baseLsn, frame.baseLsn + Math.max(0, frame.recordCount - 1)] : []) {
      const point = (await index.frameAtOrBefore(lsn))!
      expect(point.baseLsn).toBeLessThanOrEqual(lsn)
      expect(point.position).toBeLessThanOrEqual(frame.position)
      expect(all.some((other) => other.position === point.position && other.baseTimeTick === point.baseTimeTick)).toBe(
        true,
      )
      expect(frame.position - point.position).toBeLessThan(16 * 1024 + 160_096)
    }
    const byTick = (await index.frameForTick(frame.baseTimeTick))!
    expect(byTick.position).toBeLessThanOrEqual(frame.position)
  }
  expect((await index.frameAtOrBefore(0))!.position).toBe(4096)
  for (const names of [['name-1'], ['name-2', 'name-3', 'name-299'], ['nobody']]) {
    for (const from of [0, all[all.length >> 1]!.position, last.position, last.position + 8]) {
      expect([...(await index.postings(names, from))]).toEqual(linearPostings(all, names, from))
    }
  }
}

describe('the sparse index', () => {
  it('answers in memory and from its file as a look at every frame does', async () => {
    const directory = await temporaryDirectory()
    await loadChecksum()
    await fc.assert(
      fc.asyncProperty(frames, async (all) => {
        const builder = new SegmentIndexBuilder(9n)
        for (const frame of all) builder.addFrame(frame)
        await checkIndex(builder, all)
        expect(await writeIndexFile({ environment, directory }, segment, builder, end)).toBe(true)
        const path = join(directory, segment.name.replace('.seg', '.idx'))
        const key = { segmentId: segment.id, end: end.position, chain: end.chain, salt: 9n }
        const file = await SegmentIndexFile.open(environment, path, key)
        expect(file).not.toBeNull()
        await checkIndex(file!, all)
      }),
      { numRuns: budget({ small: 25, ci: 200 }) },
    )
  })

  it('holds a hundred thousand vchannels', async () => {
    const directory = await temporaryDirectory()
    await loadChecksum()
    const builder = new SegmentIndexBuilder(9n)
    const count = 100_000
    const frame = { baseTimeTick: 1n, recordCount: 1, kind: FrameKind.records }
    for (let i = 0; i < 2 * count; i++) {
      builder.addFrame({ ...frame, position: 4096 + i * 512, baseLsn: i, vchannels: [`vchannel-${i % count}`] })
    }
    await writeIndexFile({ environment, directory }, segment, builder, end)
    const path = join(directory, segment.name.replace('.seg', '.idx'))
    const key = { segmentId: segment.id, end: end.position, chain: end.chain, salt: 9n }
    let reads = 0
    const counting = {
      ...environment,
      disk: {
        ...environment.disk,
        open: async (...args: Parameters<typeof environment.disk.open>) => {
          const file = await environment.disk.open(...args)
          const read = file.read.bind(file)
          file.read = (...rest) => {
            reads++
            return read(...rest)
          }
          return file
        },
      },
    }
    const file = (await SegmentIndexFile.open(counting, path, key))!
    for (const i of [0, 1, 77_777, 99_999]) {
      reads = 0
      expect([...(await file.postings([`vchannel-${i}`], 0))]).toEqual([4096 + i * 512, 4096 + (i + count) * 512])
      // Two names (the empty one too), each a guess and perhaps its neighbours, then the postings.
      expect(reads).toBeLessThanOrEqual(10)
    }
  })

  it('is not believed for another segment, end or chain, nor when it is cut', async () => {
    const directory = await temporaryDirectory()
    await loadChecksum()
    const builder = new SegmentIndexBuilder(9n)
    builder.addFrame({ position: 4096, baseLsn: 0, baseTimeTick: 1n, recordCount: 1, kind: 0, vchannels: ['a'] })
    await writeIndexFile({ environment, directory }, segment, builder, end)
    const path = join(directory, segment.name.replace('.seg', '.idx'))
    const key = { segmentId: segment.id, end: end.position, chain: end.chain, salt: 9n }
    const opens = async (other: Partial<typeof key>): Promise<boolean> =>
      (await SegmentIndexFile.open(environment, path, { ...key, ...other })) !== null
    expect(await opens({})).toBe(true)
    expect(await opens({ segmentId: 'b'.repeat(16) })).toBe(false)
    expect(await opens({ end: 4096 })).toBe(false)
    expect(await opens({ chain: 1n })).toBe(false)
    expect(await opens({ salt: 8n })).toBe(false)
    fs.truncateSync(path, fs.statSync(path).size - 1)
    expect(await opens({})).toBe(false)
    fs.rmSync(path)
    expect(await opens({})).toBe(false)
  })

  it('rebuilt from the segment is byte for byte the one that the writer made', async () => {
    const log = await testLog()
    for (let i = 0; i < 100; i++) {
      if (i % 9 === 8) log.gap(4, 'void')
      if (i % 11 === 10) log.tick()
      log.append([{ vchannel: `v${i % 7}`, payload: Buffer.alloc(i * 100) }, { vchannel: i % 5 === 0 ? '' : 'w' }])
    }
    const { lastTick } = log.active
    const entry = await log.roll()
    const path = join(log.directory, entry.name.replace('.seg', '.idx'))
    const written = fs.readFileSync(path)
    const opened = await new SegmentFiles(environment, log.directory, log).open(entry)
    const { builder, summary } = await rebuildIndex(opened, entry.end!)
    await opened.release()
    expect(summary.lastTimeTick).toBe(lastTick)
    fs.rmSync(path)
    await writeIndexFile(log, entry, builder, summary)
    expect(fs.readFileSync(path).equals(written)).toBe(true)
    expect(fs.readdirSync(log.directory).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })
})
