/**
 * The second half of encoding a body (body-layout.ts): copies what `planBody` measured, and hashes.
 *
 * Measured on Node 20 and one core, hashing included: 1,024 records of 1 KB take 0.03 ms to plan and 0.12 ms to write
 * in one vchannel (8.7 GB/s, together 6.8), 0.40 ms together in 1,000 vchannels. One record of 100 bytes takes 0.09 us
 * to plan and 0.4 us to write, of which two hashes and their views are 0.24.
 */
import {
  BODY_HEADER_BYTES,
  COLUMN_BITS,
  CONTEXT_COUNT,
  CONTEXTS_LENGTH,
  DIRECTORY_ENTRY_BYTES,
  ENTRY_CODEC,
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
import type { BodyPlan } from './body-plan.ts'
import { hash64 } from './checksum.ts'
import { paddedTo8 } from './integers.ts'

/**
 * Writes the body, `plan.bodyBytes` long, with its padding; what stood in `target` does not matter. Returns the body
 * hash. Throws RangeError when a payload is no longer as long as it was planned.
 */
export function writeBody(plan: BodyPlan, target: Buffer, offset: number): bigint {
  if (offset < 0 || offset + plan.bodyBytes > target.length) throw new RangeError('the body does not fit its target')
  const view = new DataView(target.buffer, target.byteOffset + offset, plan.bodyBytes)
  const headBytes = plan.headBytes
  const vchannelCount = plan.names.length
  view.setUint32(HEAD_LENGTH, headBytes, true)
  view.setUint32(RECORD_COUNT, plan.recordCount, true)
  view.setUint32(VCHANNEL_COUNT, vchannelCount, true)
  view.setUint32(NAMES_LENGTH, plan.namesBytes, true)
  view.setUint32(CONTEXTS_LENGTH, plan.contextsBytes, true)
  view.setUint16(CONTEXT_COUNT, plan.contexts.length, true)
  view.setUint16(ROW_STRIDE, ROW_BYTES, true)
  view.setUint32(SECTIONS_LENGTH, plan.bodyBytes - headBytes, true)
  view.setUint32(COLUMN_BITS, 0, true)

  const namesAt = BODY_HEADER_BYTES + vchannelCount * DIRECTORY_ENTRY_BYTES
  const contextsAt = namesAt + plan.namesBytes
  const tableAt = contextsAt + plan.contextsBytes
  writeNames(plan, target, offset + namesAt)
  if (plan.contextsBytes > 0) writeContexts(plan, target, offset + contextsAt)
  if (vchannelCount === 1 && plan.propertiesLengths === null) writePlainRows(plan, view, tableAt, target, offset)
  else writeRows(plan, view, tableAt, target, offset)
  writeDirectory(plan, view, target, offset)
  return hash64(target.subarray(offset, offset + headBytes))
}

/** Rows and bytes of records of one vchannel, none of which has properties. */
function writePlainRows(plan: BodyPlan, view: DataView, tableAt: number, target: Buffer, offset: number): void {
  const { payloads, payloadLengths, types, contextIndexes, recordCount } = plan
  let row = tableAt
  let at = offset + plan.headBytes
  for (let index = 0; index < recordCount; index++, row += ROW_BYTES) {
    const payload = payloads[index]!
    const length = payloadLengths[index]!
    view.setUint32(row + ROW_PAYLOAD_LENGTH, length, true)
    view.setUint32(row + ROW_PROPERTIES_LENGTH, 0, true)
    view.setUint16(row + ROW_VCHANNEL, 0, true)
    view.setUint16(row + ROW_CONTEXT, contextIndexes === null ? 0 : contextIndexes[index]!, true)
    view.setUint16(row + ROW_TYPE, types === null ? 0 : types[index]!, true)
    view.setUint16(row + ROW_FLAGS, payload === null ? ROW_FLAG_NULL_PAYLOAD : 0, true)
    if (payload !== null) putPayload(payload, length, target, at)
    at += length
  }
}

function writeRows(plan: BodyPlan, view: DataView, tableAt: number, target: Buffer, offset: number): void {
  const { payloads, payloadLengths, properties, propertiesLengths, vchannelIndexes, types, contextIndexes } = plan
  const cursors = sectionStarts(plan, offset + plan.headBytes)
  let row = tableAt
  let propertiesAt = 0
  for (let index = 0; index < plan.recordCount; index++, row += ROW_BYTES) {
    const payload = payloads[index]!
    const length = payloadLengths[index]!
    const propertiesLength = propertiesLengths === null ? 0 : propertiesLengths[index]!
    const vchannel = vchannelIndexes === null ? 0 : vchannelIndexes[index]!
    view.setUint32(row + ROW_PAYLOAD_LENGTH, length, true)
    view.setUint32(row + ROW_PROPERTIES_LENGTH, propertiesLength, true)
    view.setUint16(row + ROW_VCHANNEL, vchannel, true)
    view.setUint16(row + ROW_CONTEXT, contextIndexes === null ? 0 : contextIndexes[index]!, true)
    view.setUint16(row + ROW_TYPE, types === null ? 0 : types[index]!, true)
    view.setUint16(row + ROW_FLAGS, payload === null ? ROW_FLAG_NULL_PAYLOAD : 0, true)
    let at = cursors[vchannel]!
    if (propertiesLength > 0) {
      properties!.copy(target, at, propertiesAt, propertiesAt + propertiesLength)
      propertiesAt += propertiesLength
      at += propertiesLength
    }
    if (payload !== null) putPayload(payload, length, target, at)
    cursors[vchannel] = at + length
  }
}

function putPayload(payload: Uint8Array, length: number, target: Buffer, at: number): void {
  if (payload.length !== length) throw new RangeError('a payload has changed its length since the body was planned')
  if (length > 0) target.set(payload, at)
}

function sectionStarts(plan: BodyPlan, from: number): number[] {
  const starts: number[] = []
  let at = from
  for (const length of plan.sectionLengths) {
    starts.push(at)
    at += paddedTo8(length)
  }
  return starts
}

function writeDirectory(plan: BodyPlan, view: DataView, target: Buffer, offset: number): void {
  let section = 0
  for (let index = 0; index < plan.names.length; index++) {
    const entry = BODY_HEADER_BYTES + index * DIRECTORY_ENTRY_BYTES
    const length = plan.sectionLengths[index]!
    const from = offset + plan.headBytes + section
    const hash = length === 0 ? 0n : hash64(target.subarray(from, from + length))
    view.setBigUint64(entry + ENTRY_HASH, hash, true)
    view.setUint32(entry + ENTRY_OFFSET, section, true)
    view.setUint32(entry + ENTRY_STORED_LENGTH, length, true)
    view.setUint32(entry + ENTRY_RAW_LENGTH, length, true)
    view.setUint32(entry + ENTRY_RECORDS, plan.sectionRecords[index]!, true)
    view.setUint32(entry + ENTRY_CODEC, 0, true)
    view.setUint32(entry + ENTRY_KEY_ID, 0, true)
    section += paddedTo8(length)
    zero(target, from + length, offset + plan.headBytes + section)
  }
}

function writeNames(plan: BodyPlan, target: Buffer, offset: number): void {
  let at = offset
  for (const { bytes } of plan.names) {
    target[at] = bytes.length
    target.set(bytes, at + 1)
    at += 1 + bytes.length
  }
  zero(target, at, offset + plan.namesBytes)
}

function writeContexts(plan: BodyPlan, target: Buffer, offset: number): void {
  let at = offset
  for (const context of plan.contexts) {
    target.writeUInt32LE(context.length, at)
    target.set(context, at + 4)
    at += 4 + context.length
  }
  zero(target, at, offset + plan.contextsBytes)
}

/** At most seven bytes: cheaper than a call of `fill`. */
function zero(target: Buffer, from: number, to: number): void {
  for (let at = from; at < to; at++) target[at] = 0
}
