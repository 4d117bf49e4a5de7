/**
 * Snapshots (FORMAT 12) of a log that is salvaged. One comes along when the frame that it stands behind did: it gets the id
 * of the new log, and its content stays. Records that are lost below it stay in it as written: they were acknowledged, so
 * that a repeat of one is none that is new. One that stands behind records that came back from the quarantine does not come
 * along: it may have been taken without them.
 */
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { parseSnapshotFileName, snapshotFileName } from '../format/snapshot.ts'
import { readSnapshotFile, writeSnapshotFile } from '../log/snapshot-files.ts'
import type { Lineage } from '../segment/lineage.ts'
import type { SalvagedSnapshot } from './salvage-report.ts'

/** Newest first; an opening looks at no more either. */
const LOOKED_AT_MAX = 8
const COPIED_MAX = 2

/** Of a frame: by these a snapshot names it. */
export interface FrameIdentity {
  readonly baseTimeTick: bigint
  readonly bodyHash: bigint
}

/** The frame that ends before an LSN, as it was and as the new log has it. */
interface Ending {
  readonly was: FrameIdentity
  readonly is: FrameIdentity
}

export class SalvageSnapshots {
  /** Descending. */
  readonly #endings = new Map<number, Ending | null>()
  #restoredFrom = Number.POSITIVE_INFINITY

  /** `names`: of the directory. */
  constructor(names: readonly string[]) {
    const lsns = names.map(parseSnapshotFileName).filter((lsn) => lsn !== null)
    for (const lsn of lsns.sort((a, b) => b - a).slice(0, LOOKED_AT_MAX)) this.#endings.set(lsn, null)
  }

  /** A frame is in the new log; it ends before `nextLsn`. */
  ended(nextLsn: number, was: FrameIdentity, is: FrameIdentity): void {
    if (!this.#endings.has(nextLsn)) return
    const only = ({ baseTimeTick, bodyHash }: FrameIdentity): FrameIdentity => ({ baseTimeTick, bodyHash })
    this.#endings.set(nextLsn, { was: only(was), is: only(is) })
  }

  /** Records from here on came back from the quarantine. */
  restored(lsn: number): void {
    if (lsn < this.#restoredFrom) this.#restoredFrom = lsn
  }

  /**
   * Copies the newest two that fit. Throws a DiskError of what is written. `lineage` of the log that is salvaged; null: it
   * is not known, and the frame alone tells.
   */
  async copy(
    environment: Environment,
    from: string,
    to: { directory: string; logId: string; firstLsn: number },
    lineage: Lineage | null,
  ): Promise<SalvagedSnapshot[]> {
    const all: SalvagedSnapshot[] = []
    let copied = 0
    for (const [lsn, ending] of this.#endings) {
      const state = copied < COPIED_MAX ? await this.#copyOne(environment, from, to, lineage, lsn, ending) : 'older'
      if (state === 'copied') copied++
      all.push({ file: snapshotFileName(lsn), lsn, state })
    }
    return all
  }

  async #copyOne(
    environment: Environment,
    from: string,
    { directory, logId, firstLsn }: { directory: string; logId: string; firstLsn: number },
    lineage: Lineage | null,
    lsn: number,
    ending: Ending | null,
  ): Promise<SalvagedSnapshot['state']> {
    const found = await readSnapshotFile(environment, `${from}/${snapshotFileName(lsn)}`).catch((error: unknown) => {
      if (error instanceof TidelogError && error.code === 'IO_FAILED') return null
      throw error
    })
    if (found === null || found.header.lsn !== lsn) return 'damaged'
    const { header, content } = found
    if (lineage !== null && !isOf(lineage, header.logId, lsn)) return 'foreign'
    if (lsn > this.#restoredFrom) return 'restored'
    let is: FrameIdentity = header
    // Where the log begins nothing stands before it: no LSN is given twice, so that its id is enough.
    if (lineage === null || lsn !== firstLsn) {
      if (ending === null || !isSame(ending.was, header)) return 'unplaced'
      is = ending.is
    }
    const { baseTimeTick, bodyHash } = is
    await writeSnapshotFile(environment, directory, { logId, lsn, baseTimeTick, bodyHash }, content)
    return 'copied'
  }
}

function isOf({ logId, origins }: Lineage, id: string, lsn: number): boolean {
  return id === logId || origins.some((origin) => origin.logId === id && lsn <= origin.forkLsn)
}

function isSame(a: FrameIdentity, b: FrameIdentity): boolean {
  return a.baseTimeTick === b.baseTimeTick && a.bodyHash === b.bodyHash
}
