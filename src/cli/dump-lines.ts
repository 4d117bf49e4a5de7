/** How `dump` prints frames and records: a line each for people, an object a line for programs. */
import { isUtf8 } from 'node:buffer'
import type { DumpedFrame, LogRecord } from '../../native-free-storage/index.ts'
import { HEADER_PROPERTY, KEY_PROPERTY } from '../message/property-names.ts'
import { headerToJson } from './header-json.ts'
import { hexDump } from './hex-dump.ts'
import { jsonText } from './json-text.ts'
import { encodePayload } from './record-envelope.ts'
import type { RecordMeaning } from './record-words.ts'
import { printable } from './text-table.ts'
import { isoOfTick } from './wall-time.ts'

/** Of a payload, on a line for people. */
const previewBytes = 60
/** Of a typed header. */
const headerChars = 400

/** `{...,"log","file","position","kind",...}`: everything that the header of the frame says. */
export function frameJson(log: string, frame: DumpedFrame): string {
  const { file, position, nextPosition, kind, faults, gap, header } = frame
  return jsonText({ ...header, log, file, position, nextPosition, kind, faults, gap })
}

/**
 * `{"log","file","position","kind":"record","lsn",...}`; the position is that of its frame. `header`, `transaction`,
 * `producer` and `key` stand in it where the record has them; `properties` are those that are stored.
 */
export function recordJson(log: string, frame: DumpedFrame, record: LogRecord, meaning: RecordMeaning): string {
  const { typeName, header, transaction, producer, key } = meaning
  const head = jsonText({
    log,
    file: frame.file,
    position: frame.position,
    kind: 'record',
    lsn: record.lsn,
    timeTick: record.timeTick,
    time: isoOfTick(record.timeTick),
    vchannel: record.vchannel,
    type: record.type,
    typeName,
    header: header === undefined ? undefined : headerToJson(header),
    transaction: transaction ?? undefined,
    producer: producer ?? undefined,
    key,
    properties: record.properties,
  })
  return `${head.slice(0, -1)},${encodePayload(record)}}`
}

export function frameText(frame: DumpedFrame, voidCount: number): string {
  const { file, position, nextPosition, kind, faults, gap, header } = frame
  const fields = [`${file} @${position}`, kind]
  if (header === null) fields.push(`${nextPosition - position} bytes that are no frame`)
  else {
    const { baseLsn, recordCount, baseTimeTick, ownerTerm, incarnation, totalLength } = header
    fields.push(recordCount > 1 ? `LSN ${baseLsn}..${baseLsn + recordCount - 1}` : `LSN ${baseLsn}`)
    fields.push(`tick ${baseTimeTick}`, isoOfTick(baseTimeTick), `term ${ownerTerm}/${incarnation}`)
    fields.push(`${recordCount} ${recordCount === 1 ? 'record' : 'records'}`, `${totalLength} bytes`)
  }
  if (voidCount > 0) fields.push(`${voidCount} void: they were in the log before`)
  if (gap !== null) fields.push(`${gap.count} LSNs skipped: ${gap.reason}`)
  for (const fault of faults) fields.push(`DAMAGED: ${printable(fault)}`)
  return `${fields.filter((field) => field !== '').join('  ')}\n`
}

export function recordText(record: LogRecord, hex: boolean, { typeName, header, words }: RecordMeaning): string {
  const { lsn, timeTick, vchannel, type, properties, payload } = record
  const names = Object.entries(properties).flatMap(([name, value]) => {
    // They are told in words.
    const isTold = name === KEY_PROPERTY || (name === HEADER_PROPERTY && header !== undefined)
    return isTold ? [] : [`${name}=${JSON.stringify(value)}`]
  })
  const shown = names.length === 0 ? '' : `  {${printable(names.join(' '))}}`
  const fields = header === undefined ? '' : headerText(header)
  const named = type === 0 || typeName === `type ${type}` ? `type ${type}` : `${typeName} (${type})`
  const what = record.isNull ? 'null' : `${payload.length} bytes`
  const said = words === '' ? '' : `  ${words}`
  const line = `  LSN ${lsn}  tick ${timeTick}  ${printable(vchannel) || '(all)'}  ${named}${said}${fields}${shown}  ${what}`
  if (hex) return `${line}\n${hexDump(payload, 0, '    ')}`
  return payload.length === 0 ? `${line}\n` : `${line}  ${preview(payload)}\n`
}

/** Cut where a line would become a page. */
function headerText(header: Readonly<Record<string, unknown>>): string {
  const text = jsonText(headerToJson(header))
  if (text === '{}') return ''
  return `  ${printable(text.length > headerChars ? `${text.slice(0, headerChars)}...` : text)}`
}

/** The beginning of it, as text where it is text. */
function preview(payload: Uint8Array): string {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.length, previewBytes))
  const more = payload.length > previewBytes ? '...' : ''
  // A cut inside a character is still text.
  for (let end = bytes.length; end > bytes.length - 4 && end > 0; end--) {
    if (isUtf8(bytes.subarray(0, end))) return `${printable(JSON.stringify(bytes.toString('utf8', 0, end)))}${more}`
    if (more === '') break
  }
  return `0x${bytes.toString('hex')}${more}`
}
