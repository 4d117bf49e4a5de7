/**
 * Reading a body (body-layout.ts) that nobody vouches for: every rule of FORMAT 3.3 about the head is checked when it
 * is opened, so that what the accessors answer lies inside the body.
 *
 * Nothing is copied and no object is made for a record; the accessors read from the bytes that were opened.
 */
import {
  BODY_BYTES_MAX,
  BODY_HEAD_BYTES_MAX,
  BODY_HEADER_BYTES,
  CONTEXT_COUNT,
  CONTEXTS_BYTES_MAX,
  CONTEXTS_LENGTH,
  DIRECTORY_ENTRY_BYTES,
  ENTRY_CODEC,
  ENTRY_ENCRYPTION,
  ENTRY_FLAGS,
  ENTRY_HASH,
  ENTRY_KEY_ID,
  ENTRY_OFFSET,
  ENTRY_RAW_LENGTH,
  ENTRY_RECORDS,
  ENTRY_STORED_LENGTH,
  HEAD_LENGTH,
  NAMES_LENGTH,
  RECORD_COUNT,
  ROW_BYTES,
  ROW_CONTEXT,
  ROW_FLAG_NULL_PAYLOAD,
  ROW_FLAGS,
  ROW_PAYLOAD_LENGTH,
  ROW_PROPERTIES_LENGTH,
  ROW_STRIDE,
  ROW_TYPE,
  ROW_VCHANNEL,
  SECTIONS_LENGTH,
  VCHANNEL_COUNT,
} from './body-layout.ts'
import { hash64 } from './checksum.ts'
import { checkContext } from './contexts.ts'
import { damaged, unknownFormat } from './format-error.ts'
import { FRAME_RECORDS_MAX } from './frame-header.ts'
import { isAllZero, paddedTo8, readBigU64 } from './integers.ts'
import { decodeUtf8 } from './text.ts'
import { hasControlCharacter } from './vchannel-names.ts'

interface Parts {
  headLength: number
  recordCount: number
  vchannelCount: number
  namesLength: number
  contextsLength: number
  contextCount: number
  stride: number
  sectionsLength: number
}

export class BodyHead {
  readonly headLength: number
  readonly recordCount: number
  readonly vchannelCount: number
  /** In the order of the sections: vchannel i owns section i. */
  readonly vchannels: readonly string[]
  readonly contextCount: number

  private readonly source: Buffer
  private readonly table: number
  private readonly stride: number
  /** Where each context begins and ends; empty when there is none. */
  private readonly contextBounds: readonly number[]
  private offsets: Uint32Array | undefined

  /** Called by `openBodyHead`, which has checked all of it. */
  constructor(source: Buffer, parts: Parts, vchannels: readonly string[], contextBounds: readonly number[]) {
    this.source = source
    this.headLength = parts.headLength
    this.recordCount = parts.recordCount
    this.vchannelCount = parts.vchannelCount
    this.contextCount = parts.contextCount
    this.vchannels = vchannels
    this.contextBounds = contextBounds
    this.table = tableOffset(parts)
    this.stride = parts.stride
    this.offsets = undefined
  }

  /** The head as it is stored, for passing it on: a view of what was opened. */
  get bytes(): Buffer {
    return this.source.subarray(0, this.headLength)
  }

  /** From the start of the body. */
  sectionOffset(vchannel: number): number {
    return this.headLength + this.source.readUInt32LE(this.entry(vchannel) + ENTRY_OFFSET)
  }

  /** Without padding. */
  sectionLength(vchannel: number): number {
    return this.source.readUInt32LE(this.entry(vchannel) + ENTRY_STORED_LENGTH)
  }

  sectionHash(vchannel: number): bigint {
    return readBigU64(this.source, this.entry(vchannel) + ENTRY_HASH)
  }

  /** Number of records of this vchannel. */
  recordsOf(vchannel: number): number {
    return this.source.readUInt32LE(this.entry(vchannel) + ENTRY_RECORDS)
  }

  payloadLength(row: number): number {
    return this.source.readUInt32LE(this.row(row) + ROW_PAYLOAD_LENGTH)
  }

  propertiesLength(row: number): number {
    return this.source.readUInt32LE(this.row(row) + ROW_PROPERTIES_LENGTH)
  }

  vchannelIndex(row: number): number {
    return this.source.readUInt16LE(this.row(row) + ROW_VCHANNEL)
  }

  /** -1: the record has no context. */
  contextIndex(row: number): number {
    return this.source.readUInt16LE(this.row(row) + ROW_CONTEXT) - 1
  }

  type(row: number): number {
    return this.source.readUInt16LE(this.row(row) + ROW_TYPE)
  }

  flags(row: number): number {
    return this.source.readUInt16LE(this.row(row) + ROW_FLAGS)
  }

  hasNullPayload(row: number): boolean {
    return (this.flags(row) & ROW_FLAG_NULL_PAYLOAD) !== 0
  }

  /** The items of a context, for `decodeContext`: a view of the body. */
  context(index: number): Uint8Array {
    return this.source.subarray(this.contextBounds[2 * index]!, this.contextBounds[2 * index + 1]!)
  }

  /**
   * For each row the position of its bytes (properties, then payload) in the section of its vchannel. Made at the
   * first call, in one pass over the table.
   */
  rowOffsets(): Uint32Array {
    this.offsets ??= this.sumRows()
    return this.offsets
  }

  private entry(vchannel: number): number {
    return BODY_HEADER_BYTES + vchannel * DIRECTORY_ENTRY_BYTES
  }

  private row(row: number): number {
    return this.table + row * this.stride
  }

  private sumRows(): Uint32Array {
    const offsets = new Uint32Array(this.recordCount)
    const ends = new Uint32Array(this.vchannelCount)
    const { source, stride } = this
    for (let row = 0, at = this.table; row < offsets.length; row++, at += stride) {
      const vchannel = source.readUInt16LE(at + ROW_VCHANNEL)
      const offset = ends[vchannel]!
      offsets[row] = offset
      const length = source.readUInt32LE(at + ROW_PAYLOAD_LENGTH) + source.readUInt32LE(at + ROW_PROPERTIES_LENGTH)
      ends[vchannel] = offset + length
    }
    return offsets
  }
}

/**
 * The length of the head of which `firstBytes` holds the first 32 bytes or more, never above `BODY_HEAD_BYTES_MAX`:
 * for reading a head alone. Throws DAMAGED.
 */
export function peekHeadLength(firstBytes: Buffer): number {
  return readParts(firstBytes).headLength
}

/**
 * Opens the head of a body of `bodyLength` bytes. `body` begins at the body and holds its head or more of it; it is
 * kept. A null `expectedHash` is not compared. Throws DAMAGED for anything that breaks FORMAT 3.3, FORMAT_UNKNOWN for
 * codecs, encryption and flags of a later version.
 */
export function openBodyHead(
  body: Buffer,
  bodyLength: number,
  recordCount: number,
  expectedHash: bigint | null,
): BodyHead {
  const parts = readParts(body)
  if (parts.headLength > body.length)
    throw damaged(`only ${body.length} bytes of a head of ${parts.headLength} are there`)
  if (parts.headLength + parts.sectionsLength !== bodyLength) {
    throw damaged(`head and sections do not add up to the ${bodyLength} bytes of the body`, HEAD_LENGTH)
  }
  if (parts.recordCount !== recordCount) {
    throw damaged(`the body has ${parts.recordCount} records and its frame ${recordCount}`, RECORD_COUNT)
  }
  if (expectedHash !== null && hash64(body.subarray(0, parts.headLength)) !== expectedHash) {
    throw damaged('the head of the body does not have its hash', 0)
  }
  checkDirectory(body, parts)
  const vchannels = readNames(body, parts)
  const contextBounds = parts.contextsLength === 0 ? [] : readContexts(body, parts)
  checkTable(body, parts)
  return new BodyHead(body, parts, vchannels, contextBounds)
}

/** Whether `bytes` (without padding) are the stored bytes of a section. */
export function verifySection(head: BodyHead, vchannel: number, bytes: Uint8Array): boolean {
  const length = head.sectionLength(vchannel)
  if (bytes.length !== length) return false
  return (length === 0 ? 0n : hash64(bytes)) === head.sectionHash(vchannel)
}

/** Whether all padding between and behind the sections is zero: no hash covers it. `body` is the whole body. */
export function checkPadding(head: BodyHead, body: Uint8Array): boolean {
  for (let vchannel = 0; vchannel < head.vchannelCount; vchannel++) {
    const end = head.sectionOffset(vchannel) + head.sectionLength(vchannel)
    if (!isAllZero(body, end, paddedTo8(end))) return false
  }
  return true
}

/** Makes zero what `checkPadding` demands to be: for a copy of a body whose hashes are right. */
export function clearPadding(head: BodyHead, body: Uint8Array): void {
  for (let vchannel = 0; vchannel < head.vchannelCount; vchannel++) {
    const end = head.sectionOffset(vchannel) + head.sectionLength(vchannel)
    body.fill(0, end, paddedTo8(end))
  }
}

/** The columns of body header, with every sum of them that can be checked without the rest. */
function readParts(source: Buffer): Parts {
  if (source.length < BODY_HEADER_BYTES) throw damaged(`a body of ${source.length} bytes has no header`, 0)
  const parts: Parts = {
    headLength: source.readUInt32LE(HEAD_LENGTH),
    recordCount: source.readUInt32LE(RECORD_COUNT),
    vchannelCount: source.readUInt32LE(VCHANNEL_COUNT),
    namesLength: source.readUInt32LE(NAMES_LENGTH),
    contextsLength: source.readUInt32LE(CONTEXTS_LENGTH),
    contextCount: source.readUInt16LE(CONTEXT_COUNT),
    stride: source.readUInt16LE(ROW_STRIDE),
    sectionsLength: source.readUInt32LE(SECTIONS_LENGTH),
  }
  const { headLength, recordCount, vchannelCount, namesLength, contextsLength, contextCount, stride } = parts
  if (recordCount < 1 || recordCount > FRAME_RECORDS_MAX) {
    throw damaged(`a body of ${recordCount} records`, RECORD_COUNT)
  }
  if (vchannelCount < 1 || vchannelCount > recordCount) {
    throw damaged(`a body of ${vchannelCount} vchannels in ${recordCount} records`, VCHANNEL_COUNT)
  }
  if (stride < ROW_BYTES) throw damaged(`rows of ${stride} bytes`, ROW_STRIDE)
  if (namesLength < vchannelCount || namesLength % 8 !== 0) throw damaged(`${namesLength} bytes of names`, NAMES_LENGTH)
  if (contextsLength < 4 * contextCount || contextsLength % 8 !== 0 || contextsLength > CONTEXTS_BYTES_MAX) {
    throw damaged(`${contextsLength} bytes of ${contextCount} contexts`, CONTEXTS_LENGTH)
  }
  if (headLength !== tableOffset(parts) + paddedTo8(recordCount * stride)) {
    throw damaged('the parts of the head do not add up to its length', HEAD_LENGTH)
  }
  if (headLength > BODY_HEAD_BYTES_MAX) throw damaged(`a head of ${headLength} bytes`, HEAD_LENGTH)
  if (parts.sectionsLength > BODY_BYTES_MAX || parts.sectionsLength % 8 !== 0) {
    throw damaged(`${parts.sectionsLength} bytes of sections`, SECTIONS_LENGTH)
  }
  return parts
}

function tableOffset(parts: Parts): number {
  return BODY_HEADER_BYTES + parts.vchannelCount * DIRECTORY_ENTRY_BYTES + parts.namesLength + parts.contextsLength
}

function checkDirectory(source: Buffer, parts: Parts): void {
  let section = 0
  for (let vchannel = 0; vchannel < parts.vchannelCount; vchannel++) {
    const entry = BODY_HEADER_BYTES + vchannel * DIRECTORY_ENTRY_BYTES
    const codec = source[entry + ENTRY_CODEC]!
    const encryption = source[entry + ENTRY_ENCRYPTION]!
    const flags = source.readUInt16LE(entry + ENTRY_FLAGS)
    if ((codec | encryption | flags | source.readUInt32LE(entry + ENTRY_KEY_ID)) !== 0) {
      throw unknownFormat(`section ${vchannel} has codec ${codec}, encryption ${encryption}, flags ${flags}`, entry)
    }
    const stored = source.readUInt32LE(entry + ENTRY_STORED_LENGTH)
    if (source.readUInt32LE(entry + ENTRY_OFFSET) !== section) {
      throw damaged(`section ${vchannel} does not begin where the one before it ends`, entry + ENTRY_OFFSET)
    }
    if (source.readUInt32LE(entry + ENTRY_RAW_LENGTH) !== stored) {
      throw damaged(`section ${vchannel} has two lengths`, entry + ENTRY_RAW_LENGTH)
    }
    if (stored === 0 && readBigU64(source, entry + ENTRY_HASH) !== 0n) {
      throw damaged(`section ${vchannel} is empty and has a hash`, entry + ENTRY_HASH)
    }
    section += paddedTo8(stored)
  }
  if (section !== parts.sectionsLength) {
    throw damaged('the sections do not add up to their length', SECTIONS_LENGTH)
  }
}

function readNames(source: Buffer, parts: Parts): string[] {
  const { vchannelCount } = parts
  const from = BODY_HEADER_BYTES + vchannelCount * DIRECTORY_ENTRY_BYTES
  const end = from + parts.namesLength
  const names: string[] = []
  let at = from
  for (let vchannel = 0; vchannel < vchannelCount; vchannel++) {
    const next = at + 1 + (at < end ? source[at]! : 0)
    if (next > end) throw damaged(`the name of vchannel ${vchannel} lies beyond the names`, at)
    const name = decodeUtf8(source, at + 1, next)
    if (name === null) throw damaged(`the name of vchannel ${vchannel} is not valid UTF-8`, at)
    if (hasControlCharacter(name)) throw damaged(`the name of vchannel ${vchannel} has control characters`, at)
    names.push(name)
    at = next
  }
  if (paddedTo8(at - from) !== parts.namesLength || !isAllZero(source, at, end)) {
    throw damaged('what stands behind the names is not their padding', at)
  }
  if (vchannelCount > 1 && new Set(names).size !== vchannelCount) throw damaged('a vchannel name stands twice', from)
  return names
}

function readContexts(source: Buffer, parts: Parts): number[] {
  const from = BODY_HEADER_BYTES + parts.vchannelCount * DIRECTORY_ENTRY_BYTES + parts.namesLength
  const end = from + parts.contextsLength
  const bounds: number[] = []
  let at = from
  for (let context = 0; context < parts.contextCount; context++) {
    if (at + 4 > end) throw damaged(`context ${context} lies beyond the contexts`, at)
    const next = at + 4 + source.readUInt32LE(at)
    if (next > end) throw damaged(`context ${context} lies beyond the contexts`, at)
    checkContext(source, at + 4, next)
    bounds.push(at + 4, next)
    at = next
  }
  if (paddedTo8(at - from) !== parts.contextsLength || !isAllZero(source, at, end)) {
    throw damaged('what stands behind the contexts is not their padding', at)
  }
  return bounds
}

function checkTable(source: Buffer, parts: Parts): void {
  const { recordCount, vchannelCount, contextCount, stride } = parts
  const table = tableOffset(parts)
  const view = new DataView(source.buffer, source.byteOffset + table, recordCount * stride)
  // One vchannel is the usual case, and two typed arrays cost more than all the rest of a small body.
  const lengths = vchannelCount === 1 ? null : new Float64Array(vchannelCount)
  const counts = vchannelCount === 1 ? null : new Uint32Array(vchannelCount)
  let onlyLength = 0
  for (let row = 0, at = 0; row < recordCount; row++, at += stride) {
    const payloadLength = view.getUint32(at + ROW_PAYLOAD_LENGTH, true)
    const length = payloadLength + view.getUint32(at + ROW_PROPERTIES_LENGTH, true)
    const vchannel = view.getUint16(at + ROW_VCHANNEL, true)
    const flags = view.getUint16(at + ROW_FLAGS, true)
    if (vchannel >= vchannelCount) throw damaged(`record ${row} has the vchannel index ${vchannel}`, table + at)
    if (view.getUint16(at + ROW_CONTEXT, true) > contextCount) {
      throw damaged(`record ${row} has a context index beyond the ${contextCount} contexts`, table + at)
    }
    if (flags !== 0) checkRowFlags(flags, payloadLength, row, table + at)
    if (lengths === null || counts === null) {
      onlyLength += length
    } else {
      lengths[vchannel]! += length
      counts[vchannel]!++
    }
  }
  for (let vchannel = 0; vchannel < vchannelCount; vchannel++) {
    const entry = BODY_HEADER_BYTES + vchannel * DIRECTORY_ENTRY_BYTES
    const count = counts === null ? recordCount : counts[vchannel]!
    if (count === 0 || count !== source.readUInt32LE(entry + ENTRY_RECORDS)) {
      throw damaged(`vchannel ${vchannel} has ${count} rows, which its entry denies`, entry + ENTRY_RECORDS)
    }
    const length = lengths === null ? onlyLength : lengths[vchannel]!
    if (length !== source.readUInt32LE(entry + ENTRY_RAW_LENGTH)) {
      throw damaged(`the rows of vchannel ${vchannel} do not add up to its section`, entry + ENTRY_RAW_LENGTH)
    }
  }
  if (!isAllZero(source, table + recordCount * stride, parts.headLength)) {
    throw damaged('what stands behind the table is not its padding', table + recordCount * stride)
  }
}

function checkRowFlags(flags: number, payloadLength: number, row: number, offset: number): void {
  if ((flags & ~ROW_FLAG_NULL_PAYLOAD) !== 0) {
    throw unknownFormat(`record ${row} has the flags 0x${flags.toString(16)}`, offset)
  }
  if (payloadLength !== 0) throw damaged(`record ${row} has a null payload of ${payloadLength} bytes`, offset)
}
