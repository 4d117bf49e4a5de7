import type { ImmutableMessage, Scan, ScanItem } from '../../../src/wal/types.ts'
import type { ExpectedMessage, ExpectedUnit } from './log-script.ts'

export async function collect(scan: Scan): Promise<ScanItem[]> {
  const items: ScanItem[] = []
  for await (const item of scan) items.push(item)
  return items
}

/** Items in the form of the script. Ticks are left out. */
export function unitsOf(items: readonly ScanItem[]): ExpectedUnit[] {
  return items.flatMap((item): ExpectedUnit[] => {
    if (item.kind === 'tick') return []
    const { lsn, timeTick, vchannel } = item
    if (item.kind === 'message') return [{ kind: 'message', lsn, timeTick, vchannel, message: messageOf(item) }]
    const { transaction } = item
    for (const message of item.messages) {
      if (message.timeTick !== timeTick) throw new Error(`LSN ${message.lsn} has a tick of its own`)
    }
    return [{ kind: 'txn', lsn, timeTick, vchannel, transaction, messages: item.messages.map(messageOf) }]
  })
}

function messageOf({ lsn, vchannel, type, payload, properties }: ImmutableMessage): ExpectedMessage {
  if (properties.own !== undefined && properties.own !== `${lsn}`)
    throw new Error(`LSN ${lsn} has properties of another`)
  return { lsn, vchannel, type, text: Buffer.from(payload).toString() }
}
