/**
 * The place of a message as text: a name for it that stays as long as its log, and sorts as the messages of one WAL are
 * delivered. 14 hex digits are its LSN; of a message of a transaction, the LSN of the commit, a `-`, and its own LSN.
 */

/** Where a message is delivered: at its own LSN, or at the commit of its transaction. */
export interface MessagePlace {
  readonly lsn: number
  /** LSN of the commit of its transaction; null when it stands by itself. */
  readonly commitLsn: number | null
}

const DIGITS = 14
const FORM = /^([0-9a-f]{14})(?:-([0-9a-f]{14}))?$/

export function messageIdOf({ lsn, commitLsn }: MessagePlace): string {
  return commitLsn === null ? hex(lsn) : `${hex(commitLsn)}-${hex(lsn)}`
}

/** Undefined for what `messageIdOf` has not made. */
export function parseMessageId(text: string): MessagePlace | undefined {
  const match = FORM.exec(text)
  if (match === null) return undefined
  const first = Number.parseInt(match[1]!, 16)
  if (!Number.isSafeInteger(first)) return undefined
  if (match[2] === undefined) return { lsn: first, commitLsn: null }
  const lsn = Number.parseInt(match[2], 16)
  return lsn < first ? { lsn, commitLsn: first } : undefined
}

/** Below 0: `a` is delivered before `b`. Of messages of one WAL. */
export function compareMessagePlaces(a: MessagePlace, b: MessagePlace): number {
  return (a.commitLsn ?? a.lsn) - (b.commitLsn ?? b.lsn) || a.lsn - b.lsn
}

function hex(lsn: number): string {
  return lsn.toString(16).padStart(DIGITS, '0')
}
