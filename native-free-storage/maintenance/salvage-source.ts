/**
 * The files that a salvage takes frames from: every file that may be a segment, whatever its name, with what its header
 * says or, where that is gone, what its frames say.
 */
import { isLockName } from '../disk/lock-file.ts'
import { isProbeName } from '../disk/write-probe.ts'
import type { Environment } from '../environment.ts'
import { parseSegmentFileName } from '../format/file-names.ts'
import { FormatError } from '../format/format-error.ts'
import { decodeUnsaltedHeader } from '../format/frame-header.ts'
import {
  ALIGNMENT_MIN,
  type DecodedSegmentHeader,
  decodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
} from '../format/segment-header.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import type { Ownership } from '../log/flush.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { findSalt } from './frame-salt.ts'
import { namesIn } from './log-survey.ts'
import { madeUpHeader } from './made-up-header.ts'
import { openReadable, type ReadableFile } from './readable-file.ts'
import type { SalvagedFile } from './salvage-report.ts'
import { type DecodeHeader, type WalkedFrame, walkSegment } from './segment-walk.ts'

export interface SalvageSource {
  /** Relative to the log's directory. */
  readonly name: string
  readonly path: string
  readonly bytes: number
  /** Null: not valid. */
  readonly header: DecodedSegmentHeader | null
  /** By the header, else by the name; null: neither tells. */
  readonly id: string | null
  readonly baseLsn: number
  readonly owner: Ownership
  /** Null: the checksums of the frames cannot be verified. */
  readonly salt: bigint | null
  readonly isQuarantined: boolean
  readonly report: SalvagedFile
}

/** What is there besides segments. */
const NO_SEGMENT = /^(LEASE|MANIFEST|SNAPSHOT-|pool$|quarantine$)|\.(idx|tmp|json)(\.|$)/

/** All that may be segments, in the order of their names. Throws IO_FAILED. */
export async function salvageSources(
  environment: Environment,
  directory: string,
  quarantine: boolean,
): Promise<SalvageSource[]> {
  const names = ((await namesIn(environment, directory)) ?? []).filter(mayBeSegment)
  if (quarantine) {
    const inside = (await namesIn(environment, `${directory}/${QUARANTINE}`)) ?? []
    names.push(...inside.filter(mayBeSegment).map((name) => `${QUARANTINE}/${name}`))
  }
  const sources: SalvageSource[] = []
  // Those with a header first: their salts serve for copies without one.
  const headless: string[] = []
  const saltsById = new Map<string, bigint>()
  for (const name of names.sort()) {
    await reading(environment, `${directory}/${name}`, async (file) => {
      const header = await readHeader(file)
      if (header === null) {
        headless.push(name)
        return
      }
      saltsById.set(header.segmentId, header.salt)
      sources.push(withHeader(name, file, await file.size(), header))
    })
  }
  for (const name of headless) {
    await reading(environment, `${directory}/${name}`, async (file) => {
      sources.push(await withoutHeader(name, file, saltsById))
    })
  }
  return sources.sort((a, b) => (a.name < b.name ? -1 : 1))
}

async function reading(
  environment: Environment,
  path: string,
  look: (file: ReadableFile) => Promise<void>,
): Promise<void> {
  const file = await openReadable(environment, path)
  if (file === null) return
  try {
    await look(file)
  } finally {
    await file.close()
  }
}

/** To be released by the caller. Null: the file is gone. */
export async function openSource(environment: Environment, source: SalvageSource): Promise<OpenSegment | null> {
  const file = await openReadable(environment, source.path)
  if (file === null) return null
  const release = async (): Promise<void> => {
    source.report.unreadableBytes += file.unreadableBytes
    await file.close()
  }
  const { id, baseLsn, name } = source
  return { segment: { id: id ?? '', baseLsn, name }, file, header: headerOf(source), release }
}

/** All frames from `from` to `end`, the damaged ones too. */
export function walkSource(
  opened: OpenSegment,
  source: SalvageSource,
  from: number,
  end: number,
): AsyncGenerator<WalkedFrame, void> {
  const options = { from, end, lsn: undefined, chain: undefined, content: true }
  if (source.salt !== null) return walkSegment(opened, options)
  return walkSegment(opened, { ...options, decode: unsalted })
}

const unsalted: DecodeHeader = (bytes, offset, position) => decodeUnsaltedHeader(bytes, offset, position)

function mayBeSegment(name: string): boolean {
  return !NO_SEGMENT.test(name) && !isLockName(name) && !isProbeName(name)
}

async function readHeader(file: ReadableFile): Promise<DecodedSegmentHeader | null> {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  const length = await file.read(bytes, 0, bytes.length, 0)
  const zeroed = Buffer.from(bytes)
  // What stands in unused bytes does not make the others doubtful.
  zeroed.fill(0, 200)
  zeroed.fill(0, 100, 104)
  for (const candidate of [bytes, zeroed]) {
    try {
      return decodeSegmentHeader(candidate.subarray(0, length))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
    }
  }
  return null
}

function withHeader(name: string, file: ReadableFile, bytes: number, header: DecodedSegmentHeader): SalvageSource {
  const { segmentId: id, baseLsn, ownerTerm, incarnation, salt } = header
  return {
    name,
    path: file.path,
    bytes,
    header,
    id,
    baseLsn,
    owner: { ownerTerm, incarnation },
    salt,
    isQuarantined: name.startsWith(`${QUARANTINE}/`),
    report: reportOf(name, 'sound', file),
  }
}

/** The first frame tells the base LSN, unless the name has a lower one; the highest owner of a frame is the segment's. */
async function withoutHeader(
  name: string,
  file: ReadableFile,
  saltsById: ReadonlyMap<string, bigint>,
): Promise<SalvageSource> {
  const parsed = parseSegmentFileName(stemOf(name))
  const bytes = await file.size()
  const known = parsed === null ? undefined : saltsById.get(parsed.id)
  const { salt, hasFrames } = await findSalt(file, bytes, known === undefined ? [] : [known])
  const source: SalvageSource = {
    name,
    path: file.path,
    bytes,
    header: null,
    id: parsed?.id ?? null,
    baseLsn: parsed?.baseLsn ?? 0,
    owner: { ownerTerm: 0, incarnation: 0 },
    salt,
    isQuarantined: name.startsWith(`${QUARANTINE}/`),
    report: reportOf(name, salt !== null ? 'salt-found' : hasFrames ? 'unverified' : 'none', file),
  }
  if (!hasFrames) return { ...source, report: { ...source.report, state: 'unreadable' } }
  const opened: OpenSegment = {
    segment: { id: source.id ?? '', baseLsn: source.baseLsn, name },
    file,
    header: headerOf(source),
    release: async () => {},
  }
  let baseLsn: number | undefined
  let owner: Ownership = source.owner
  for await (const { header, intact } of walkSource(opened, source, SEGMENT_HEADER_BYTES, bytes)) {
    if (header === null || !intact) continue
    baseLsn = Math.min(baseLsn ?? header.baseLsn, header.baseLsn)
    if (compareOwners(header, owner) > 0) owner = { ownerTerm: header.ownerTerm, incarnation: header.incarnation }
  }
  const named = parsed !== null && (baseLsn === undefined || parsed.baseLsn <= baseLsn) ? parsed.baseLsn : undefined
  return { ...source, owner, baseLsn: named ?? baseLsn ?? 0 }
}

export function compareOwners(a: Ownership, b: Ownership): number {
  return a.ownerTerm - b.ownerTerm || a.incarnation - b.incarnation
}

/** `quarantine/<name>.<mark>` holds what had the name. */
function stemOf(name: string): string {
  return name.replace(/^quarantine\//, '').replace(/(\.seg)\..*$/, '$1')
}

function reportOf(file: string, header: SalvagedFile['header'], { unreadableBytes }: ReadableFile): SalvagedFile {
  return { file, state: 'empty', header, frames: 0, records: 0, holes: 0, unreadableBytes }
}

/** What a walk needs of a header. */
function headerOf({ header, id, baseLsn, owner, salt }: SalvageSource): DecodedSegmentHeader {
  return header ?? madeUpHeader({ ...owner, segmentId: id ?? '', baseLsn, salt: salt ?? 0n, alignment: ALIGNMENT_MIN })
}
