import type { Message } from '../../src/protocol/message.ts'
import { MessageParser } from '../../src/protocol/message-parser.ts'

/** The messages of `bytes`, which come in pieces that end at `cuts`. */
export function parseMessages(bytes: Buffer, cuts: readonly number[] = []): Message[] {
  const messages: Message[] = []
  const parser = new MessageParser(
    1024 * 1024,
    (message) => messages.push({ ...message, meta: Buffer.from(message.meta) }) > 0,
  )
  let at = 0
  for (const cut of [...cuts.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    if (cut > at) parser.push(Buffer.from(bytes.subarray(at, cut)))
    at = Math.max(at, cut)
  }
  return messages
}
