/** What a salvage tells: what came along, what is gone, and what had to be assumed. Bounded, whatever the input. */

import type { Durability } from '../format/manifest.ts'

/** Both ends belong to it. */
export interface LostRange {
  lsnFrom: number
  /** Null: how far it goes is not known. */
  lsnTo: number | null
}

/**
 * - `used`: records were taken from it;
 * - `empty`: nothing in it was wanted;
 * - `superseded`: it is not part of the log: a later owner, or a later segment, wrote the same LSNs;
 * - `foreign`: it is of another log;
 * - `unreadable`: no frame in it can be told from chance.
 */
export type SalvagedFileState = 'used' | 'empty' | 'superseded' | 'foreign' | 'unreadable'

export interface SalvagedFile {
  /** Relative to the log's directory. */
  file: string
  state: SalvagedFileState
  /** `salt-found`: it is gone, and the frames are verified all the same. `unverified`: their checksums cannot be. */
  header: 'sound' | 'salt-found' | 'unverified' | 'none'
  frames: number
  records: number
  /** Stretches in which no intact frame stands. */
  holes: number
  /** Bytes that the disk could not read. */
  unreadableBytes: number
}

/**
 * - `copied`: it is in the new log;
 * - `older`: two newer ones are;
 * - `unplaced`: the frame that it stands behind is not in the new log;
 * - `restored`: records below it came back from the quarantine, of which it may not know;
 * - `foreign`: it is of another log;
 * - `damaged`: or of a later version.
 */
export type SalvagedSnapshotState = 'copied' | 'older' | 'unplaced' | 'restored' | 'foreign' | 'damaged'

/** State of somebody above the log, up to an LSN. */
export interface SalvagedSnapshot {
  /** Relative to the log's directory. */
  file: string
  lsn: number
  state: SalvagedSnapshotState
}

export interface SalvageReport {
  path: string
  out: string
  /** Of the new log. */
  logId: string
  originLogId: string | null
  durability: Durability
  firstLsn: number
  nextLsn: number
  records: number
  frames: number
  /** 0n: none was given. */
  lastTimeTick: bigint
  lost: LostRange[]
  /** Ranges that are not listed because there are too many. */
  lostOmitted: number
  files: SalvagedFile[]
  /** The newest eight, newest first. */
  snapshots: SalvagedSnapshot[]
  assumptions: string[]
  assumptionsOmitted: number
}

const LOST_MAX = 65_536
const ASSUMPTIONS_MAX = 256

export class SalvageLosses {
  readonly ranges: LostRange[] = []
  omitted = 0

  add(lsnFrom: number, lsnTo: number | null): void {
    const last = this.ranges.at(-1)
    if (last !== undefined && last.lsnTo !== null && last.lsnTo === lsnFrom - 1) last.lsnTo = lsnTo
    else if (this.ranges.length < LOST_MAX) this.ranges.push({ lsnFrom, lsnTo })
    else this.omitted++
  }
}

export class Assumptions {
  readonly list: string[] = []
  omitted = 0

  add(text: string): void {
    if (this.list.includes(text)) return
    if (this.list.length < ASSUMPTIONS_MAX) this.list.push(text)
    else this.omitted++
  }
}
