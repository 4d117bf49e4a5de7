/**
 * Names of the files of a log's directory, and the identifiers in them (FORMAT 1).
 *
 * A segment id is a u64, in memory always its 16 lower-case hex digits, the most significant first. A log id is 16
 * bytes, in memory 32 lower-case hex digits in the order of the bytes. A boot id stays bytes: nobody prints it.
 */
import { FormatError } from './format-error.ts'

const LSN_DIGITS = 20
const SEGMENT_NAME = /^(\d{20})-([0-9a-f]{16})\.seg$/
const MANIFEST_NAME = /^MANIFEST-(\d{20})$/
const SEGMENT_ID = /^[0-9a-f]{16}$/
const ID_128 = /^[0-9a-f]{32}$/

export const NO_SEGMENT_ID = '0'.repeat(16)
export const NO_ID_128 = '0'.repeat(32)

export interface SegmentName {
  baseLsn: number
  id: string
}

export function segmentFileName(baseLsn: number, id: string): string {
  return `${segmentStem(baseLsn, id)}.seg`
}

export function indexFileName(baseLsn: number, id: string): string {
  return `${segmentStem(baseLsn, id)}.idx`
}

/** Null for every other name, also for an LSN of 2^53 or more and for the id 0. */
export function parseSegmentFileName(name: string): SegmentName | null {
  // Most names of a large directory are looked at by code that has not run often: the cheap test first.
  const match = name.endsWith('.seg') ? SEGMENT_NAME.exec(name) : null
  if (match === null) return null
  const baseLsn = Number(match[1])
  const id = match[2]!
  return Number.isSafeInteger(baseLsn) && id !== NO_SEGMENT_ID ? { baseLsn, id } : null
}

export function manifestFileName(generation: number): string {
  return `MANIFEST-${twentyDigits(generation, 'generation')}`
}

/** The generation, or null for every other name. */
export function parseManifestFileName(name: string): number | null {
  const match = name.startsWith('MANIFEST-') ? MANIFEST_NAME.exec(name) : null
  if (match === null) return null
  const generation = Number(match[1])
  return Number.isSafeInteger(generation) ? generation : null
}

export function writeSegmentId(target: Buffer, offset: number, id: string): void {
  if (!SEGMENT_ID.test(id)) throw new FormatError('INVALID_ARGUMENT', `"${id}" is not a segment id (16 hex digits)`)
  target.writeUInt32LE(Number.parseInt(id.slice(8), 16), offset)
  target.writeUInt32LE(Number.parseInt(id.slice(0, 8), 16), offset + 4)
}

export function readSegmentId(source: Buffer, offset: number): string {
  const low = source.readUInt32LE(offset).toString(16).padStart(8, '0')
  return (
    source
      .readUInt32LE(offset + 4)
      .toString(16)
      .padStart(8, '0') + low
  )
}

export function writeId128(target: Buffer, offset: number, id: string): void {
  if (!ID_128.test(id)) throw new FormatError('INVALID_ARGUMENT', `"${id}" is not an id of 32 hex digits`)
  target.write(id, offset, 16, 'hex')
}

export function readId128(source: Buffer, offset: number): string {
  return source.toString('hex', offset, offset + 16)
}

/** `bootId` is 16 bytes, all zero where it is not known. */
export function writeBootId(target: Buffer, offset: number, bootId: Uint8Array): void {
  if (bootId.length !== 16) throw new FormatError('INVALID_ARGUMENT', `a boot id of ${bootId.length} bytes`)
  target.set(bootId, offset)
}

/** A copy, so that what was read does not stay in memory for it. */
export function readBootId(source: Buffer, offset: number): Uint8Array {
  return new Uint8Array(source.subarray(offset, offset + 16))
}

function segmentStem(baseLsn: number, id: string): string {
  if (!SEGMENT_ID.test(id)) throw new FormatError('INVALID_ARGUMENT', `"${id}" is not a segment id (16 hex digits)`)
  return `${twentyDigits(baseLsn, 'base LSN')}-${id}`
}

function twentyDigits(value: number, what: string): string {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new FormatError('INVALID_ARGUMENT', `the ${what} ${value} is not an integer from 0 to 2^53 - 1`)
  }
  return String(value).padStart(LSN_DIGITS, '0')
}
