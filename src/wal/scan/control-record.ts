/** What the records that end transactions say (types 901 and 902). */
import { decodeProperties, FormatError } from '../../../native-free-storage/index.ts'
import { TidelogError } from '../../errors.ts'
import type { StoreFrame } from '../../log-store/log-store.ts'
import { decodeHeader } from '../../message/message-header.ts'
import { messageTypeName } from '../../message/message-type.ts'
import { HEADER_PROPERTY } from '../../message/property-names.ts'

export interface CommitFields {
  readonly begin: number
  readonly bodies: number
  readonly hash: bigint
}

/** Of a commit at `row`. FRAME_INVALID when it says nothing that a node can have written. */
export function readCommit(frame: StoreFrame, row: number): CommitFields {
  const header = readHeader(frame, row)
  const begin = integer(header.begin)
  const bodies = integer(header.bodies)
  const hash = typeof header.hash === 'number' ? BigInt(header.hash) : header.hash
  if (begin === null || bodies === null || typeof hash !== 'bigint') throw invalid(frame, row)
  return { begin, bodies, hash }
}

/** The transaction that a rollback at `row` ends; null: all of the pchannel. FRAME_INVALID as of `readCommit`. */
export function readRollback(frame: StoreFrame, row: number): number | null {
  const header = readHeader(frame, row)
  if (header.all === true) return null
  const begin = integer(header.begin)
  if (begin === null) throw invalid(frame, row)
  return begin
}

function readHeader(frame: StoreFrame, row: number): Readonly<Record<string, unknown>> {
  const head = frame.head!
  const section = frame.section(head.vchannelIndex(row))
  const start = head.rowOffsets()[row]!
  try {
    const bytes = section?.subarray(start, start + head.propertiesLength(row))
    const text = bytes === undefined ? undefined : decodeProperties(bytes)[HEADER_PROPERTY]
    const header = text === undefined ? undefined : decodeHeader(head.type(row), text)
    if (header !== undefined) return header as Readonly<Record<string, unknown>>
  } catch (error) {
    if (!(error instanceof TidelogError) && !(error instanceof FormatError)) throw error
    throw invalid(frame, row, error)
  }
  throw invalid(frame, row)
}

function integer(value: unknown): number | null {
  const number = typeof value === 'bigint' ? Number(value) : value
  return typeof number === 'number' && Number.isSafeInteger(number) && number >= 0 ? number : null
}

function invalid(frame: StoreFrame, row: number, cause?: unknown): TidelogError {
  const lsn = frame.baseLsn + row
  const name = messageTypeName(frame.head!.type(row))
  return new TidelogError('FRAME_INVALID', `LSN ${lsn}: a ${name} record whose header no node has written`, {
    lsn,
    cause,
  })
}
