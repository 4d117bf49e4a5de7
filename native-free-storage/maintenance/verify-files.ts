/** The files of a log besides its segments, their indexes and the lease: what is whole, and what is none of the log's. */
import type { Environment } from '../environment.ts'
import { parseManifestFileName, parseSegmentFileName } from '../format/file-names.ts'
import { parseSnapshotFileName } from '../format/snapshot.ts'
import { isCompanionName, QUARANTINE } from '../log/companion-names.ts'
import { readSnapshotFile } from '../log/snapshot-files.ts'
import { type Finding, finding } from './findings.ts'
import { type LogSurvey, strayFindings } from './log-survey.ts'

/** `reached`: ids of the segments that the walk from the tail came to. */
export function fileFindings(survey: LogSurvey, reached: ReadonlySet<string>): Finding[] {
  const findings = strayFindings(survey, reached)
  const stems = new Set([...survey.segments, ...survey.others].map(({ name }) => name.slice(0, -4)))
  const newest = survey.generations.at(-1)
  for (const name of survey.names) {
    // Names come and go beside a writer.
    if (survey.writerRunning || parseSegmentFileName(name) !== null || isCompanionName(name)) continue
    if (name.endsWith('.idx') && stems.has(name.slice(0, -4))) continue
    const generation = parseManifestFileName(name)
    if (generation !== null && generation === newest) continue
    if (parseSnapshotFileName(name) !== null) continue
    const what = generation === null ? 'is not part of the log' : 'was left behind when a later manifest was published'
    findings.push(finding('FILE_STRAY', `${name} ${what}`, { file: name }))
  }
  for (const name of survey.quarantined) {
    const file = `${QUARANTINE}/${name}`
    findings.push(
      finding('FILES_QUARANTINED', `${file} was found and is not part of the log`, { file, acknowledged: 'unknown' }),
    )
  }
  return findings
}

/** Of the snapshots; beside a writer they come and go. Throws IO_FAILED. */
export async function snapshotFindings(
  environment: Environment,
  { directory, names, writerRunning }: LogSurvey,
): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const name of writerRunning ? [] : names) {
    const lsn = parseSnapshotFileName(name)
    if (lsn === null) continue
    const found = await readSnapshotFile(environment, `${directory}/${name}`)
    if (found !== null && found.header.lsn === lsn) continue
    const message = `the snapshot ${name} is damaged, or of a later version: it is passed over`
    findings.push(finding('SNAPSHOT_DAMAGED', message, { file: name }))
  }
  return findings
}
