/** What a walk of the frames needs of a header that is lost; everything else in it is empty. */
import { NO_ID_128 } from '../format/file-names.ts'
import type { DecodedSegmentHeader } from '../format/segment-header.ts'

export type KnownOfHeader = Pick<DecodedSegmentHeader, 'segmentId' | 'baseLsn' | 'salt' | 'alignment'> &
  Partial<Pick<DecodedSegmentHeader, 'ownerTerm' | 'incarnation'>>

export function madeUpHeader(known: KnownOfHeader): DecodedSegmentHeader {
  return {
    formatVersion: 1,
    readerVersion: 1,
    compatibleFeatures: 0,
    readOnlyFeatures: 0,
    checksum: 0n,
    logId: NO_ID_128,
    baseTimeTick: 0n,
    ownerTerm: 0,
    incarnation: 0,
    previous: null,
    replaced: null,
    oldestOpenTransaction: null,
    originLogId: null,
    forkLsn: 0,
    createdMs: 0,
    preparedBytes: 0,
    ...known,
  }
}
