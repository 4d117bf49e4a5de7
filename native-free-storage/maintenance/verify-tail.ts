/** The end of a log: how far it is proven, and what stands behind it, by the decision table of the recovery. */
import type { Environment } from '../environment.ts'
import { classifyTail } from '../recovery/classify.ts'
import { holdsFrame, pointNamed, type TailPoint, type TailScan } from '../recovery/tail-scan.ts'
import { type Finding, finding, lsnRange } from './findings.ts'
import { type LogSurvey, openSurveyed, type SurveyedSegment } from './log-survey.ts'

export interface TailEnd {
  end: TailPoint
  /** Everything before it was durable. */
  proven: TailPoint
  /** A manifest has published the end. */
  closed: boolean
}

/** A segment gets its name only when the one before it is durable up to the end that it names. */
export function provenPoint(survey: LogSurvey, segment: SurveyedSegment, scan: TailScan): TailPoint {
  let proven = scan.proven
  for (const { header } of survey.others) {
    if (header?.previous?.id !== segment.id) continue
    const named = pointNamed(scan.unproven, scan.proven, header.previous)
    if (named !== null && named.point.position > proven.position) proven = named.point
  }
  return proven
}

/** A segment that says that the tail was durable beyond its end, or that goes on at its very end, though no seal names it. */
export async function unnamedSuccessor(
  environment: Environment,
  survey: LogSurvey,
  tail: SurveyedSegment,
  scan: TailScan,
): Promise<SurveyedSegment | null> {
  const { end } = scan
  const isTorn = classifyTail(scan.evidence).verdict === 'torn'
  for (const other of survey.others) {
    const previous = other.header?.previous
    if (previous?.id !== tail.id || previous.end < end.position) continue
    if (previous.end > end.position) return other
    if (!isTorn || previous.chain !== end.chain) continue
    const opened = await openSurveyed(environment, survey.directory, other)
    if (opened === null) continue
    try {
      if (await holdsFrame(opened)) return other
    } finally {
      await opened.release()
    }
  }
  return null
}

/** What the bytes behind the last valid frame mean, by the table of the recovery. */
export function tailFindings(
  segment: SurveyedSegment,
  scan: TailScan,
  { end, proven, closed }: TailEnd,
  successor: SurveyedSegment | null,
): Finding[] {
  const findings: Finding[] = []
  const { verdict, because } = classifyTail(scan.evidence)
  const file = segment.name
  const place = { file, position: scan.end.position, ...lsnRange(scan.end.nextLsn, scan.nextLsnBehind) }
  if (successor?.header != null && verdict !== 'damaged') {
    const lsns = lsnRange(scan.end.nextLsn, Math.max(scan.end.nextLsn, successor.header.baseLsn))
    const message = `${file} ends at position ${scan.end.position}, and ${successor.name} was begun when it was durable up to there or beyond`
    findings.push(finding('TAIL_DAMAGED', message, { ...place, ...lsns }))
  } else if (verdict === 'damaged') {
    findings.push(finding('TAIL_DAMAGED', `${file} ends at position ${scan.end.position}: ${because}`, place))
  } else if (verdict === 'torn' && !closed) {
    findings.push(
      finding('TAIL_TORN', `${file}, position ${scan.end.position}: ${because}`, { ...place, acknowledged: 'no' }),
    )
  }
  if (end.nextLsn > proven.nextLsn) {
    const message = `LSN ${proven.nextLsn} to ${end.nextLsn - 1} are there and cannot be proven to be all`
    const lsns = lsnRange(proven.nextLsn, end.nextLsn)
    findings.push(
      finding('TAIL_UNPROVEN', message, { file, position: proven.position, ...lsns, acknowledged: 'unknown' }),
    )
  }
  return findings
}
