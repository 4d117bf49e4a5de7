/** What every log store promises, as tests: run by each implementation with a subject of its own. */
import { afterEach, beforeEach, describe } from 'vitest'
import { appendingSuite } from './log-store/appending.ts'
import { endingsSuite } from './log-store/endings.ts'
import { ownersSuite } from './log-store/owners.ts'
import { readingSuite } from './log-store/reading.ts'
import { snapshotsSuite } from './log-store/snapshots.ts'
import { type LogStoreSubject, StoreBed } from './log-store/store-bed.ts'
import { ticksSuite } from './log-store/ticks.ts'
import { truncationSuite } from './log-store/truncation.ts'

export function logStoreConformance(name: string, makeSubject: () => Promise<LogStoreSubject>): void {
  describe(`log store: ${name}`, () => {
    const bed = new StoreBed(makeSubject)
    beforeEach(() => bed.setUp())
    afterEach(() => bed.tearDown())

    appendingSuite(bed)
    readingSuite(bed)
    truncationSuite(bed)
    ownersSuite(bed)
    ticksSuite(bed)
    endingsSuite(bed)
    snapshotsSuite(bed)
  })
}
