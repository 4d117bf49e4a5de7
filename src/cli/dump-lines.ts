/** How `dump` prints frames and records: a line each for people, an object a line for programs. */
import { isUtf8 } from 'node:buffer'
import type { DumpedFrame, LogRecord } from '../../native-free-storage/index.ts'
import { hexDump } from './hex-dump.ts'
import { jsonText } from './json-text.ts'
import { encodePayload } from './record-envelope.ts'
import { printable } from './text-table.ts'
import { isoOfTick } from './wall-time.ts'

/** Of a payload, on a line for people. */
const previewBytes = 60

/** `{...,"log","file","position","kind",...}`: everything that the header of the frame says. */
export function frameJson(log: string, frame: DumpedFrame): string {
  const { file, position, nextPosition, kind, faults, gap, header } = frame
  return jsonText({ ...header, log, file, position, nextPosition, kind, faults, gap })
}

/** `{"log","file","position","kind":"record","lsn",...}`; the position is that of its frame. */
export function recordJson(log: string, frame: DumpedFrame, record: LogRecord): string {
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
    properties: record.properties,
  })
  return `${head.slice(0, -1)},${encodePayload(record)}}`
}

export function frameText(frame: DumpedFrame): string {
  const { file, position, nextPosition, kind, faults, gap, header } = frame
  const fields = [`${file} @${position}`, kind]
  if (header === null) fields.push(`${nextPosition - position} bytes that are no frame`)
  else {
    const { baseLsn, recordCount, baseTimeTick, ownerTerm, incarnation, totalLength } = header
    fields.push(recordCount > 1 ? `LSN ${baseLsn}..${baseLsn + recordCount - 1}` : `LSN ${baseLsn}`)
    fields.push(`tick ${baseTimeTick}`, isoOfTick(baseTimeTick), `term ${ownerTerm}/${incarnation}`)
    fields.push(`${recordCount} ${recordCount === 1 ? 'record' : 'records'}`, `${totalLength} bytes`)
  }
  if (gap !== null) fields.push(`${gap.count} LSNs skipped: ${gap.reason}`)
  for (const fault of faults) fields.push(`DAMAGED: ${printable(fault)}`)
  return `${fields.filter((field) => field !== '').join('  ')}\n`
}

export function recordText(record: LogRecord, hex: boolean): string {
  const { lsn, timeTick, vchannel, type, properties, payload } = record
  const names = Object.entries(properties).map(([name, value]) => `${name}=${JSON.stringify(value)}`)
  const shown = names.length === 0 ? '' : `  {${printable(names.join(' '))}}`
  const what = record.isNull ? 'null' : `${payload.length} bytes`
  const line = `  LSN ${lsn}  tick ${timeTick}  ${printable(vchannel) || '(all)'}  type ${type}${shown}  ${what}`
  if (hex) return `${line}\n${hexDump(payload, 0, '    ')}`
  return payload.length === 0 ? `${line}\n` : `${line}  ${preview(payload)}\n`
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
