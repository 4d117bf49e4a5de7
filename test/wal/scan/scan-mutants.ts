/** Readers that are broken on purpose: the real one with a piece of its text replaced. Random scans have to catch each. */
import type { Edit } from '../../simulation/mutant.ts'
import type { MutantSet } from '../../simulation/mutant-loader.ts'

const assembler = 'transaction-assembler.ts'
const open = 'open-transactions.ts'
const scanner = 'scanner.ts'

export interface ScanMutant {
  /** What is wrong with it, in words. */
  says: string
  edits: readonly Edit[]
}

export const scanMutants: Readonly<Record<string, ScanMutant>> = {
  'visible-early': {
    says: 'bodies are given where they stand, before the commit',
    edits: [
      {
        file: open,
        replace: 'transactions === null || context < 0 ? -1 : transactions[context]!',
        by: '-1 + context * 0',
      },
      { file: scanner, replace: 'return context < 0 || mixed[context]! < 0', by: 'return true' },
    ],
  },
  'tick-filter-drops-a-body': {
    says: 'a body with a smaller tick than the start is left out of its transaction',
    edits: [
      {
        file: scanner,
        replace: 'if (context < 0 || transactions[context] !== transaction) continue',
        by: 'if (context < 0 || transactions[context] !== transaction || record.timeTick < this.#start.timeTick) continue',
      },
    ],
  },
  'start-drops-a-body': {
    says: 'a body in front of the start is left out of its transaction',
    edits: [
      {
        file: scanner,
        replace: 'if (context < 0 || transactions[context] !== transaction) continue',
        by: 'if (context < 0 || transactions[context] !== transaction || record.lsn < (this.#start.lsn ?? 0)) continue',
      },
    ],
  },
  'start-hides-a-transaction': {
    says: 'a transaction that began before the start is never given',
    edits: [
      {
        file: assembler,
        replace: 'if (begin < open.from) await this.#lookBack(open, begin, commit)',
        by: 'if (begin < open.from) return null',
      },
    ],
  },
  'filter-skips-one': {
    says: 'a tick filter leaves out the first message that has the tick',
    edits: [
      {
        file: scanner,
        replace: 'record.timeTick < this.#start.timeTick',
        by: 'record.timeTick <= this.#start.timeTick',
      },
    ],
  },
  'judges-expiry': {
    says: 'the reader takes a transaction that was open for long as expired',
    edits: [
      {
        file: assembler,
        replace: 'if (timeTick < this.#fromTick)',
        by: 'if (timeTick < this.#fromTick || lsn - begin > 20)',
      },
    ],
  },
  'rollback-unheard': {
    says: 'a rollback ends nothing, so that a commit behind it counts',
    edits: [{ file: open, replace: 'this.end(readRollback(frame, row))', by: 'readRollback(frame, row)' }],
  },
  'exclusive-unheard': {
    says: 'an exclusive message ends nothing, so that a commit behind it counts',
    edits: [
      { file: open, replace: 'this.endAllOn(exclusiveScope(type, vchannel))', by: 'exclusiveScope(type, vchannel)' },
    ],
  },
  'first-body-decides': {
    says: 'a reader that starts behind a begin takes the vchannel of the first body for the transaction’s',
    edits: [
      {
        file: open,
        replace: 'if (known.vchannel !== vchannel) known.vchannel = null',
        by: 'if (known.vchannel !== vchannel) return undefined',
      },
    ],
  },
  'void-counts': {
    says: 'a void record counts as a body',
    edits: [{ file: open, replace: 'if (isVoid?.(row) === true) continue', by: '' }],
  },
  'type-filter-hides-control': {
    says: 'a type filter hides begins, commits and rollbacks from the assembly',
    edits: [
      {
        file: assembler,
        replace: '[...new Set([...types, ...CONTROL_TYPES, ...exclusiveTypes])]',
        by: '[...types, ...[].concat(CONTROL_TYPES as never, exclusiveTypes as never).slice(0, 0)]',
      },
    ],
  },
  'skips-too-few': {
    says: 'a position within a transaction gives it from its first message',
    edits: [{ file: scanner, replace: 'messages.splice(0, this.#start.skip)', by: 'messages.splice(0, 0)' }],
  },
  'forgets-on-eviction': {
    says: 'what is not kept in memory is given without its first frame',
    edits: [
      {
        file: open,
        replace: 'transaction.runs.add(first, last)',
        by: 'if (transaction.bodies > 1) transaction.runs.add(first, last)',
      },
    ],
  },
}

export const mutantsOfScans: MutantSet = {
  marker: '?scan-mutant=',
  base: 'src/wal/scan',
  trees: ['src/wal/scan', 'test/wal/scan'],
  mutants: scanMutants,
}
