/**
 * What `verify` may find: a closed list of codes, each with its severity. docs/VERIFY.md lists them; a test keeps
 * the two in step.
 *
 * - `info`: what a crash leaves behind, or files that are not part of the log. Nothing to do. Exit code 0.
 * - `damaged`: nothing that was acknowledged is gone or changed. Exit code 8.
 * - `data-lost`: something that was acknowledged is gone or changed. Exit code 9.
 */
export type Severity = 'info' | 'damaged' | 'data-lost'

export const findingCodes = {
  /** Frames behind the last proven point: acknowledged or not, which cannot be told. */
  TAIL_UNPROVEN: 'info',
  /** A write was under way when the writer stopped. */
  TAIL_TORN: 'info',
  /** Bytes behind the end that a published cut gave the segment; never read. */
  BYTES_BEYOND_CUT: 'info',
  FILES_QUARANTINED: 'info',
  /** A segment file that is not part of the log, or a temporary file: the next open moves it away. */
  FILE_STRAY: 'info',
  /** State of somebody above the log, which is passed over at an opening; the next one takes its place. */
  SNAPSHOT_DAMAGED: 'info',
  /** A gap frame says that records were lost before; numbering went on. */
  GAP_LOST: 'info',
  /** A writer has the log open: its tail is judged only up to the last proven point. */
  WRITER_RUNNING: 'info',
  /** The writer stopped between the seals of its newest segments and their indexes; the next open makes them. */
  INDEX_PENDING: 'info',
  INDEX_MISSING: 'damaged',
  /** The index is damaged, or says other things than the segment. */
  INDEX_WRONG: 'damaged',
  /** Bytes that no record and no field uses, and that have to be zero, are not. */
  PADDING_NOT_ZERO: 'damaged',
  /** The seal of a segment whose end is known without it. */
  SEAL_DAMAGED: 'damaged',
  /** A segment file that is none of the log's stands among those that are: readers stop at it. */
  SEGMENT_SURPLUS: 'damaged',
  LEASE_DAMAGED: 'damaged',
  /** The descriptor of a data directory; its logs say the same. */
  DESCRIPTOR_DAMAGED: 'damaged',
  /** A log that the data directory has records in, by its catalog, is not there. */
  LOG_MISSING: 'data-lost',
  MANIFEST_MISSING: 'data-lost',
  MANIFEST_DAMAGED: 'data-lost',
  /** The newest manifest is older than the segments, or of another log. */
  MANIFEST_STALE: 'data-lost',
  SEGMENT_MISSING: 'data-lost',
  SEGMENT_HEADER_DAMAGED: 'data-lost',
  /** Two neighbours contradict each other about where the first one ends. */
  LINK_BROKEN: 'data-lost',
  FRAME_DAMAGED: 'data-lost',
  /** The tail ends before a point that was durable. */
  TAIL_DAMAGED: 'data-lost',
  /** Written by a later version: it cannot be judged. */
  FORMAT_UNKNOWN: 'data-lost',
} as const satisfies Record<string, Severity>

export type FindingCode = keyof typeof findingCodes

export type Acknowledged = 'yes' | 'no' | 'unknown'

export interface Finding {
  code: FindingCode
  severity: Severity
  /** Relative to the log's directory; null where it is not known. */
  file: string | null
  position: number | null
  lsnFrom: number | null
  lsnTo: number | null
  /** Whether what is concerned was acknowledged to a caller. */
  acknowledged: Acknowledged
  message: string
}

export interface LogVerification {
  path: string
  firstLsn: number | null
  lastLsn: number | null
  provenLsn: number | null
  records: number
  /** Of the segments of the log, up to their ends. */
  bytes: number
  findings: Finding[]
}

export interface Verification {
  /** Nothing but `info` was found. */
  clean: boolean
  logs: LogVerification[]
}

export function finding(
  code: FindingCode,
  message: string,
  place: Partial<Omit<Finding, 'code' | 'severity' | 'message'>> = {},
): Finding {
  const severity: Severity = findingCodes[code]
  const acknowledged = place.acknowledged ?? (severity === 'data-lost' ? 'yes' : 'no')
  const { file = null, position = null, lsnFrom = null, lsnTo = null } = place
  return { code, severity, file, position, lsnFrom, lsnTo, acknowledged, message }
}

/** From the first LSN to the one before `behind`; no LSN is concerned when there is none. */
export function lsnRange(from: number | undefined, behind: number): { lsnFrom: number | null; lsnTo: number | null } {
  if (from === undefined || behind <= from) return { lsnFrom: from ?? null, lsnTo: null }
  return { lsnFrom: from, lsnTo: behind - 1 }
}

/** 0, 8 or 9, as DESIGN and the command line have it. */
export function exitCodeOf(verification: Verification): 0 | 8 | 9 {
  const severities = new Set(verification.logs.flatMap((log) => log.findings.map(({ severity }) => severity)))
  return severities.has('data-lost') ? 9 : severities.has('damaged') ? 8 : 0
}
