/** What a log consists of, from its manifest and the headers of its segments; reads no frame but those of the tail. */
import type { Environment } from '../environment.ts'
import type { LogOrigin } from '../format/manifest.ts'
import { SEGMENT_HEADER_BYTES } from '../format/segment-header.ts'
import { scanTail } from '../recovery/tail-scan.ts'
import { indexNameOf } from '../segment/index-file.ts'
import type { Finding } from './findings.ts'
import { openSurveyed, surveyLog } from './log-survey.ts'
import { quarantineOf } from './quarantine.ts'

export interface SegmentDescription {
  file: string
  id: string
  baseLsn: number
  /** One above its last LSN; null: not known. */
  nextLsn: number | null
  /** Where its data ends; null: not known. */
  end: number | null
  fileBytes: number
  baseTimeTick: bigint | null
  createdMs: number | null
  ownerTerm: number | null
  incarnation: number | null
  alignment: number | null
  hasIndex: boolean
}

export interface LogDescription {
  path: string
  logId: string | null
  /** The logs that it is a copy of, the oldest first; the last one is the one that was copied. */
  origins: readonly LogOrigin[]
  generation: number | null
  durability: 'disk' | 'os' | null
  ownerTerm: number | null
  incarnation: number | null
  firstLsn: number | null
  /** One above the last LSN that is there, and above the last that is proven to be durable. */
  nextLsn: number | null
  provenNextLsn: number | null
  /** The log was closed: nothing is behind its end. */
  closed: boolean
  writerRunning: boolean
  segments: SegmentDescription[]
  quarantined: readonly string[]
  /** What lies in `quarantine/`: nothing removes it but people. */
  quarantinedBytes: number
  /** What was met on the way; `verify` looks further. */
  findings: readonly Finding[]
}

/** Throws LOG_MISSING, IO_FAILED. */
export async function describe(environment: Environment, directory: string): Promise<LogDescription> {
  const survey = await surveyLog(environment, directory)
  const { manifest } = survey
  const names = new Set(survey.names)
  let nextLsn = manifest?.nextLsn ?? null
  let provenNextLsn = nextLsn
  const segments: SegmentDescription[] = []
  for (const [i, segment] of survey.segments.entries()) {
    const { header } = segment
    const successor = survey.segments[i + 1]
    const previous = successor?.header?.previous
    let end = previous?.id === segment.id ? previous.end : null
    let segmentNextLsn = successor?.baseLsn ?? null
    const opened = successor === undefined ? await openSurveyed(environment, directory, segment) : null
    if (opened !== null) {
      try {
        const tail = manifest?.tail
        const start =
          manifest && tail?.id === segment.id
            ? {
                position: tail.syncedPosition,
                chain: tail.chain,
                nextLsn: manifest.nextLsn,
                lastTimeTick: manifest.lastTimeTick,
              }
            : {
                position: SEGMENT_HEADER_BYTES,
                chain: opened.header.checksum,
                nextLsn: opened.header.baseLsn,
                lastTimeTick: 0n,
              }
        const scan = await scanTail(opened.file, opened.header.salt, start)
        end = scan.end.position
        segmentNextLsn = scan.end.nextLsn
        nextLsn = scan.end.nextLsn
        provenNextLsn = scan.seal !== null ? scan.end.nextLsn : scan.proven.nextLsn
      } finally {
        await opened.release()
      }
    }
    segments.push({
      file: segment.name,
      id: segment.id,
      baseLsn: segment.baseLsn,
      nextLsn: segmentNextLsn,
      end,
      fileBytes: segment.bytes,
      baseTimeTick: header?.baseTimeTick ?? null,
      createdMs: header?.createdMs ?? null,
      ownerTerm: header?.ownerTerm ?? null,
      incarnation: header?.incarnation ?? null,
      alignment: header?.alignment ?? null,
      hasIndex: names.has(indexNameOf(segment.name)),
    })
  }
  return {
    path: directory,
    logId: manifest?.logId ?? null,
    origins: manifest?.origins ?? [],
    generation: manifest?.generation ?? null,
    durability: manifest?.durability ?? null,
    ownerTerm: manifest?.ownerTerm ?? null,
    incarnation: manifest?.incarnation ?? null,
    firstLsn: manifest?.firstLsn ?? null,
    nextLsn,
    provenNextLsn,
    closed: manifest?.tail?.closed ?? false,
    writerRunning: survey.writerRunning,
    segments,
    quarantined: survey.quarantined,
    quarantinedBytes: (await quarantineOf(environment, directory)).bytes,
    findings: survey.findings,
  }
}
