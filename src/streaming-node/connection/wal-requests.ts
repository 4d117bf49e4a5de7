/** TXN_BEGIN, TXN_END, PRODUCER_OPEN and the lists of both: one question, one answer (PROTOCOL 7). */
import { TidelogError } from '../../errors.ts'
import { LIST_META_BYTES_MAX, NAME_BYTES_MAX } from '../../protocol/limits.ts'
import { encodeMessage, type Message, MessageType } from '../../protocol/message.ts'
import {
  decodeProducerList,
  decodeProducerOpen,
  decodeTxnBegin,
  decodeTxnEnd,
  decodeTxnList,
  encodeProducerListed,
  encodeProducerOpened,
  encodeTxnBegun,
  encodeTxnEnded,
  encodeTxnListed,
  type ProducerOpened,
  type ProducerOpenRequest,
  type TxnEndRequest,
} from '../../protocol/wal-messages.ts'
import type { NodeService } from '../node-service.ts'
import { checkVchannelName } from './requests.ts'

/** Keys and numbers of an item in TXN_LISTED and PRODUCER_LISTED. */
const LISTED_ITEM_BYTES = 192

export interface WalRequestParts {
  service: NodeService
  /** Settles when the frames of the transaction that came before are answered; null: there is none. */
  transactionIdle(group: number, transaction: number): Promise<void> | null
  onProducerOpened(opened: ProducerOpened): void
}

/** As `answerRequest`. */
export function answerWalRequest(parts: WalRequestParts, message: Message): Promise<Buffer> | null {
  const { type, requestId, meta } = message
  const { service } = parts
  switch (type) {
    case MessageType.txnBegin: {
      const { vchannel, keepaliveMs } = decodeTxnBegin(meta)
      return begin(service, vchannel, keepaliveMs, requestId)
    }
    case MessageType.txnEnd:
      return end(parts, decodeTxnEnd(meta), requestId)
    case MessageType.producerOpen:
      return openProducer(parts, decodeProducerOpen(meta), requestId)
    case MessageType.txnList: {
      const { items, more } = page(service.transactions(), decodeTxnList(meta), ({ vchannel }) => vchannel)
      const listed = encodeTxnListed({ transactions: items, more })
      return Promise.resolve(encodeMessage(MessageType.txnListed, requestId, listed))
    }
    case MessageType.producerList: {
      const { items, more } = page(service.producers(), decodeProducerList(meta), ({ vchannel, id }) => vchannel + id)
      const listed = encodeProducerListed({ producers: items, more })
      return Promise.resolve(encodeMessage(MessageType.producerListed, requestId, listed))
    }
    default:
      return null
  }
}

async function begin(service: NodeService, vchannel: string, keepaliveMs: number, requestId: number): Promise<Buffer> {
  checkVchannelName(vchannel)
  const begun = await service.begin(vchannel, keepaliveMs)
  return encodeMessage(MessageType.txnBegun, requestId, encodeTxnBegun(begun))
}

async function end(parts: WalRequestParts, request: TxnEndRequest, requestId: number): Promise<Buffer> {
  const { group, transaction } = request
  // What this connection has sent in it stands before its end.
  const idle = request.commit ? parts.transactionIdle(group, transaction) : null
  if (idle !== null) await idle
  const ended = await parts.service.end(group, transaction, request)
  return encodeMessage(MessageType.txnEnded, requestId, encodeTxnEnded(ended))
}

async function openProducer(parts: WalRequestParts, request: ProducerOpenRequest, requestId: number): Promise<Buffer> {
  const { vchannel, id, epoch } = request
  checkVchannelName(vchannel)
  const bytes = Buffer.byteLength(id)
  if (bytes === 0 || bytes > NAME_BYTES_MAX) {
    throw new TidelogError(
      'INVALID_ARGUMENT',
      `a producer's id of ${bytes} bytes: 1 to ${NAME_BYTES_MAX} are allowed`,
      {
        outcome: 'not-written',
      },
    )
  }
  const opened = await parts.service.openProducer(vchannel, id, epoch ?? null)
  parts.onProducerOpened(opened)
  return encodeMessage(MessageType.producerOpened, requestId, encodeProducerOpened(opened))
}

/** As many from `offset` on as a message holds. */
function page<T>(all: readonly T[], offset: number, text: (item: T) => string): { items: T[]; more: boolean } {
  const items: T[] = []
  let bytes = 0
  for (let index = offset; index < all.length; index++) {
    bytes += LISTED_ITEM_BYTES + Buffer.byteLength(text(all[index]!))
    if (bytes > LIST_META_BYTES_MAX) break
    items.push(all[index]!)
  }
  return { items, more: offset + items.length < all.length }
}
