/**
 * Which of the segment files that were found make up the log, as far as it can be told: from the tail that the manifest
 * names back to the first one, each header naming the one before.
 */
import { segmentFileName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import { type Finding, finding } from './findings.ts'
import type { SurveyedSegment } from './surveyed-segment.ts'

/** In LSN order. What is missing at either end is among the findings; what is missing between shows in the headers. */
export function membersOf(
  all: readonly SurveyedSegment[],
  manifest: ManifestContent | null,
  findings: Finding[],
): SurveyedSegment[] {
  if (manifest === null) return withoutCopies(all)
  const { tail, firstSegment } = manifest
  if (tail === null || firstSegment === null) return []
  const members: SurveyedSegment[] = []
  const candidates = withoutCopies(all, tail.id)
  let current = candidates.find(({ id }) => id === tail.id)
  if (current === undefined) {
    const message = `the tail segment ${tail.id}, with the records from LSN ${tail.baseLsn}, is missing`
    const lsnTo = manifest.nextLsn > tail.baseLsn ? manifest.nextLsn - 1 : null
    const file = segmentFileName(tail.baseLsn, tail.id)
    findings.push(finding('SEGMENT_MISSING', message, { file, lsnFrom: tail.baseLsn, lsnTo }))
    current = candidates.findLast(({ baseLsn }) => baseLsn < tail.baseLsn)
  }
  while (current !== undefined) {
    members.unshift(current)
    if (current.id === firstSegment.id) return members
    current = predecessorOf(current, candidates, firstSegment.baseLsn)
  }
  const first = members[0]
  const lsnTo = (first?.baseLsn ?? tail.baseLsn) - 1
  if (lsnTo >= manifest.firstLsn) {
    const message = `the first segment ${firstSegment.id}, with the records from LSN ${firstSegment.baseLsn}, is missing`
    const file = segmentFileName(firstSegment.baseLsn, firstSegment.id)
    findings.push(finding('SEGMENT_MISSING', message, { file, lsnFrom: manifest.firstLsn, lsnTo }))
  }
  return members
}

/** What is wrong with the headers of the members, with the LSNs that they stand for. */
export function headerFindings(members: readonly SurveyedSegment[], manifest: ManifestContent | null): Finding[] {
  const findings: Finding[] = []
  for (const [index, { standing, fault, padding, name, baseLsn }] of members.entries()) {
    const behind = members[index + 1]?.baseLsn ?? manifest?.nextLsn ?? 0
    const lsnTo = behind > baseLsn ? behind - 1 : null
    if (padding !== null) findings.push(padding)
    if (fault === null) continue
    const code = standing === 'unknown' ? 'FORMAT_UNKNOWN' : 'SEGMENT_HEADER_DAMAGED'
    const acknowledged = standing === 'unknown' ? 'unknown' : 'yes'
    const place = { file: name, position: fault.position, lsnFrom: baseLsn, lsnTo, acknowledged } as const
    findings.push(finding(code, fault.message, place))
  }
  return findings
}

/**
 * Of the files that are not members. Who opens the log takes every file whose base LSN lies between the first segment
 * and the one before the tail for one of its segments; the others are put aside.
 */
export function strayFinding(stray: SurveyedSegment, members: readonly SurveyedSegment[]): Finding {
  const { name, fault, baseLsn, found, standing } = stray
  const copyOf = standing === 'misnamed' ? members.find(({ id }) => id === found?.segmentId) : undefined
  const what =
    copyOf !== undefined ? `${name} is a copy of ${copyOf.name}` : (fault?.message ?? `${name} is not part of the log`)
  const first = members[0]
  const last = members.at(-2)
  if (first !== undefined && last !== undefined && name > first.name && name < last.name) {
    const message = `${what}, and stands among the segments of the log: move it away, readers stop there`
    return finding('SEGMENT_SURPLUS', message, { file: name, position: fault?.position ?? 0, lsnFrom: baseLsn })
  }
  return finding('FILE_STRAY', what, { file: name, position: fault?.position ?? null })
}

/** Without foreign files, and without those that hold a segment which is there under its own name. */
function withoutCopies(all: readonly SurveyedSegment[], wantedId?: string): SurveyedSegment[] {
  const sound = new Set(all.filter(({ standing }) => standing === 'sound').map(({ id }) => id))
  return all.filter(({ standing, found, id }) => {
    if (standing === 'foreign') return id === wantedId
    return standing !== 'misnamed' || found === null || !sound.has(found.segmentId)
  })
}

function predecessorOf(
  segment: SurveyedSegment,
  all: readonly SurveyedSegment[],
  firstBaseLsn: number,
): SurveyedSegment | undefined {
  const previous = segment.header?.previous
  const candidates = all.filter(
    (other) => other !== segment && other.baseLsn <= segment.baseLsn && other.baseLsn >= firstBaseLsn,
  )
  const named =
    candidates.find(
      ({ header }) => header?.replaced?.id === previous?.id && previous !== undefined && previous !== null,
    ) ?? candidates.find(({ id }) => id === previous?.id)
  // Where the one that is named is missing, the walk goes on with the nearest; `verify` says what lies between.
  return named ?? candidates.findLast(({ baseLsn }) => baseLsn < segment.baseLsn)
}
