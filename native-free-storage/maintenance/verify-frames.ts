/** Every frame of a segment up to its end: what is damaged, with the LSNs that it stood for, and what was lost before. */
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import type { TailPoint } from '../recovery/tail-scan.ts'
import type { OpenSegment } from '../segment/segment-file.ts'
import { type Acknowledged, type Finding, finding, lsnRange } from './findings.ts'
import { SegmentSum } from './segment-sum.ts'
import { type WalkedFrame, walkSegment } from './segment-walk.ts'
import type { SurveyedSegment } from './surveyed-segment.ts'

/** The frames of a segment, from its first one on. */
export interface FrameStretch {
  end: number
  /** The LSN behind the end. */
  endLsn: number
  /** Whether what a frame holds was acknowledged. */
  acknowledged: (frame: WalkedFrame) => Acknowledged
  /** Where a frame has to end; null: nowhere in particular. */
  boundary: TailPoint | null
}

export interface FrameVerification {
  sum: SegmentSum
  findings: Finding[]
  /** Good ones. */
  records: number
  /** Of the last good one; null: there is none. */
  lastLsn: number | null
}

/** `firstLsn`: records below it have been truncated away, and are not counted. Throws IO_FAILED. */
export async function verifyFrames(
  opened: OpenSegment,
  segment: SurveyedSegment,
  stretch: FrameStretch,
  firstLsn: number,
): Promise<FrameVerification> {
  const { header } = opened
  const sum = new SegmentSum(header, stretch.boundary)
  const findings: Finding[] = []
  let records = 0
  let lastLsn: number | null = null
  const frames = walkSegment(opened, {
    from: SEGMENT_HEADER_BYTES,
    end: stretch.end,
    lsn: header.baseLsn,
    chain: header.checksum,
    content: true,
  })
  let damage: Finding | undefined
  for await (const frame of frames) {
    if (damage !== undefined && frame.header !== null) damage = endDamage(damage, frame.header.baseLsn)
    sum.add(frame)
    const count = frame.header?.recordCount ?? 0
    if (frame.faults.length === 0 && frame.header !== null) {
      records += Math.max(0, count - Math.max(0, firstLsn - frame.header.baseLsn))
      if (count > 0) lastLsn = frame.header.baseLsn + count - 1
    } else {
      damage = damaged(segment, frame, stretch.acknowledged(frame))
      findings.push(damage)
    }
    if (frame.paddingFault) {
      const message = `padding of the frame at position ${frame.position} of ${segment.name} is not zero`
      const place = { file: segment.name, position: frame.paddingFaultAt }
      // A write that was under way can leave anything there; the next open copies the frame without it.
      if (stretch.acknowledged(frame) === 'yes') findings.push(finding('PADDING_NOT_ZERO', message, place))
      else findings.push(finding('TAIL_TORN', message, { ...place, acknowledged: 'unknown' }))
    }
    if (frame.gap?.reason === 'lost') findings.push(lostBefore(segment, frame))
  }
  if (damage !== undefined) endDamage(damage, stretch.endLsn)
  return { sum, findings, records, lastLsn }
}

function lostBefore(segment: SurveyedSegment, { header, gap, position }: WalkedFrame): Finding {
  const lsns = lsnRange(header!.baseLsn, header!.baseLsn + gap!.count)
  const message = `LSN ${lsns.lsnFrom} to ${lsns.lsnTo} were lost before, and a gap says so`
  return finding('GAP_LOST', message, { file: segment.name, position, ...lsns, acknowledged: 'yes' })
}

function damaged(segment: SurveyedSegment, frame: WalkedFrame, acknowledged: Acknowledged): Finding {
  const { position, header } = frame
  const lsnFrom = frame.expectedLsn ?? header?.baseLsn ?? null
  // How many LSNs a gap skips stands in its body: the next frame tells.
  const lsnTo = header === null || header.recordCount === 0 ? null : header.baseLsn + header.recordCount - 1
  const message = `the frame at position ${position} of ${segment.name} is damaged: ${frame.faults.join('; ')}`
  const place = { file: segment.name, position, lsnFrom, lsnTo, acknowledged }
  if (frame.unknownFormat) return finding('FORMAT_UNKNOWN', message, { ...place, acknowledged: 'unknown' })
  // What is not proven may have been torn: a valid header whose body never reached the disk.
  return finding(acknowledged === 'yes' ? 'FRAME_DAMAGED' : 'TAIL_TORN', message, place)
}

/** What a bad header stood for ends before the next LSN that is known. */
function endDamage(damage: Finding, nextLsn: number): undefined {
  if (damage.lsnTo === null && damage.lsnFrom !== null && nextLsn > damage.lsnFrom) damage.lsnTo = nextLsn - 1
  return undefined
}
