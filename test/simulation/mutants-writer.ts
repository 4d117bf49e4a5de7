/** Broken on the way of a record to the disk: acknowledgement, segments, manifest, lease. */
import type { Mutant } from './mutant.ts'

/** `verify` may be the first to see that acknowledged data is gone. */
const gone = /which was acknowledged or read, is gone|(SEGMENT_MISSING|FRAME_DAMAGED|TAIL_DAMAGED) /
const writer = 'log/log-writer.ts'
const window = 'log/write-window.ts'
const cut = 'log/segment-cut.ts'
const steps = 'log/segment-steps.ts'
const succession = 'log/segment-succession.ts'
const manifestStore = 'log/manifest-store.ts'

export const mutantsOfWriter: Readonly<Record<string, Mutant>> = {
  'acknowledges-before-sync': {
    says: 'it acknowledges before the sync',
    edits: [
      {
        file: writer,
        replace: 'segment.writer.write(flush.bytes, flush.position).then(',
        by: 'segment.writer.write(flush.bytes, flush.position).catch(() => {})\n    Promise.resolve().then(',
      },
    ],
    hunt: { kind: 'crash', workload: 'singles', way: 1, names: 'ext4' },
    within: 400,
    shows: gone,
  },
  'acknowledges-out-of-order': {
    says: 'it acknowledges out of order with several writes in flight',
    edits: [
      {
        file: writer,
        replace: 'if (this.#window.returned(flush)) this.#complete()',
        by: 'for (const { pending, header } of flush.frames) pending?.settle(header.baseLsn, header.baseTimeTick)\n        if (this.#window.returned(flush)) this.#complete()',
      },
    ],
    hunt: { kind: 'holes', names: 'ext4' },
    within: 400,
    shows: gone,
  },
  'no-directory-sync': {
    says: 'the directory is not synced after a segment got its name',
    edits: [
      {
        file: 'log/segment-files.ts',
        replace:
          'await Promise.all([disk.syncDirectory(settings.directory), disk.syncDirectory(settings.pool.directory)])',
        by: '',
      },
    ],
    hunt: { kind: 'crash', workload: 'roll', names: 'strict' },
    within: 1_500,
    shows: gone,
  },
  'retries-failed-sync': {
    says: 'it tries a failed sync again',
    edits: [
      {
        file: 'segment/segment-writer.ts',
        replace: 'await file.sync()\n  } catch (cause) {',
        by: 'await file.sync().catch(() => file.sync())\n  } catch (cause) {',
      },
    ],
    hunt: { kind: 'failed sync', way: 1 },
    within: 60,
    shows: /every append was acknowledged|is gone|LOG_DAMAGED|damaged/,
  },
  'begins-before-seal': {
    says: 'it begins the next segment before the last one is durable',
    edits: [
      {
        file: 'segment/segment-writer.ts',
        replace: 'async writeSeal(bytes: Buffer): Promise<void> {',
        by: 'async writeSeal(bytes: Buffer): Promise<void> {\n    const position = this.#position\n    setTimeout(() => this.file.write(bytes, position).catch(() => {}), 40)\n    if (bytes.length > 0) return',
      },
    ],
    hunt: { kind: 'crash', workload: 'roll', names: 'strict' },
    within: 2_000,
    shows: gone,
  },
  'shares-a-sector': {
    says: 'it lets two flushes share a sector',
    edits: [
      {
        file: 'log/flush.ts',
        replace: 'const total = alignUp(unpaddedBytes, writer.header.alignment)\n  const bytes = buffers.take(total)',
        by: 'const total = alignUp(unpaddedBytes, 8)\n  const bytes = buffers.take(total)',
      },
      {
        file: 'segment/segment-writer.ts',
        replace: 'bytes > 0 && bytes % this.header.alignment === 0',
        by: 'bytes > 0',
      },
    ],
    hunt: { kind: 'crash', workload: 'singles', names: 'ext4' },
    within: 2_000,
    shows: /is gone|is damaged/,
  },
  'appends-before-manifest': {
    says: 'it appends before the manifest that names the new segment',
    edits: [
      {
        file: succession,
        replace: 'await this.#publishBegun(begun.entry, checksum, empty)',
        by: 'this.#publishBegun(begun.entry, checksum, empty).catch((error: unknown) => this.#onFailure(error))',
      },
    ],
    hunt: { kind: 'crash', workload: 'singles', names: 'strict' },
    within: 2_000,
    shows: gone,
  },
  'publishes-by-rename': {
    says: 'it publishes the manifest by rename',
    edits: [{ file: 'log/manifest-store.ts', replace: '.link(temporary, `', by: '.rename(temporary, `' }],
    hunt: { kind: 'rivals' },
    within: 3_000,
    shows: /is gone|was given twice|and is \d+|got the tick|damaged|stands behind/,
  },
  'skips-generation-check': {
    says: 'it skips the generation check before an acknowledgement',
    edits: [{ file: 'log/owner-check.ts', replace: 'newest = this.#manifests.isNewest()', by: 'newest = true' }],
    hunt: { kind: 'rivals' },
    within: 400,
    shows: /is gone|was given twice|and is \d+|got the tick/,
  },
  'goes-on-after-enospc': {
    says: 'it goes on in the same file after ENOSPC, with frames behind it',
    edits: [
      {
        file: cut,
        replace: 'this.#segments.leave()\n    if (!clean)',
        by: 'const { position, chain } = this.#segments.durable\n    this.#segments.active!.writer.rewind(position, chain)\n    for (const each of cut) each.done = true\n    if (!clean)',
      },
      {
        file: writer,
        replace: '#onWriteFailed(flush: Flush, error: unknown, segment: BegunSegment): void {',
        by: '#onWriteFailed(flush: Flush, error: unknown, segment: BegunSegment): void {\n    if (flush.done) return',
      },
      {
        file: window,
        replace: 'returned(flush: Flush): boolean {',
        by: 'returned(flush: Flush): boolean {\n    if (flush.done) return false',
      },
      {
        file: 'segment/segment-writer.ts',
        replace: 'get chain(): bigint {',
        by: 'rewind(position: number, chain: bigint): void {\n    this.#position = position\n    this.#chain = chain\n  }\n\n  get chain(): bigint {',
      },
    ],
    hunt: { kind: 'no space' },
    within: 200,
    shows: /is gone|stands behind|and is \d+/,
  },
  'no-seal-sync': {
    says: 'it does not sync the seal',
    edits: [
      {
        file: 'segment/segment-writer.ts',
        replace:
          "await this.file.write(bytes, this.#position)\n    if (this.#durability === 'os' || this.#mode === 'fdatasync') await this.file.sync()",
        by: 'await this.file.write(bytes, this.#position)',
      },
    ],
    hunt: { kind: 'crash', workload: 'roll', way: 1, names: 'strict' },
    within: 2_000,
    shows: gone,
  },
  'names-before-header': {
    says: 'it gives a segment its name before its header is durable',
    edits: [
      {
        file: 'log/segment-files.ts',
        replace: "if (settings.durability === 'os' || settings.mode === 'fdatasync') await unnamed.file.sync()",
        by: '',
      },
    ],
    hunt: { kind: 'crash', workload: 'roll', way: 1, names: 'strict' },
    within: 2_000,
    shows: /header|is gone|SEGMENT/,
  },
  'gives-ticks-above-lease': {
    says: 'it gives ticks above its lease while that is being extended',
    edits: [
      { file: 'log/tick-oracle.ts', replace: 'this.#extend(after)\n      return null', by: 'this.#extend(after)' },
    ],
    hunt: { kind: 'clock back' },
    within: 100,
    shows: /watermark|tick/,
  },
  'proves-too-much': {
    says: 'its frames claim that all before them is durable',
    edits: [
      {
        file: 'log/flush.ts',
        replace: 'durablePosition: writer.durablePosition,\n      chain,\n      bodyHash,',
        by: 'durablePosition: position + offset,\n      chain,\n      bodyHash,',
      },
    ],
    hunt: { kind: 'holes', names: 'ext4' },
    within: 400,
    shows: /is damaged at position|TAIL_DAMAGED/,
  },
  'no-write-deadline': {
    says: 'it waits for a write for ever',
    edits: [
      {
        file: steps,
        replace: 'if (!this.#parts.step.isRunning) {\n      this.#cutStuck()\n      return true',
        by: 'if (!this.#parts.step.isRunning) {\n      return false',
      },
    ],
    hunt: { kind: 'no answer' },
    within: 10,
    shows: /was not answered/,
  },
  'reads-late-writes': {
    says: 'it goes on in the same segment after a write that did not return',
    edits: [
      {
        file: cut,
        replace: 'this.#backlog.move(this.#leaveWindow())\n    this.#segments.leave()',
        by: 'this.#backlog.move(this.#leaveWindow())\n    const { position, chain } = this.#segments.durable\n    this.#segments.active!.writer.rewind(position, chain)',
      },
      {
        file: steps,
        replace: 'this.#parts.cut.forStuckWrite()\n      await this.#begin()',
        by: 'this.#parts.cut.forStuckWrite()',
      },
      {
        file: 'segment/segment-writer.ts',
        replace: 'get chain(): bigint {',
        by: 'rewind(position: number, chain: bigint): void {\n    this.#position = position\n    this.#chain = chain\n  }\n\n  get chain(): bigint {',
      },
    ],
    hunt: { kind: 'no answer' },
    within: 400,
    shows: /is gone|is damaged/,
  },
  'unlinks-before-manifest': {
    says: 'it unlinks what is truncated away before the manifest says so',
    edits: [
      {
        file: 'log/truncation.ts',
        replace: 'const first = segments[gone]\n',
        by: 'const first = segments[gone]\n      await this.#unlinkRetired(segments.slice(0, gone))\n',
      },
    ],
    hunt: { kind: 'crash', workload: 'truncate', names: 'strict' },
    within: 2_000,
    shows: /MISSING|is missing|not there/,
  },
  'no-manifest-sync': {
    says: 'it does not sync a manifest before it publishes it',
    edits: [
      {
        file: manifestStore,
        replace: 'await file.truncate(bytes.length)\n      await file.sync()',
        by: 'await file.truncate(bytes.length)',
      },
    ],
    hunt: { kind: 'crash', workload: 'truncate', names: 'strict' },
    within: 1_500,
    shows: /MANIFEST_DAMAGED|is damaged/,
  },
  'unlinks-older-manifest-early': {
    says: 'it unlinks the older manifest before the newer one is durable',
    edits: [
      {
        file: manifestStore,
        replace: 'await disk.syncDirectory(this.#directory)\n    } catch (error) {',
        by: '} catch (error) {',
      },
    ],
    hunt: { kind: 'crash', workload: 'carry-over', names: 'strict' },
    within: 1_500,
    shows: /no manifest/,
  },
  'no-lease-sync': {
    says: 'it does not sync its lease',
    edits: [
      {
        file: 'log/lease-file.ts',
        replace: 'await this.#writeSlot(file, bounds)\n    await file.sync()',
        by: 'await this.#writeSlot(file, bounds)',
      },
      {
        file: 'log/lease-file.ts',
        replace: 'await file.write(bytes, 0)\n      await file.sync()',
        by: 'await file.write(bytes, 0)',
      },
    ],
    hunt: { kind: 'clock back', names: 'ext4' },
    within: 400,
    shows: /watermark|both slots/,
  },
  'overtaken-publishes': {
    says: 'it does not notice that it was overtaken when a generation came free again',
    edits: [{ file: manifestStore, replace: 'if (await this.#wasOvertaken()) {', by: 'if (false) {' }],
    hunt: { kind: 'rivals', stalls: 'link' },
    within: 1_500,
    shows: /truncated before|is gone|and is \d+|was given twice/,
  },
}
