/**
 * What a repair moves and makes, written down before it changes anything, so that it can be undone.
 *
 * `quarantine/REPAIR-<number, 20 decimal digits>.json` is one JSON object `{"checksum","journal"}`: `checksum` is the hash
 * of the text of `journal`, 16 hex digits. Whoever reads one believes nothing of it before the checksum, and no name in it
 * that could lead out of the directory.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { hash64 } from '../format/checksum.ts'
import { QUARANTINE } from '../log/companion-names.ts'

const VERSION = 1
const NAME = /^REPAIR-(\d{20})\.json$/
/** No file name of a log is another; nothing in it leads anywhere else. */
const SAFE_NAME = /^[0-9A-Za-z][0-9A-Za-z._-]{0,199}$/
export const JOURNAL_BYTES_MAX = 32 * 1024 * 1024
const ENTRIES_MAX = 200_000

/** A file of the log's directory, and the name under which quarantine/ keeps it. */
export interface MovedFile {
  name: string
  kept: string
}

/** The end of the log, by which it is told whether anything was appended since. */
export interface LogEnd {
  firstLsn: number
  nextLsn: number
  /** Null: the log has no segment, or it is not known. */
  tailId: string | null
}

export interface RepairJournal {
  number: number
  /** When the run began of which it is; several logs may be repaired in one. */
  runMs: number
  mode: 'tail' | 'point-in-time'
  /** Files that are taken out, or replaced under the same name. */
  moved: MovedFile[]
  /** Files that are made, under names that nothing had. */
  made: string[]
  /** Segment files that stay as they are. */
  stays: string[]
  /** A manifest is published: generations that are not among `moved` are of the repair, or came after it. */
  publishes: boolean
  before: LogEnd
  after: LogEnd
}

export function journalName(number: number): string {
  return `REPAIR-${String(number).padStart(20, '0')}.json`
}

/** The number, or null for every other name. */
export function parseJournalName(name: string): number | null {
  const match = NAME.exec(name)
  if (match === null) return null
  const number = Number(match[1])
  return Number.isSafeInteger(number) ? number : null
}

export function encodeJournal(journal: RepairJournal): Buffer {
  const text = JSON.stringify({ version: VERSION, ...journal })
  return Buffer.from(`{"checksum":"${checksumOf(text)}","journal":${text}}\n`)
}

/** Null: it is not whole, of another version, or names what cannot be. */
export function decodeJournal(bytes: Buffer): RepairJournal | null {
  if (bytes.length > JOURNAL_BYTES_MAX) return null
  const text = bytes.toString('utf8')
  const head = /^\{"checksum":"([0-9a-f]{16})","journal":/.exec(text)
  if (head === null || !text.endsWith('}\n')) return null
  const inner = text.slice(head[0].length, -2)
  if (checksumOf(inner) !== head[1]) return null
  let value: unknown
  try {
    value = JSON.parse(inner)
  } catch {
    return null
  }
  return checked(value)
}

function checked(value: unknown): RepairJournal | null {
  const { version, number, runMs, mode, moved, made, stays, publishes, before, after } = (value ?? {}) as Record<
    string,
    unknown
  >
  if (version !== VERSION || !isCount(number) || !isCount(runMs)) return null
  if (mode !== 'tail' && mode !== 'point-in-time') return null
  if (!Array.isArray(moved) || !Array.isArray(made) || !Array.isArray(stays)) return null
  if (moved.length + made.length + stays.length > ENTRIES_MAX) return null
  if (!made.every(isSafeName) || !stays.every(isSafeName) || !moved.every(isMoved)) return null
  if (typeof publishes !== 'boolean' || !isEnd(before) || !isEnd(after)) return null
  return { number, runMs, mode, moved, made, stays, publishes, before, after }
}

function isMoved(value: unknown): value is MovedFile {
  const { name, kept } = (value ?? {}) as Record<string, unknown>
  return isSafeName(name) && isSafeName(kept) && parseJournalName(kept) === null
}

function isSafeName(value: unknown): value is string {
  return typeof value === 'string' && SAFE_NAME.test(value) && !value.startsWith('LOCK')
}

function isEnd(value: unknown): value is LogEnd {
  const { firstLsn, nextLsn, tailId } = (value ?? {}) as Record<string, unknown>
  const isId = tailId === null || (typeof tailId === 'string' && /^[0-9a-f]{16}$/.test(tailId))
  return isCount(firstLsn) && isCount(nextLsn) && isId
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function checksumOf(text: string): string {
  return hash64(Buffer.from(text)).toString(16).padStart(16, '0')
}

/** Writes the journal, durably: from then on the repair can be undone. */
export async function writeJournal(environment: Environment, directory: string, journal: RepairJournal): Promise<void> {
  const { disk } = environment
  const quarantine = `${directory}/${QUARANTINE}`
  const path = `${quarantine}/${journalName(journal.number)}`
  const temporary = `${path}.tmp`
  await disk.unlink(temporary).catch(() => undefined)
  const file = await disk.create(temporary, 'none')
  try {
    await file.write(encodeJournal(journal), 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await disk.rename(temporary, path)
  await disk.syncDirectory(quarantine)
}

/** The journal of the last repair; null: there is none that is whole. `numbers`: of all that are there. */
export async function readLastJournal(
  environment: Environment,
  directory: string,
): Promise<{ journal: RepairJournal | null; numbers: number[] }> {
  const { disk } = environment
  let names: string[]
  try {
    names = await disk.list(`${directory}/${QUARANTINE}`)
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return { journal: null, numbers: [] }
    throw error
  }
  const numbers = names
    .map(parseJournalName)
    .filter((number) => number !== null)
    .sort((a, b) => a - b)
  const last = numbers.at(-1)
  if (last === undefined) return { journal: null, numbers }
  const file = await disk.open(`${directory}/${QUARANTINE}/${journalName(last)}`, 'read')
  try {
    const bytes = Buffer.alloc(Math.min(await file.size(), JOURNAL_BYTES_MAX + 1))
    const length = await file.read(bytes, 0, bytes.length, 0)
    const journal = decodeJournal(bytes.subarray(0, length))
    return { journal: journal?.number === last ? journal : null, numbers }
  } finally {
    await file.close()
  }
}
