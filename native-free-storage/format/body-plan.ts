/**
 * The first half of encoding a body (body-layout.ts): everything is checked and measured, so that the second half,
 * `writeBody`, only copies and hashes. An LSN is given between the two.
 */
import {
  BODY_HEAD_BYTES_MAX,
  BODY_HEADER_BYTES,
  CONTEXTS_BYTES_MAX,
  CONTEXTS_MAX,
  DIRECTORY_ENTRY_BYTES,
  ROW_BYTES,
  VCHANNEL_NAME_BYTES_MAX,
} from './body-layout.ts'
import { checkContext } from './contexts.ts'
import { FormatError } from './format-error.ts'
import { FRAME_RECORDS_MAX } from './frame-header.ts'
import { asBuffer, paddedTo8 } from './integers.ts'
import { propertiesLength, writeProperties } from './properties.ts'
import { type VchannelName, VchannelNameCache } from './vchannel-names.ts'

export interface RecordInput {
  /** 0 to 255 bytes of UTF-8, no control characters. Empty: for every vchannel of the pchannel. */
  readonly vchannel: string
  /** 0 to 65,535; 0 when it is left out. */
  readonly type?: number | undefined
  readonly properties?: Readonly<Record<string, string>> | undefined
  /** Null is another thing than empty. Left out: empty. It must not change before the body is written. */
  readonly payload?: Uint8Array | null | undefined
  /** Index of one of the contexts of the body. */
  readonly contextIndex?: number | undefined
}

export interface BodyLimits {
  /** Payload and encoded properties of one record together. */
  recordBytesMax: number
  recordsMax: number
  /** The whole body. */
  bodyBytesMax: number
  vchannelBytesMax: number
}

export const bodyLimits: Readonly<BodyLimits> = {
  recordBytesMax: 16 * 1024 * 1024,
  recordsMax: FRAME_RECORDS_MAX,
  bodyBytesMax: 64 * 1024 * 1024,
  vchannelBytesMax: VCHANNEL_NAME_BYTES_MAX,
}

/** What `writeBody` needs. Null columns: every record has the default. */
export interface BodyPlan {
  readonly bodyBytes: number
  readonly headBytes: number
  readonly recordCount: number
  readonly vchannels: readonly string[]
  readonly names: readonly VchannelName[]
  readonly namesBytes: number
  readonly contexts: readonly Uint8Array[]
  readonly contextsBytes: number
  readonly payloads: readonly (Uint8Array | null)[]
  readonly payloadLengths: readonly number[]
  /** Encoded when the body was planned: an object that changes afterwards changes nothing. */
  readonly properties: Buffer | null
  readonly propertiesLengths: readonly number[] | null
  readonly vchannelIndexes: readonly number[] | null
  readonly contextIndexes: readonly number[] | null
  readonly types: readonly number[] | null
  readonly sectionLengths: readonly number[]
  readonly sectionRecords: readonly number[]
}

const PROPERTIES_BYTES_AT_FIRST = 1024
const NOTHING = new Uint8Array(0)
const NO_CONTEXTS: readonly Uint8Array[] = []

const nameCache = new VchannelNameCache()
let planMark = 0

/**
 * Throws INVALID_ARGUMENT or LIMIT_EXCEEDED, naming the index of the record and the limit. Keeps the payloads, not
 * copies of them, until the body is written.
 */
export function planBody(
  records: readonly RecordInput[],
  limits: Readonly<BodyLimits> = bodyLimits,
  contexts: readonly Uint8Array[] = NO_CONTEXTS,
): BodyPlan {
  const recordCount = records.length
  if (recordCount === 0) throw new FormatError('INVALID_ARGUMENT', 'a body without records')
  const recordsMax = Math.min(limits.recordsMax, FRAME_RECORDS_MAX)
  if (recordCount > recordsMax) {
    throw new FormatError('LIMIT_EXCEEDED', `${recordCount} records pass the limit of ${recordsMax} a frame`)
  }
  nameCache.trim()
  const mark = ++planMark

  const vchannels: string[] = []
  const names: VchannelName[] = []
  const sectionLengths: number[] = []
  const sectionRecords: number[] = []
  const payloads: (Uint8Array | null)[] = []
  const payloadLengths: number[] = []
  let properties: Buffer | null = null
  let propertiesEnd = 0
  let propertiesLengths: number[] | null = null
  let vchannelIndexes: number[] | null = null
  let contextIndexes: number[] | null = null
  let types: number[] | null = null
  let namesBytes = 0
  let rawBytes = 0
  let vchannel: string | undefined
  let vchannelIndex = -1

  for (let row = 0; row < recordCount; row++) {
    const record = records[row]!
    if (record.vchannel !== vchannel || row === 0) {
      const name = knownName(record.vchannel, limits.vchannelBytesMax, row)
      if (name.planMark !== mark) {
        name.planMark = mark
        name.planIndex = names.length
        names.push(name)
        vchannels.push(name.name)
        sectionLengths.push(0)
        sectionRecords.push(0)
        namesBytes += 1 + name.bytes.length
        if (name.planIndex === 1) vchannelIndexes = new Array<number>(row).fill(0)
      }
      vchannel = name.name
      vchannelIndex = name.planIndex
    }
    if (vchannelIndexes !== null) vchannelIndexes.push(vchannelIndex)

    const payload = record.payload === undefined ? NOTHING : record.payload
    if (payload !== null && !(payload instanceof Uint8Array)) throw refused(row, 'its payload is no Uint8Array')
    const payloadLength = payload === null ? 0 : payload.length
    payloads.push(payload)
    payloadLengths.push(payloadLength)
    let length = payloadLength

    if (record.properties !== undefined) {
      const encodedLength = measuredProperties(record.properties, row)
      if (encodedLength > 0) {
        if (payloadLength + encodedLength > limits.recordBytesMax)
          throw recordTooLong(row, payloadLength + encodedLength, limits)
        properties = withRoom(properties, propertiesEnd, encodedLength)
        const end = writeProperties(record.properties, properties, propertiesEnd)
        propertiesEnd += encodedLength
        if (end !== propertiesEnd) throw refused(row, 'its properties changed while they were read')
        propertiesLengths ??= new Array<number>(row).fill(0)
        length += encodedLength
      }
      if (propertiesLengths !== null) propertiesLengths.push(encodedLength)
    } else if (propertiesLengths !== null) propertiesLengths.push(0)

    const type = record.type
    if (type !== undefined && type !== 0) {
      if (!isU16(type)) throw refused(row, `its type ${type} is not an integer from 0 to 65,535`)
      types ??= new Array<number>(row).fill(0)
    }
    if (types !== null) types.push(type ?? 0)

    const contextIndex = record.contextIndex
    if (contextIndex !== undefined) {
      if (!isU16(contextIndex) || contextIndex >= contexts.length) {
        throw refused(row, `its context index ${contextIndex} is not below ${contexts.length}`)
      }
      contextIndexes ??= new Array<number>(row).fill(0)
    }
    if (contextIndexes !== null) contextIndexes.push(contextIndex === undefined ? 0 : contextIndex + 1)

    if (length > limits.recordBytesMax) throw recordTooLong(row, length, limits)
    rawBytes += length
    if (rawBytes > limits.bodyBytesMax) throw bodyTooLong(rawBytes, limits)
    sectionLengths[vchannelIndex]! += length
    sectionRecords[vchannelIndex]!++
  }

  namesBytes = paddedTo8(namesBytes)
  const contextsBytes = contexts.length === 0 ? 0 : measuredContexts(contexts)
  const headBytes =
    BODY_HEADER_BYTES + names.length * DIRECTORY_ENTRY_BYTES + namesBytes + contextsBytes + recordCount * ROW_BYTES
  let bodyBytes = headBytes
  for (const length of sectionLengths) bodyBytes += paddedTo8(length)
  if (bodyBytes > limits.bodyBytesMax) throw bodyTooLong(bodyBytes, limits)
  if (headBytes > BODY_HEAD_BYTES_MAX) {
    throw new FormatError('LIMIT_EXCEEDED', `a head of ${headBytes} bytes passes the limit of ${BODY_HEAD_BYTES_MAX}`)
  }
  return {
    bodyBytes,
    headBytes,
    recordCount,
    vchannels,
    names,
    namesBytes,
    contexts,
    contextsBytes,
    payloads,
    payloadLengths,
    properties,
    propertiesLengths,
    vchannelIndexes,
    contextIndexes,
    types,
    sectionLengths,
    sectionRecords,
  }
}

function knownName(name: string, bytesMax: number, row: number): VchannelName {
  try {
    return nameCache.get(name, bytesMax)
  } catch (error) {
    throw withRow(error, row)
  }
}

function measuredProperties(properties: Readonly<Record<string, string>>, row: number): number {
  try {
    return propertiesLength(properties)
  } catch (error) {
    throw withRow(error, row)
  }
}

function measuredContexts(contexts: readonly Uint8Array[]): number {
  if (contexts.length > CONTEXTS_MAX) {
    throw new FormatError('LIMIT_EXCEEDED', `${contexts.length} contexts pass the limit of ${CONTEXTS_MAX}`)
  }
  let length = 0
  for (const [index, context] of contexts.entries()) {
    try {
      checkContext(asBuffer(context), 0, context.length)
    } catch (error) {
      throw new FormatError('INVALID_ARGUMENT', `context ${index}: ${(error as Error).message}`)
    }
    length += 4 + context.length
  }
  length = paddedTo8(length)
  if (length > CONTEXTS_BYTES_MAX) {
    throw new FormatError('LIMIT_EXCEEDED', `contexts of ${length} bytes pass the limit of ${CONTEXTS_BYTES_MAX}`)
  }
  return length
}

function withRoom(buffer: Buffer | null, used: number, more: number): Buffer {
  if (buffer !== null && used + more <= buffer.length) return buffer
  const larger = Buffer.allocUnsafe(Math.max(used + more, 2 * used, PROPERTIES_BYTES_AT_FIRST))
  if (buffer !== null) larger.set(buffer.subarray(0, used))
  return larger
}

function isU16(value: number): boolean {
  return value === (value & 0xffff)
}

function refused(row: number, why: string): FormatError {
  return new FormatError('INVALID_ARGUMENT', `record ${row}: ${why}`)
}

function recordTooLong(row: number, length: number, limits: Readonly<BodyLimits>): FormatError {
  const message = `record ${row}: its ${length} bytes pass the limit of ${limits.recordBytesMax} bytes a record`
  return new FormatError('LIMIT_EXCEEDED', message)
}

function bodyTooLong(length: number, limits: Readonly<BodyLimits>): FormatError {
  const message = `a body of ${length} bytes or more passes the limit of ${limits.bodyBytesMax} bytes a frame`
  return new FormatError('LIMIT_EXCEEDED', message)
}

function withRow(error: unknown, row: number): unknown {
  return error instanceof FormatError ? new FormatError(error.code, `record ${row}: ${error.message}`) : error
}
