/**
 * What `verify` has to say of a flipped bit, for each byte of the files of a log: the code, the file, and a place. A unit
 * is what one hash covers, and damage in it is told with the position at which it begins; of bytes that no hash covers
 * and that have to be zero the very byte is told.
 */
import { expect } from 'vitest'
import { parseSegmentFileName } from '../../../native-free-storage/format/file-names.ts'
import { paddedTo8 } from '../../../native-free-storage/format/integers.ts'
import { LEASE_SLOT_BYTES } from '../../../native-free-storage/format/lease.ts'
import { SEGMENT_HEADER_BYTES } from '../../../native-free-storage/format/segment-header.ts'
import type { Finding, FindingCode, LogVerification } from '../../../native-free-storage/maintenance/findings.ts'
import { openSurveyed, surveyLog } from '../../../native-free-storage/maintenance/log-survey.ts'
import { type WalkedFrame, walkSegment } from '../../../native-free-storage/maintenance/segment-walk.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { Random } from '../../simulation/random.ts'
import { type Files, memoryDirectory, memoryEnvironment } from './memory-files.ts'

export interface Unit {
  file: string
  from: number
  to: number
  code: FindingCode
  /** Null: that of the flipped byte. */
  position: number | null
  lsnFrom?: number | null
  lsnTo?: number | null
}

const HEADER_FIELDS = [
  [0, 100],
  [104, 200],
] as const
const SEAL_BYTES = 96 + 88

/** Of a log that was closed, and of which `verify` finds nothing. */
export async function unitsOf(files: Files): Promise<Unit[]> {
  const units: Unit[] = []
  for (const [file, bytes] of files) {
    const to = bytes.length
    if (file.endsWith('.seg')) units.push(...(await unitsOfSegment(files, file)))
    else if (file.endsWith('.idx')) units.push({ file, from: 0, to, code: 'INDEX_WRONG', position: null })
    else if (file.startsWith('MANIFEST-')) units.push({ file, from: 0, to, code: 'MANIFEST_DAMAGED', position: 0 })
    else if (file === 'LEASE') {
      for (let from = 0; from < to; from += LEASE_SLOT_BYTES) {
        units.push({ file, from, to: from + LEASE_SLOT_BYTES, code: 'LEASE_DAMAGED', position: from })
      }
    } else throw new Error(`nobody knows what ${file} is`)
  }
  return units
}

async function unitsOfSegment(files: Files, file: string): Promise<Unit[]> {
  const environment = memoryEnvironment(files)
  const survey = await surveyLog(environment, memoryDirectory)
  const index = survey.segments.findIndex(({ name }) => name === file)
  const segment = survey.segments[index]!
  const behind = survey.segments[index + 1]?.baseLsn ?? survey.manifest!.nextLsn
  const opened = (await openSurveyed(environment, memoryDirectory, segment))!
  const bytes = files.get(file)!
  const end = bytes.length - opened.header.alignment
  const lsns = { lsnFrom: parseSegmentFileName(file)!.baseLsn, lsnTo: behind - 1 }
  const damaged: Unit[] = HEADER_FIELDS.map(([from, to]) => {
    return { file, from, to, code: 'SEGMENT_HEADER_DAMAGED', position: 0, ...lsns }
  })
  const options = { from: SEGMENT_HEADER_BYTES, end, lsn: undefined, chain: undefined, content: true }
  for await (const frame of walkSegment(opened, options)) damaged.push(...unitsOfFrame(file, frame))
  damaged.push({ file, from: end, to: end + SEAL_BYTES, code: 'SEAL_DAMAGED', position: end, ...lsns })
  return withPadding(file, damaged, bytes.length)
}

function unitsOfFrame(file: string, frame: WalkedFrame): Unit[] {
  const { position, head, nextLsn } = frame
  const { headerLength, bodyLength, nodeSectionLength, baseLsn } = frame.header!
  const body = position + headerLength
  const node = body + bodyLength
  const lsns = { lsnFrom: baseLsn, lsnTo: nextLsn! > baseLsn ? nextLsn! - 1 : null }
  const covered: [number, number][] = [[position, body]]
  if (head === null) covered.push([body, node])
  else {
    covered.push([body, body + head.headLength])
    for (let i = 0; i < head.vchannelCount; i++) {
      const from = body + head.sectionOffset(i)
      covered.push([from, from + head.sectionLength(i)])
      expect(paddedTo8(head.sectionLength(i)) - head.sectionLength(i)).toBeLessThan(8)
    }
  }
  covered.push([node, node + nodeSectionLength])
  return covered.flatMap(([from, to]): Unit[] => {
    return from === to ? [] : [{ file, from, to, code: 'FRAME_DAMAGED', position, ...lsns }]
  })
}

/** What no hash covers has to be zero. */
function withPadding(file: string, covered: readonly Unit[], fileBytes: number): Unit[] {
  const units: Unit[] = []
  let at = 0
  for (const unit of [...covered].sort((a, b) => a.from - b.from)) {
    if (unit.from > at) units.push({ file, from: at, to: unit.from, code: 'PADDING_NOT_ZERO', position: null })
    units.push(unit)
    at = unit.to
  }
  if (fileBytes > at) units.push({ file, from: at, to: fileBytes, code: 'PADDING_NOT_ZERO', position: null })
  return units
}

export interface FlipCounts {
  bits: number
  codes: Map<FindingCode, number>
}

/** Flips each bit of the units in turn, or `wanted` of them that the seed picks, and looks at what is found. */
export async function flipBits(
  files: Files,
  units: readonly Unit[],
  wanted: number,
  seed: string,
  judge: (unit: Unit, position: number, result: LogVerification) => string | null = toldExactly,
): Promise<FlipCounts> {
  const environment = memoryEnvironment(files)
  const counts: FlipCounts = { bits: 0, codes: new Map() }
  const total = units.reduce((sum, { from, to }) => sum + (to - from) * 8, 0)
  const random = new Random(seed)
  const stackTraceLimit = Error.stackTraceLimit
  // Files that are not there are asked for in each of many looks.
  Error.stackTraceLimit = 0
  try {
    for (const unit of units) {
      const bytes = files.get(unit.file)!
      const bits = (unit.to - unit.from) * 8
      // Spread over all units, each of which gets at least one.
      const share = wanted >= total ? bits : Math.max(1, Math.round((bits * wanted) / total))
      for (let i = 0; i < share; i++) {
        const bit = share === bits ? i : Math.min(bits - 1, Math.floor(((i + random.fraction()) * bits) / share))
        const position = unit.from + (bit >> 3)
        bytes[position]! ^= 1 << (bit & 7)
        const fault = judge(unit, position, await verifyLog(environment, memoryDirectory))
        bytes[position]! ^= 1 << (bit & 7)
        if (fault !== null) {
          throw new Error(`bit ${bit & 7} of byte ${position} of ${unit.file} (${unit.code}): ${fault}; seed ${seed}`)
        }
        counts.bits++
      }
      counts.codes.set(unit.code, (counts.codes.get(unit.code) ?? 0) + share)
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
  return counts
}

/** Null: code, file, position and LSNs are what they have to be, and nothing else is blamed. */
function toldExactly(unit: Unit, position: number, { findings }: LogVerification): string | null {
  const severe = findings.filter(({ severity }) => severity !== 'info')
  const isTold = (each: Finding): boolean =>
    each.code === unit.code &&
    each.file === unit.file &&
    each.position === (unit.position ?? position) &&
    (unit.lsnFrom === undefined || (each.lsnFrom === unit.lsnFrom && each.lsnTo === unit.lsnTo))
  if (!severe.some(isTold)) return `it is not told: ${JSON.stringify(findings)}`
  const another = severe.find(({ file }) => file !== unit.file)
  return another === undefined ? null : `another file is blamed: ${JSON.stringify(another)}`
}

export function textOf({ bits, codes }: FlipCounts): string {
  const parts = [...codes].map(([code, count]) => `${code} ${count}`)
  return `${bits} flipped bits, each found and named: ${parts.join(', ')}`
}
