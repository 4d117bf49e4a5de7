/** WALs that are broken on purpose: the real one with a piece of its text replaced. The model has to catch each. */
import type { Edit } from './mutant.ts'
import type { MutantSet } from './mutant-loader.ts'

export interface WalMutant {
  /** What is wrong with it, in words. */
  says: string
  edits: readonly Edit[]
  /** Runs within which it has to be caught. */
  within: number
  /** The broken promise by which it is caught: anything else is an accident. */
  shows: RegExp
}

export const walMutants: Readonly<Record<string, WalMutant>> = {
  'window-lost-at-restart': {
    says: 'where the frames of a producer stand is forgotten when the process ends',
    edits: [
      {
        file: 'wal/deduplication/producer-table.ts',
        replace: 'known.window.push({ firstSequence, count, firstLsn: lsn, firstTimeTick: timeTick })',
        by: 'known.window.push({ firstSequence, count, firstLsn: lsn, firstTimeTick: timeTick })\n    if (timeTick < this.restartedAt) known.window.pop()',
      },
      {
        file: 'wal/deduplication/producer-table.ts',
        replace: 'export class ProducerTable {',
        by: 'let lives = 0\nexport class ProducerTable {\n  restartedAt = lives++ > 0 ? 1n << 62n : 0n\n',
      },
    ],
    within: 400,
    shows: /SEQUENCE|sequence/,
  },
  'epoch-before-durable': {
    says: 'an epoch is answered before it is durable',
    edits: [
      {
        file: 'wal/deduplication/live-producers.ts',
        replace: 'const { range } = await this.#appender.appendControl([',
        by: `const early = known === undefined ? null : { ...known, epoch, windowLost: false }
    if (early !== null) {
      this.#appender.appendControl([{ vchannel, type: MessageType.producerEpoch, properties }]).catch(() => {})
      return early
    }
    const { range } = await this.#appender.appendControl([`,
      },
    ],
    within: 3_000,
    shows: /epoch \d+ after \d+|was opened again with epoch/,
  },
  'repeat-writes-twice': {
    says: 'a key that is known is written again',
    edits: [
      {
        file: 'wal/deduplication/deduplication-stage.ts',
        replace: 'const known = this.#keys.get(vchannel, key)\n      if (vchannel',
        by: 'const known = undefined as ReturnType<KeyTable["get"]>\n      if (vchannel',
      },
      {
        file: 'wal/deduplication/deduplication-stage.ts',
        replace: 'const known = this.#keys.get(vchannel, key)\n    if',
        by: 'const known = undefined as ReturnType<KeyTable["get"]>\n    if',
      },
    ],
    within: 200,
    shows: /is written twice/,
  },
}

export const mutantsOfWal: MutantSet = {
  marker: '?wal-mutant=',
  base: 'src',
  trees: ['src/wal', 'src/log-store', 'test/simulation', 'test/wal/scan'],
  mutants: walMutants,
}
