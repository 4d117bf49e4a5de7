/** Parts of the WAL with one precaution taken out of their text: the looks of part-hunts.ts have to find each. */
import type { Edit } from '../simulation/mutant.ts'
import type { MutantSet } from '../simulation/mutant-loader.ts'
import type { partHunts } from './part-hunts.ts'

export interface PartMutant {
  /** What is wrong with it, in words. */
  says: string
  edits: readonly Edit[]
  hunt: keyof typeof partHunts
}

export const partMutants: Readonly<Record<string, PartMutant>> = {
  'refused-is-remembered': {
    says: 'a sequence that was refused counts as written',
    edits: [
      {
        file: 'src/wal/deduplication/live-producer.ts',
        replace: 'this.#next = this.record.lastSequence < 0 ? -1 : firstSequence',
        by: '',
      },
    ],
    hunt: 'refusedSequence',
  },
  'snapshot-ahead': {
    says: 'a snapshot stands at the end of the log, whatever is under way',
    edits: [
      {
        file: 'src/wal/state/snapshot-keeper.ts',
        replace: 'this.#underWay === 0 ? this.#store.nextLsn : this.#appliedEnd',
        by: 'this.#store.nextLsn',
      },
    ],
    hunt: 'snapshotAhead',
  },
  'watermark-before-durability': {
    says: 'the watermark passes records whose write is under way',
    edits: [
      {
        file: 'native-free-storage/log/watermark.ts',
        replace: 'if (oldest !== undefined) tick = oldest.baseTimeTick - 1n',
        by: 'if (oldest !== undefined) tick = this.#numbering.now()',
      },
    ],
    hunt: 'watermarkEarly',
  },
  'tick-overtakes': {
    says: 'a tick speaks for a consumer that was not sent all',
    edits: [
      {
        file: 'src/streaming-node/connection/tick-publisher.ts',
        replace: 'consumer.position !== null && consumer.position >= nextLsn',
        by: 'consumer.position !== null',
      },
    ],
    hunt: 'tickOvertakes',
  },
}

export const mutantsOfParts: MutantSet = {
  marker: '?part-mutant=',
  base: '.',
  trees: ['native-free-storage', 'src', 'test/simulation', 'test/wal'],
  mutants: partMutants,
}
