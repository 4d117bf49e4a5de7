/**
 * Checks a log as it stands on disk, also beside a daemon that has it open: names, manifest, headers and the links
 * between them, every frame with its body, sections and node section, padding, seals, indexes, the lease, and files
 * that do not belong. Reads, never writes.
 */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { QUARANTINE } from '../log/companion-names.ts'
import { POOL_DIRECTORY } from '../segment/file-pool.ts'
import type { LogVerification, Verification } from './findings.ts'
import { isLogDirectory, namesIn } from './log-survey.ts'
import { LogVerifier } from './log-verifier.ts'

export { verifyLease } from './verify-lease.ts'

/** Attempts beside a daemon that publishes a manifest meanwhile. */
const ATTEMPTS_MAX = 3
/** How deep a data directory is searched for logs. */
const DEPTH_MAX = 4
const NOT_LOGS = new Set([POOL_DIRECTORY, QUARANTINE])

/** The directories of the logs in `path`, itself included. Throws IO_FAILED. */
export async function findLogs(environment: Environment, path: string, depth = 0): Promise<string[]> {
  const names = await namesIn(environment, path)
  if (names === null) return []
  if (isLogDirectory(names)) return [path]
  if (depth === DEPTH_MAX) return []
  const found: string[] = []
  for (const name of names.sort()) {
    if (!NOT_LOGS.has(name)) found.push(...(await findLogs(environment, `${path}/${name}`, depth + 1)))
  }
  return found
}

/** Verifies every log in `path`: one log's directory, or a data directory. Throws IO_FAILED. */
export async function verify(environment: Environment, path: string): Promise<Verification> {
  const logs: LogVerification[] = []
  for (const directory of await findLogs(environment, path)) logs.push(await verifyLog(environment, directory))
  return { clean: logs.every((log) => log.findings.every(({ severity }) => severity === 'info')), logs }
}

/** Throws LOG_MISSING, IO_FAILED. */
export async function verifyLog(environment: Environment, directory: string): Promise<LogVerification> {
  for (let attempt = 1; ; attempt++) {
    let looked: Awaited<ReturnType<LogVerifier['run']>>
    try {
      looked = await new LogVerifier(environment, directory).run()
    } catch (error) {
      // A writer has removed a file between the list and the look at it: it was truncated away, or written anew.
      if (isDiskError(error, 'ENOENT') && attempt < ATTEMPTS_MAX) continue
      throw error
    }
    const { survey, result } = looked
    const sound = result.findings.every(({ severity }) => severity === 'info')
    if (sound || !survey.writerRunning || attempt === ATTEMPTS_MAX) return result
    // Files that vanish and segments that end elsewhere are what a writer at work looks like: look again.
    const names = (await namesIn(environment, directory)) ?? []
    if (survey.names.length === names.length && names.every((name) => survey.names.includes(name))) return result
  }
}
