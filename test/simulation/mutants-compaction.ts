/** Broken where a segment is written anew and takes the place of another one. */
import type { Mutant } from './mutant.ts'

const lost =
  /which was acknowledged or read, is gone|(SEGMENT_MISSING|FRAME_DAMAGED|TAIL_DAMAGED|SEGMENT_HEADER_DAMAGED|LINK_BROKEN|SEGMENT_SURPLUS)|is missing|is damaged|not a valid|was to follow/
const switching = 'compaction/switch-segment.ts'
const crash = { kind: 'crash', workload: 'compaction', names: 'strict' } as const

export const mutantsOfCompaction: Readonly<Record<string, Mutant>> = {
  'compacts-without-sync': {
    says: 'a rewritten segment is not synced before it takes the place of the old one',
    edits: [{ file: 'segment/rewrite-segment.ts', replace: 'await file.sync()\n', by: '' }],
    hunt: crash,
    within: 1_500,
    shows: lost,
  },
  'names-before-retired': {
    says: 'a rewritten segment gets its name before a manifest says that it is none of the log',
    edits: [
      {
        file: switching,
        replace:
          'await this.#manifests.publish((content) => ({ ...content, retired: [...content.retired, retiredOf(this.#made)] }))',
        by: '',
      },
    ],
    hunt: crash,
    within: 1_500,
    shows: lost,
  },
  'removes-before-switch': {
    says: 'the old segment is removed before the manifest names the new one',
    edits: [
      {
        file: switching,
        replace: 'await this.#manifests.publish((content) => this.#switched(content))',
        by: 'await disk.unlink([directory, this.#old.name].join("/"))\n      await disk.syncDirectory(directory)\n      await this.#manifests.publish((content) => this.#switched(content))',
      },
    ],
    hunt: crash,
    within: 1_500,
    shows: lost,
  },
  'forgets-the-first-segment': {
    says: 'the manifest goes on naming the first segment that was replaced',
    edits: [
      {
        file: switching,
        replace: 'firstSegment: content.firstSegment?.id === this.#old.id ? made : content.firstSegment,',
        by: '',
      },
    ],
    hunt: crash,
    within: 1_500,
    shows: lost,
  },
}
