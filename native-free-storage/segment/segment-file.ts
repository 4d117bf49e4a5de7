/**
 * Log segments opened for reading: the header verified against the name, handles shared and counted.
 *
 * A handle is open while somebody reads the segment and closed as soon as nobody does: the number of handles is bounded
 * by the number of segments being read at one time. A segment that is unlinked meanwhile can be read to its end.
 */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { loadChecksum } from '../format/checksum.ts'
import { FormatError } from '../format/format-error.ts'
import { type DecodedSegmentHeader, decodeSegmentHeader, SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { belongsTo, type Lineage } from './lineage.ts'

/** What names a segment: an entry of the log's list, or a file that a tool found. */
export interface SegmentReference {
  readonly id: string
  readonly baseLsn: number
  /** File name in the log's directory. */
  readonly name: string
}

export interface OpenSegment {
  readonly segment: SegmentReference
  readonly file: DiskFile
  readonly header: DecodedSegmentHeader
  /** To be called once by each who opened it. */
  release(): Promise<void>
}

interface SharedHandle {
  users: number
  readonly opening: Promise<{ file: DiskFile; header: DecodedSegmentHeader }>
}

export class SegmentFiles {
  readonly environment: Environment
  readonly directory: string
  readonly #lineage: Lineage | null
  readonly #handles = new Map<string, SharedHandle>()

  /** `lineage`: the logs of which every header must be; null: any. */
  constructor(environment: Environment, directory: string, lineage: Lineage | null) {
    this.environment = environment
    this.directory = directory
    this.#lineage = lineage
  }

  get openHandles(): number {
    return this.#handles.size
  }

  /**
   * Throws SEGMENT_MISSING, LOG_DAMAGED (the header is damaged, or is not the one that the name promises),
   * FORMAT_UNKNOWN, IO_FAILED.
   */
  async open(segment: SegmentReference): Promise<OpenSegment> {
    const key = segment.name
    let handle = this.#handles.get(key)
    if (handle === undefined) {
      handle = { users: 0, opening: this.#open(segment) }
      this.#handles.set(key, handle)
    }
    const shared = handle
    shared.users++
    const leave = async (): Promise<void> => {
      if (--shared.users > 0) return
      if (this.#handles.get(key) === shared) this.#handles.delete(key)
      const opened = await shared.opening.catch(() => undefined)
      // It was only read: nothing rests on how that ends.
      await opened?.file.close().catch(() => {})
    }
    try {
      const { file, header } = await shared.opening
      let released = false
      return {
        segment,
        file,
        header,
        release: async () => {
          if (released) return
          released = true
          await leave()
        },
      }
    } catch (error) {
      await leave()
      throw error
    }
  }

  /** The header alone. */
  async header(segment: SegmentReference): Promise<DecodedSegmentHeader> {
    const opened = await this.open(segment)
    await opened.release()
    return opened.header
  }

  async #open(segment: SegmentReference): Promise<{ file: DiskFile; header: DecodedSegmentHeader }> {
    await loadChecksum()
    let file: DiskFile
    try {
      file = await this.environment.disk.open(`${this.directory}/${segment.name}`, 'read')
    } catch (error) {
      if (isDiskError(error, 'ENOENT')) {
        const message = `the segment ${segment.name}, with the records from LSN ${segment.baseLsn}, is missing`
        throw new TidelogError('SEGMENT_MISSING', message, {
          file: segment.name,
          lsnFrom: segment.baseLsn,
          cause: error,
        })
      }
      throw readFailure(segment, 0, error)
    }
    try {
      return { file, header: await readSegmentHeader(file, segment, this.#lineage) }
    } catch (error) {
      await file.close()
      throw error
    }
  }
}

async function readSegmentHeader(
  file: DiskFile,
  segment: SegmentReference,
  lineage: Lineage | null,
): Promise<DecodedSegmentHeader> {
  const bytes = Buffer.allocUnsafeSlow(SEGMENT_HEADER_BYTES)
  const length = await readAt(file, segment, bytes, 0, SEGMENT_HEADER_BYTES, 0)
  let header: DecodedSegmentHeader
  try {
    header = decodeSegmentHeader(bytes.subarray(0, length))
  } catch (error) {
    throw headerFailure(segment, error)
  }
  if (header.segmentId !== segment.id || header.baseLsn !== segment.baseLsn) {
    const inside = `segment ${header.segmentId} with base LSN ${header.baseLsn}`
    throw headerDamage(segment, `the header of ${segment.name} is that of ${inside}`)
  }
  if (lineage !== null && !belongsTo(lineage, header)) {
    throw headerDamage(segment, `${segment.name} belongs to the log ${header.logId}, not to ${lineage.logId}`)
  }
  return header
}

/** Fewer bytes than `length` only at the end of the file. Throws IO_FAILED. */
export async function readAt(
  file: DiskFile,
  segment: SegmentReference,
  target: Uint8Array,
  offset: number,
  length: number,
  position: number,
): Promise<number> {
  try {
    return await file.read(target, offset, length, position)
  } catch (error) {
    throw readFailure(segment, position, error)
  }
}

export function readFailure(segment: SegmentReference, position: number, cause: unknown): TidelogError {
  const message = `${segment.name} cannot be read at position ${position}: ${cause instanceof Error ? cause.message : cause}`
  return new TidelogError('IO_FAILED', message, { file: segment.name, position, retriable: true, cause })
}

export interface DamagePlace {
  position: number
  lsnFrom: number | undefined
  /** The last LSN that may be gone; undefined: not known. */
  lsnTo: number | undefined
}

export function frameDamage(segment: SegmentReference, what: string, place: DamagePlace): TidelogError {
  const { position, lsnFrom, lsnTo } = place
  const lsns =
    lsnFrom === undefined ? '' : lsnTo === undefined ? `, from LSN ${lsnFrom}` : `, LSN ${lsnFrom} to ${lsnTo}`
  const message = `the frame at position ${position} of ${segment.name}${lsns} is damaged: ${what}`
  return new TidelogError('FRAME_DAMAGED', message, { file: segment.name, position, lsnFrom, lsnTo })
}

/** What a codec threw, as the error of the engine; anything else is returned as it is. */
export function frameFailure(segment: SegmentReference, error: unknown, place: DamagePlace): unknown {
  if (!(error instanceof FormatError)) return error
  if (error.code !== 'FORMAT_UNKNOWN') return frameDamage(segment, error.message, place)
  const message = `${segment.name}, position ${place.position}: ${error.message}`
  return new TidelogError('FORMAT_UNKNOWN', message, { file: segment.name, ...place, cause: error })
}

function headerDamage(segment: SegmentReference, message: string, cause?: unknown): TidelogError {
  return new TidelogError('LOG_DAMAGED', message, { file: segment.name, position: 0, lsnFrom: segment.baseLsn, cause })
}

function headerFailure(segment: SegmentReference, error: unknown): unknown {
  if (!(error instanceof FormatError)) return error
  const message = `${segment.name}: ${error.message}`
  if (error.code === 'FORMAT_UNKNOWN') {
    return new TidelogError('FORMAT_UNKNOWN', message, { file: segment.name, position: 0, cause: error })
  }
  return headerDamage(segment, message, error)
}
