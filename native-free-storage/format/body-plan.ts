/**
 * The first half of encoding a body (body-layout.ts): everything is checked and measured, so that the second half,
 * `writeBody`, only copies and hashes. An LSN is given between the two.
 */
import {
  BODY_BYTES_MAX,
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
import { propertiesBytesBound, writeProperties } from './properties.ts'
import { UTF8_BYTES_A_UNIT } from './text.ts'
import { checkedVchannelName, type VchannelName } from './vchannel-names.ts'

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

/**
 * Throws INVALID_ARGUMENT or LIMIT_EXCEEDED, naming the index of the record and the limit. Keeps the payloads, not
 * copies of them, until the body is written.
 */
export function planBody(
  records: readonly RecordInput[],
  limits: Readonly<BodyLimits> = bodyLimits,
  contexts: readonly Uint8Array[] = NO_CONTEXTS,
): BodyPlan {
  if (records.length > limits.recordsMax || records.length > FRAME_RECORDS_MAX) {
    throw tooManyRecords(records.length, limits)
  }
  const planner = new BodyPlanner(limits, contexts)
  for (let row = 0; row < records.length; row++) planner.add(records[row]!)
  return planner.finish()
}

/** Plans a body from records that come one by one. */
export class BodyPlanner {
  private readonly limits: Readonly<BodyLimits>
  private readonly contexts: readonly Uint8Array[]
  private readonly contextsBytes: number
  private readonly vchannels: string[] = []
  private readonly names: VchannelName[] = []
  private readonly sectionLengths: number[] = []
  private readonly sectionRecords: number[] = []
  private readonly payloads: (Uint8Array | null)[] = []
  private readonly payloadLengths: number[] = []
  private properties: Buffer | null = null
  private propertiesEnd = 0
  private propertiesLengths: number[] | null = null
  private vchannelIndexes: number[] | null = null
  private contextIndexes: number[] | null = null
  private types: number[] | null = null
  private namesBytes = 0
  private sectionsBytes = 0
  /** Index of each name; made when there is a second one. */
  private indexes: Map<string, number> | null = null
  private lastName: string | undefined
  private lastIndex = -1

  constructor(limits: Readonly<BodyLimits> = bodyLimits, contexts: readonly Uint8Array[] = NO_CONTEXTS) {
    this.limits = limits
    this.contexts = contexts
    this.contextsBytes = contexts.length === 0 ? 0 : measuredContexts(contexts)
  }

  get recordCount(): number {
    return this.payloads.length
  }

  /** Length of the body if it were finished now. */
  get bytes(): number {
    return this.headBytes(this.names.length, this.namesBytes, this.payloads.length) + this.sectionsBytes
  }

  /** Throws INVALID_ARGUMENT or LIMIT_EXCEEDED; then nothing has been added. */
  add(record: RecordInput): void {
    const limits = this.limits
    const row = this.payloads.length
    if (row >= limits.recordsMax || row >= FRAME_RECORDS_MAX) throw tooManyRecords(row + 1, limits)

    const payload = record.payload === undefined ? NOTHING : record.payload
    if (payload !== null && !(payload instanceof Uint8Array)) throw refused(row, 'its payload is no Uint8Array')
    const payloadLength = payload === null ? 0 : payload.length
    if (payloadLength > limits.recordBytesMax) throw recordTooLong(row, payloadLength, limits)
    const type = record.type === undefined ? 0 : record.type
    if (type !== 0 && !isU16(type)) throw refused(row, `its type ${type} is not an integer from 0 to 65,535`)
    const context = record.contextIndex === undefined ? 0 : this.checkedContext(record.contextIndex, row)

    const propertiesLength = record.properties === undefined ? 0 : this.encodeProperties(record.properties, row)
    if (payloadLength + propertiesLength > limits.recordBytesMax) {
      throw recordTooLong(row, payloadLength + propertiesLength, limits)
    }
    const length = payloadLength + propertiesLength

    const known = this.lastName === record.vchannel ? this.lastIndex : this.knownIndex(record.vchannel)
    if (known < 0) {
      this.addVchannel(record.vchannel, length, row)
    } else {
      const before = this.sectionLengths[known]!
      const more = paddedTo8(before + length) - paddedTo8(before)
      this.checkBody(this.bytes + ROW_BYTES + more)
      this.sectionLengths[known] = before + length
      this.sectionRecords[known]!++
      this.sectionsBytes += more
      this.lastIndex = known
    }

    // Nothing throws from here on.
    this.lastName = record.vchannel
    this.payloads.push(payload)
    this.payloadLengths.push(payloadLength)
    if (this.vchannelIndexes !== null) this.vchannelIndexes.push(this.lastIndex)
    if (propertiesLength > 0) {
      this.propertiesEnd += propertiesLength
      this.propertiesLengths ??= zeros(row)
    }
    if (this.propertiesLengths !== null) this.propertiesLengths.push(propertiesLength)
    if (type !== 0) this.types ??= zeros(row)
    if (this.types !== null) this.types.push(type)
    if (context !== 0) this.contextIndexes ??= zeros(row)
    if (this.contextIndexes !== null) this.contextIndexes.push(context)
  }

  /** Throws INVALID_ARGUMENT when there is no record. Nothing may be added afterwards. */
  finish(): BodyPlan {
    const recordCount = this.payloads.length
    if (recordCount === 0) throw new FormatError('INVALID_ARGUMENT', 'a body without records')
    const headBytes = this.headBytes(this.names.length, this.namesBytes, recordCount)
    return {
      bodyBytes: headBytes + this.sectionsBytes,
      headBytes,
      recordCount,
      vchannels: this.vchannels,
      names: this.names,
      namesBytes: paddedTo8(this.namesBytes),
      contexts: this.contexts,
      contextsBytes: this.contextsBytes,
      payloads: this.payloads,
      payloadLengths: this.payloadLengths,
      properties: this.properties,
      propertiesLengths: this.propertiesLengths,
      vchannelIndexes: this.vchannelIndexes,
      contextIndexes: this.contextIndexes,
      types: this.types,
      sectionLengths: this.sectionLengths,
      sectionRecords: this.sectionRecords,
    }
  }

  private headBytes(vchannelCount: number, namesBytes: number, recordCount: number): number {
    const directory = vchannelCount * DIRECTORY_ENTRY_BYTES
    return BODY_HEADER_BYTES + directory + paddedTo8(namesBytes) + this.contextsBytes + recordCount * ROW_BYTES
  }

  /** -1: the name is new here. */
  private knownIndex(name: string): number {
    if (this.indexes === null) return -1
    return this.indexes.get(name) ?? -1
  }

  private addVchannel(vchannel: string, length: number, row: number): void {
    const name = checkedName(vchannel, this.limits.vchannelBytesMax, row)
    const index = this.names.length
    const namesBytes = this.namesBytes + 1 + name.bytes.length
    const sectionsBytes = this.sectionsBytes + paddedTo8(length)
    this.checkBody(this.headBytes(index + 1, namesBytes, row + 1) + sectionsBytes)
    if (index === 1) {
      this.indexes = new Map([[this.vchannels[0]!, 0]])
      this.vchannelIndexes = zeros(row)
    }
    this.indexes?.set(name.name, index)
    this.names.push(name)
    this.vchannels.push(name.name)
    this.sectionLengths.push(length)
    this.sectionRecords.push(1)
    this.namesBytes = namesBytes
    this.sectionsBytes = sectionsBytes
    this.lastIndex = index
  }

  private checkBody(bodyBytes: number): void {
    if (bodyBytes > this.limits.bodyBytesMax || bodyBytes > BODY_BYTES_MAX) throw bodyTooLong(bodyBytes, this.limits)
  }

  private checkedContext(index: number, row: number): number {
    if (!isU16(index) || index >= this.contexts.length) {
      throw refused(row, `its context index ${index} is not below ${this.contexts.length}`)
    }
    return index + 1
  }

  /** Behind what is kept, which grows only when the record is taken. Returns the length. */
  private encodeProperties(properties: Readonly<Record<string, string>>, row: number): number {
    try {
      const keys = Object.keys(properties)
      if (keys.length === 0) return 0
      const bound = propertiesBytesBound(properties, keys)
      if (bound > UTF8_BYTES_A_UNIT * this.limits.recordBytesMax) throw propertiesTooLong(this.limits)
      this.properties = withRoom(this.properties, this.propertiesEnd, bound)
      const end = writeProperties(properties, keys, this.properties, this.propertiesEnd)
      if (end > this.properties.length)
        throw new FormatError('INVALID_ARGUMENT', 'its properties changed while they were read')
      return end - this.propertiesEnd
    } catch (error) {
      throw withRow(error, row)
    }
  }
}

function zeros(count: number): number[] {
  return new Array<number>(count).fill(0)
}

function tooManyRecords(count: number, limits: Readonly<BodyLimits>): FormatError {
  const max = Math.min(limits.recordsMax, FRAME_RECORDS_MAX)
  return new FormatError('LIMIT_EXCEEDED', `${count} records pass the limit of ${max} records a frame`)
}

function checkedName(name: string, bytesMax: number, row: number): VchannelName {
  try {
    return checkedVchannelName(name, bytesMax)
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

function propertiesTooLong(limits: Readonly<BodyLimits>): FormatError {
  const message = `its properties alone pass the limit of ${limits.recordBytesMax} bytes a record`
  return new FormatError('LIMIT_EXCEEDED', message)
}

function bodyTooLong(length: number, limits: Readonly<BodyLimits>): FormatError {
  const message = `a body of ${length} bytes or more passes the limit of ${Math.min(limits.bodyBytesMax, BODY_BYTES_MAX)} bytes a frame`
  return new FormatError('LIMIT_EXCEEDED', message)
}

function withRow(error: unknown, row: number): unknown {
  return error instanceof FormatError ? new FormatError(error.code, `record ${row}: ${error.message}`) : error
}
