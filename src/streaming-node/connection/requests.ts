/** RESOLVE, LIST, STATUS and TRUNCATE: one question, one answer. */
import { vchannelNameFault } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import {
  decodeList,
  decodeResolve,
  decodeStatus,
  decodeTruncate,
  encodeListed,
  encodeResolved,
  encodeStatusIs,
  encodeTruncated,
  type ListRequest,
  type ResolveRequest,
  type WireVchannel,
} from '../../protocol/control-messages.ts'
import { LIST_META_BYTES_MAX } from '../../protocol/limits.ts'
import { encodeMessage, type Message, MessageType } from '../../protocol/message.ts'
import type { NodeService, VchannelInfo } from '../node-service.ts'

const STATUS_GROUPS_MAX = 32
const STATUS_MESSAGE_CHARACTERS_MAX = 512
/** Keys and numbers of a vchannel in LISTED. */
const LISTED_ITEM_BYTES = 48

/**
 * Starts the work on a request: throws PROTOCOL_VIOLATION for what cannot be read, else gives the answer, or null for
 * what is no request.
 */
export function answerRequest(service: NodeService, message: Message): Promise<Buffer> | null {
  const { type, requestId, meta } = message
  switch (type) {
    case MessageType.resolve:
      return resolve(service, decodeResolve(meta)).then((info) => {
        return encodeMessage(MessageType.resolved, requestId, encodeResolved(info))
      })
    case MessageType.list: {
      const listed = list(service.vchannels(), decodeList(meta))
      return Promise.resolve(encodeMessage(MessageType.listed, requestId, encodeListed(listed)))
    }
    case MessageType.status:
      return Promise.resolve(encodeMessage(MessageType.statusIs, requestId, status(service, decodeStatus(meta))))
    case MessageType.truncate: {
      const { vchannel, lsn } = decodeTruncate(meta)
      return truncate(service, vchannel, lsn).then((firstLsn) => {
        return encodeMessage(MessageType.truncated, requestId, encodeTruncated(firstLsn))
      })
    }
    default:
      return null
  }
}

/** Throws INVALID_ARGUMENT. */
export function checkVchannelName(name: string): void {
  const fault = name === '' ? 'it is empty' : vchannelNameFault(name)
  if (fault !== null) throw new TidelogError('INVALID_ARGUMENT', `the vchannel name is refused: ${fault}`)
}

async function resolve(service: NodeService, { vchannel, create }: ResolveRequest): Promise<VchannelInfo> {
  checkVchannelName(vchannel)
  if (!create || service.accepting) return await service.resolve(vchannel, create)
  try {
    return await service.resolve(vchannel, false)
  } catch (cause) {
    throw new TidelogError('DRAINING', `the node is going down and creates no vchannel: ${vchannel}`, {
      retriable: true,
      outcome: 'not-written',
      cause,
    })
  }
}

async function truncate(service: NodeService, vchannel: string, lsn: number): Promise<number> {
  checkVchannelName(vchannel)
  return (await service.truncateBefore(vchannel, lsn)).firstLsn
}

/** `all` is sorted by name: as many behind `after` as the limit and a message hold. */
function list(
  all: readonly VchannelInfo[],
  { after, limit }: ListRequest,
): { vchannels: WireVchannel[]; more: boolean } {
  let low = 0
  let high = all.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (all[middle]!.name <= after) low = middle + 1
    else high = middle
  }
  const vchannels: WireVchannel[] = []
  let bytes = 0
  let index = after === '' ? 0 : low
  for (; index < all.length && vchannels.length < limit; index++) {
    const { name, group, createdMs } = all[index]!
    bytes += LISTED_ITEM_BYTES + Buffer.byteLength(name)
    if (bytes > LIST_META_BYTES_MAX) break
    vchannels.push({ name, group, createdMs })
  }
  return { vchannels, more: index < all.length }
}

function status(service: NodeService, offset: number): Buffer {
  const all = service.status()
  const groups = all.slice(offset, offset + STATUS_GROUPS_MAX).map(({ failure: _, ...group }) => ({
    ...group,
    message: group.message.slice(0, STATUS_MESSAGE_CHARACTERS_MAX),
  }))
  const space = service.space()
  const shown = space && { ...space, message: space.message.slice(0, STATUS_MESSAGE_CHARACTERS_MAX) }
  return encodeStatusIs({ groups, more: offset + groups.length < all.length, space: shown })
}
