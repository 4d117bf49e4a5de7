/** The messages of a received body, for users' interceptors: to look at, since its bytes are the client's. */
import { decodeProperties } from '../../../native-free-storage/index.ts'
import type { EncodedBody } from '../../log-store/log-store.ts'
import { isReservedName } from '../../message/property-names.ts'
import type { MutableMessage } from '../types.ts'

/** Frozen: an interceptor that changes one throws, and so refuses it. Payloads are views of the body. */
export function messagesOfBody({ head, bytes }: EncodedBody): MutableMessage[] {
  const offsets = head.rowOffsets()
  const messages: MutableMessage[] = []
  for (let row = 0; row < head.recordCount; row++) {
    const vchannelIndex = head.vchannelIndex(row)
    const start = head.sectionOffset(vchannelIndex) + offsets[row]!
    const payloadStart = start + head.propertiesLength(row)
    const properties: Record<string, string> = {}
    if (payloadStart > start) {
      for (const [name, value] of Object.entries(decodeProperties(bytes.subarray(start, payloadStart)))) {
        if (!isReservedName(name)) properties[name] = value
      }
    }
    messages.push(
      Object.freeze({
        vchannel: head.vchannels[vchannelIndex]!,
        type: head.type(row),
        properties: Object.freeze(properties),
        payload: head.hasNullPayload(row) ? null : bytes.subarray(payloadStart, payloadStart + head.payloadLength(row)),
      }),
    )
  }
  return messages
}
