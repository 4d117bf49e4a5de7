/** Broken on the way back: opening, the end of the tail, the copy of what is not proven, indexes. */
import type { Mutant } from './mutant.ts'

/** `verify` may be the first to see that acknowledged data is gone. */
const gone = /which was acknowledged or read, is gone|(SEGMENT_MISSING|FRAME_DAMAGED|TAIL_DAMAGED) /
const succession = 'log/segment-succession.ts'
const open = 'log/open-log.ts'
const settleManifest = 'log/settle-manifest.ts'
const findTail = 'recovery/find-tail.ts'
const tailScan = 'recovery/tail-scan.ts'

export const mutantsOfRecovery: Readonly<Record<string, Mutant>> = {
  'stops-at-first-bad-frame': {
    says: 'it stops at the first bad frame and does not look ahead',
    edits: [{ file: tailScan, replace: 'behind.frames++', by: 'continue' }],
    hunt: { kind: 'damage' },
    within: 100,
    shows: gone,
  },
  'trusts-length-before-checksum': {
    says: 'it trusts a length before its checksum',
    edits: [
      {
        file: tailScan,
        replace: 'if (header === null || header.baseLsn < end.nextLsn',
        by: 'if (header === null) offset += Math.max(0, (bytes.readUInt32LE(offset + 16) & ~7) - 8)\n      if (header === null || header.baseLsn < end.nextLsn',
      },
    ],
    hunt: { kind: 'damage' },
    within: 400,
    shows: gone,
  },
  'hole-is-damage': {
    says: 'it takes a valid frame behind a hole for damage',
    edits: [
      {
        file: 'recovery/classify.ts',
        replace: "verdict: 'torn',\n    because: 'several writes",
        by: "verdict: 'damaged',\n    because: 'several writes",
      },
    ],
    hunt: { kind: 'holes', names: 'ext4' },
    within: 400,
    shows: /is damaged at position|TAIL_DAMAGED/,
  },
  'hole-is-skipped': {
    says: 'it takes a valid frame behind a hole for data',
    edits: [
      {
        file: tailScan,
        replace: 'if (header === null || header.chain !== end.chain || header.baseLsn !== end.nextLsn) break',
        by: 'if (header === null) {\n      end = { ...end, position: end.position + 512 }\n      continue\n    }',
      },
    ],
    hunt: { kind: 'holes', names: 'ext4' },
    within: 400,
    shows: /was to follow|survived, and one before it did not|the log ends at|is damaged/,
  },
  'reads-tail-before-term': {
    says: 'it reads the tail before it publishes its own term',
    edits: [
      {
        file: open,
        replace: 'const manifests = await fence(',
        by: 'const early = await findManifest(disk, directory, await disk.list(directory))\n  const earlyFound = early === null ? null : await findSegments(environment, directory, early.content, await disk.list(directory))\n  const manifests = await fence(',
      },
      {
        file: open,
        replace: 'const found = await findSegments(environment, directory, manifests.content, names)\n  //',
        by: 'const found = earlyFound ?? (await findSegments(environment, directory, manifests.content, names))\n  //',
      },
    ],
    hunt: { kind: 'rivals' },
    within: 3_000,
    shows: /is gone|was given twice|and is \d+|got the tick/,
  },
  'takes-unnamed-tail': {
    says: 'it takes a file that the manifest does not name for the tail',
    edits: [
      {
        file: findTail,
        replace: 'let file = files.find(({ id }) => id === known.id)',
        by: 'let file = files.findLast(({ baseLsn }) => baseLsn >= known.baseLsn)\n  const other = file === undefined || file.id === known.id ? null : (await segments.open(file)).header',
      },
      {
        file: findTail,
        replace: 'position: known.syncedPosition,\n    chain: known.chain,',
        by: 'position: other === null ? known.syncedPosition : SEGMENT_HEADER_BYTES,\n    chain: other === null ? known.chain : other.checksum,',
      },
      {
        file: findTail,
        replace: 'nextLsn: manifest.nextLsn,',
        by: 'nextLsn: other === null ? manifest.nextLsn : other.baseLsn,',
      },
      { file: findTail, replace: '&&\n      id !== known.id,', by: ',' },
    ],
    hunt: { kind: 'crash', workload: 'carry-over', names: 'strict' },
    within: 3_000,
    shows: gone,
  },
  'reuses-lsn': {
    says: 'it gives an LSN again that was given and lost',
    edits: [
      {
        file: open,
        replace: '? Math.max(0, bounds.lsnBound - end.nextLsn) : 0',
        by: '? 0 : 0',
      },
    ],
    hunt: { kind: 'crash', workload: 'singles', way: 3, names: 'ext4' },
    within: 1_500,
    shows: /was given twice|after \d+ was known|and is \d+/,
  },
  'trusts-index': {
    says: 'it trusts an index over the log',
    edits: [
      {
        file: 'segment/index-file.ts',
        replace:
          'const fits = header.segmentId === key.segmentId && header.end === key.end && header.chain === key.chain',
        by: 'const fits = true',
      },
    ],
    hunt: { kind: 'stale index' },
    within: 10,
    shows: /a selective read gives/,
  },
  'appends-into-old-tail': {
    says: 'it appends into the old tail',
    edits: [
      { file: findTail, replace: 'proven: sealed ? scan.end : scan.proven,', by: 'proven: scan.end,' },
      { file: findTail, replace: 'unproven: sealed ? [] : scan.unproven,', by: 'unproven: [],' },
      { file: settleManifest, replace: 'const cuts = proven', by: 'const cuts = false && proven' },
      {
        file: succession,
        replace: 'import { finishSegment }',
        by: "import { SegmentWriter as OldTailWriter } from '../segment/segment-writer.ts'\nimport { SegmentIndexBuilder } from '../segment/sparse-index.ts'\nimport { walkSegment } from '../maintenance/segment-walk.ts'\nimport { logFilesOf } from './log-files.ts'\nimport { finishSegment }",
      },
      {
        file: succession,
        replace: 'const predecessor = this.#predecessor\n    const empty = predecessor !== null',
        by: `const predecessor = this.#predecessor
    if (predecessor !== null && !this.#leftOpen && predecessor.end > 4096 && predecessor.entry.end === undefined && predecessor.end % 512 === 0) {
      const { environment, directory, mode, durability, segmentBytes } = this.#settings
      const { entry, header, end, chain } = predecessor
      const file = await environment.disk.open(\`\${directory}/\${entry.name}\`, 'write', mode === 'dsync' ? 'dsync' : 'none')
      const writer = new OldTailWriter({ header, headerChecksum: 0n, file, capacity: segmentBytes, durability, mode })
      const building = new SegmentIndexBuilder(header.salt)
      const opened = await logFilesOf(this.#state).segments.open(entry)
      for await (const frame of walkSegment(opened, { from: 4096, end, lsn: entry.baseLsn, chain: undefined, content: false })) {
        writer.count(frame.header!)
        building.addFrame({ ...frame.header!, vchannels: frame.head?.vchannels ?? [] })
      }
      await opened.release()
      writer.advance(end - 4096, chain)
      writer.markDurable(end)
      const durable = { ...this.#durable, position: end, chain }
      this.#install({ entry: Object.assign(entry, { building }), writer }, this.#state.segments.filter((known) => known !== entry))
      this.#durable = durable
      this.#showDurable(entry)
      return
    }
    const empty = predecessor !== null`,
      },
    ],
    hunt: { kind: 'dead process' },
    within: 400,
    shows: gone,
  },
  'copies-without-sync': {
    says: 'it does not sync what the recovery copies',
    edits: [
      {
        file: 'recovery/carry-over.ts',
        replace: 'await writer.write(flush.bytes, flush.position)',
        by: 'await writer.file.write(flush.bytes, flush.position)',
      },
    ],
    hunt: { kind: 'crash', workload: 'carry-over', way: 1, names: 'ext4' },
    within: 2_000,
    shows: gone,
  },
  'copies-nothing': {
    says: 'it takes what it finds behind the proven point for durable',
    edits: [
      { file: findTail, replace: 'proven: sealed ? scan.end : scan.proven,', by: 'proven: scan.end,' },
      { file: findTail, replace: 'unproven: sealed ? [] : scan.unproven,', by: 'unproven: [],' },
    ],
    hunt: { kind: 'dead process', way: 1, names: 'ext4' },
    within: 400,
    shows: gone,
  },
  'believes-bodies': {
    says: 'it does not verify the bodies of what it copies',
    edits: [
      {
        file: 'recovery/carry-over.ts',
        replace: 'if (read < bytes.length || vchannelsOf(frame.header, bytes) === null) break',
        by: '',
      },
    ],
    hunt: { kind: 'holes', names: 'ext4' },
    within: 400,
    shows: /reads differently/,
  },
  'ignores-closed': {
    says: 'it walks on behind the end that the manifest publishes',
    edits: [{ file: findTail, replace: 'start, tails.length === 0 && known.closed', by: 'start, false' }],
    hunt: { kind: 'rivals', stalls: 'write' },
    within: 2_000,
    shows: /is gone|was given twice|and is \d+|got the tick|came after the watermark|acknowledged/,
  },
  'cuts-nothing-at-open': {
    says: 'it leaves the old tail open where nothing has to be copied',
    edits: [{ file: settleManifest, replace: 'const cuts = proven', by: 'const cuts = false && proven' }],
    hunt: { kind: 'rivals', stalls: 'write' },
    within: 1_500,
    shows: /came after the watermark|is gone/,
  },
}
