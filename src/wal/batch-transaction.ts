/** A batch that does not fit one frame, as a transaction of its own: all of it or nothing, all the same. */
import { TidelogError } from '../errors.ts'
import { invalid } from './pipeline/limits.ts'
import type { NodeAppender } from './pipeline/node-appender.ts'
import type { MutableMessage, TxnOptions, WalAppendedBatch, WalTxn } from './types.ts'
import type { UnitOptions } from './unit.ts'

export interface BatchLimits {
  readonly frameBytesMax: number
  readonly frameRecordsMax: number
}

/** Frames of one batch that are under way at once. */
const FRAMES_IN_FLIGHT = 8

/**
 * `bytesOf`: of message `index`. LSNs are those of the first message and of the commit, both ticks are the commit's.
 * Rejects as the append that failed, or as the commit; then nothing of it is visible, unless the outcome is unknown.
 */
export async function appendAsTransaction(
  begin: (vchannel: string, options: TxnOptions) => Promise<WalTxn>,
  appender: NodeAppender,
  messages: readonly MutableMessage[],
  bytesOf: (index: number) => number,
  limits: BatchLimits,
  options: Pick<UnitOptions, 'barrierTick' | 'signal'>,
): Promise<WalAppendedBatch> {
  const { vchannel } = messages[0]!
  if (messages.some((message) => message.vchannel !== vchannel)) {
    throw invalid(
      `a batch of ${messages.length} messages does not fit one frame, and is for several vchannels: split it by vchannel`,
    )
  }
  const transaction = await begin(vchannel, { signal: options.signal })
  try {
    const firstLsn = await appendFrames(appender, transaction.id, split(messages, bytesOf, limits), options)
    const { lsn, timeTick } = await transaction.commit()
    return { firstLsn, lastLsn: lsn, firstTimeTick: timeTick, lastTimeTick: timeTick, duplicate: false }
  } catch (error) {
    await transaction.rollback().catch(() => {
      // It has ended already, or ends when it expires; nothing of it is visible either way.
    })
    throw error
  }
}

/** In order; a few at once. Gives the LSN of the first message. */
async function appendFrames(
  appender: NodeAppender,
  transaction: number,
  frames: readonly (readonly MutableMessage[])[],
  { barrierTick, signal }: Pick<UnitOptions, 'barrierTick' | 'signal'>,
): Promise<number> {
  let firstLsn = -1
  const underWay: Promise<void>[] = []
  let failure: unknown = null
  for (const frame of frames) {
    if (signal?.aborted) failure ??= aborted(signal)
    if (failure !== null) break
    underWay.push(
      appender.appendMessages(frame, { transaction }, { barrierTick, signal }).then(
        ({ range }) => {
          if (firstLsn < 0) firstLsn = range.firstLsn
        },
        (error: unknown) => {
          failure ??= error
        },
      ),
    )
    if (underWay.length >= FRAMES_IN_FLIGHT) await underWay.shift()
  }
  await Promise.all(underWay)
  if (failure !== null) throw failure
  return firstLsn
}

function split(
  messages: readonly MutableMessage[],
  bytesOf: (index: number) => number,
  { frameBytesMax, frameRecordsMax }: BatchLimits,
): MutableMessage[][] {
  const frames: MutableMessage[][] = []
  let frame: MutableMessage[] = []
  let bytes = 0
  for (const [index, message] of messages.entries()) {
    const length = bytesOf(index)
    if (frame.length > 0 && (frame.length >= frameRecordsMax || bytes + length > frameBytesMax)) {
      frames.push(frame)
      frame = []
      bytes = 0
    }
    frame.push(message)
    bytes += length
  }
  frames.push(frame)
  return frames
}

function aborted(signal: AbortSignal): TidelogError {
  return new TidelogError('ABORTED', 'the append was aborted; nothing of it is visible', {
    outcome: 'not-written',
    cause: signal.reason,
  })
}
