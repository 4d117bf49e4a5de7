/**
 * Engines that are broken on purpose. Each is the real engine with a piece of its text replaced (mutant-loader.ts), the
 * hunt that has to catch it, and what the hunt has to say.
 */
import type { Mutant } from './mutant.ts'
import { mutantsOfCompaction } from './mutants-compaction.ts'
import { mutantsOfRecovery } from './mutants-recovery.ts'
import { mutantsOfWriter } from './mutants-writer.ts'

export const mutants: Readonly<Record<string, Mutant>> = {
  ...mutantsOfWriter,
  ...mutantsOfRecovery,
  ...mutantsOfCompaction,
}
