/**
 * What `produce` reads: records out of a stream of bytes, in bounded memory. An item that cannot be a record carries
 * the error in its place, so that every item of the input keeps its index.
 */
import { TidelogError } from '../errors.ts'
import { type Line, LineSplitter } from './line-splitter.ts'
import { decodeEnvelope, EnvelopeError, readJsonLine } from './record-envelope.ts'

export type InputMode = 'lines' | 'ndjson' | 'raw' | 'envelope'

export interface InputRecord {
  type: number
  properties?: Readonly<Record<string, string>>
  header?: Readonly<Record<string, unknown>>
  payload: Uint8Array | null
  /** The value of `keyProperty`. */
  key?: string
}

export type InputItem = { record: InputRecord } | { error: TidelogError<'INVALID_ARGUMENT' | 'LIMIT_EXCEEDED'> }

export interface InputOptions {
  mode: InputMode
  /** Of every record; with `envelope`, of those that name none. */
  type: number
  /** Every record has one, a property of its envelope or a field of its JSON: its idempotency key. */
  keyProperty?: string | undefined
  /** Longer payloads are refused before they are held. */
  recordBytesMax: number
}

/** JSON may escape a byte as six characters; beside the payload stand properties and names. */
const envelopeFactor = 6
const envelopeSlackBytes = 1024 * 1024

/** The items in the order of the input, as many at a time as a chunk holds. */
export async function* readInput(
  source: AsyncIterable<Uint8Array>,
  options: InputOptions,
): AsyncGenerator<InputItem[]> {
  if (options.mode === 'raw') {
    yield [await readWhole(source, options)]
    return
  }
  const lineBytesMax =
    options.mode === 'envelope' ? options.recordBytesMax * envelopeFactor + envelopeSlackBytes : options.recordBytesMax
  const splitter = new LineSplitter(lineBytesMax)
  let lineNumber = 0
  const items = (lines: Iterable<Line>): InputItem[] => {
    const found: InputItem[] = []
    for (const line of lines) found.push(itemOf(line, ++lineNumber, lineBytesMax, options))
    return found
  }
  for await (const chunk of source) {
    const found = items(splitter.push(chunk))
    if (found.length > 0) yield found
  }
  const last = items(splitter.end())
  if (last.length > 0) yield last
}

function itemOf(line: Line, number: number, lineBytesMax: number, options: InputOptions): InputItem {
  const { mode, type, keyProperty } = options
  if (line.bytes === null) {
    return refused('LIMIT_EXCEEDED', `line ${number} has ${line.length} bytes; at most ${lineBytesMax} are allowed`)
  }
  if (mode === 'lines') return { record: { type, payload: line.bytes } }
  try {
    if (mode === 'ndjson') {
      const value = readJsonLine(line.bytes)
      const record: InputRecord = { type, payload: line.bytes }
      if (keyProperty !== undefined) record.key = keyOf(value, keyProperty)
      return { record }
    }
    const envelope = decodeEnvelope(line.bytes)
    const record: InputRecord = { type: envelope.type ?? type, payload: envelope.payload }
    if (envelope.properties) record.properties = envelope.properties
    if (envelope.header) record.header = envelope.header
    if (keyProperty !== undefined) record.key = keyOf(envelope.properties, keyProperty)
    return { record }
  } catch (error) {
    if (!(error instanceof EnvelopeError)) throw error
    return refused('INVALID_ARGUMENT', `line ${number}: ${error.message}`)
  }
}

/** A string, or a whole number in decimal. */
function keyOf(fields: unknown, name: string): string {
  const isObject = typeof fields === 'object' && fields !== null && !Array.isArray(fields)
  const value = isObject && Object.hasOwn(fields, name) ? (fields as Record<string, unknown>)[name] : undefined
  if (typeof value === 'string' && value !== '') return value
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value)
  const what = value === undefined ? 'is not there' : 'is no text and no whole number'
  throw new EnvelopeError(`${JSON.stringify(name)} ${what}: it is to be the idempotency key`)
}

async function readWhole(source: AsyncIterable<Uint8Array>, options: InputOptions): Promise<InputItem> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of source) {
    bytes += chunk.length
    if (bytes > options.recordBytesMax) {
      return refused('LIMIT_EXCEEDED', `the input is longer than a record may be: ${options.recordBytesMax} bytes`)
    }
    chunks.push(chunk)
  }
  return { record: { type: options.type, payload: Buffer.concat(chunks, bytes) } }
}

function refused(code: 'INVALID_ARGUMENT' | 'LIMIT_EXCEEDED', message: string): InputItem {
  return { error: new TidelogError<'INVALID_ARGUMENT' | 'LIMIT_EXCEEDED'>(code, message, { outcome: 'not-written' }) }
}
