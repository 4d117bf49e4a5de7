/**
 * What `verify` checks of a data directory besides its logs: the descriptor, the lease, and that every log is there on
 * which the catalog has placed vchannels. A log that is not there would otherwise be a log without damage.
 */
import { join, relative } from 'node:path'
import {
  dump,
  type Environment,
  type Finding,
  finding,
  type LogVerification,
  verifyLease,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { readDescriptor } from '../log-store/data-directory.ts'
import { DESCRIPTOR_FILE } from '../log-store/descriptor.ts'

/**
 * The findings of the directory itself are added to the first log, with a `file` that leads out of it; missing logs are
 * given as entries of their own. Nothing when `path` is no data directory.
 */
export async function checkDataDirectory(
  environment: Environment,
  path: string,
  logs: readonly LogVerification[],
): Promise<LogVerification[]> {
  const catalog = join(path, 'catalog')
  const present = new Set(logs.map((log) => join(log.path)))
  const pchannels = [...present].filter((log) => join(log, '..') === join(path, 'pchannels'))
  const first = logs[0]
  if (first === undefined || (!present.has(catalog) && pchannels.length === 0)) return []

  // No record has a tick that was given without a lease.
  const required = logs.some(({ records }) => records > 0)
  const found = [...(await checkDescriptor(environment, path)), ...(await verifyLease(environment, path, 0n, required))]
  for (const each of found) each.file = relative(first.path, join(path, each.file ?? DESCRIPTOR_FILE))
  first.findings.push(...found)

  // The catalog is the first log to be opened: the others cannot have been used without it.
  if (!present.has(catalog)) return [missing(catalog, 'the catalog of the vchannels is missing')]
  const missingLogs: LogVerification[] = []
  for (const [pchannel, vchannel] of await placedVchannels(environment, catalog)) {
    const log = join(path, 'pchannels', String(pchannel))
    if (present.has(log)) continue
    missingLogs.push(missing(log, `the log of pchannel ${pchannel} is missing; the vchannel ${vchannel} lives on it`))
  }
  return missingLogs
}

async function checkDescriptor(environment: Environment, path: string): Promise<Finding[]> {
  const place = { file: DESCRIPTOR_FILE }
  try {
    if ((await readDescriptor(environment, path)) !== null) return []
    return [finding('DESCRIPTOR_DAMAGED', `${DESCRIPTOR_FILE} is missing`, place)]
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
    const code = error.code as string
    if (code === 'FORMAT_UNKNOWN') {
      return [finding('FORMAT_UNKNOWN', error.message, { ...place, acknowledged: 'unknown' })]
    }
    if (code === 'DATA_DIRECTORY_INVALID') return [finding('DESCRIPTOR_DAMAGED', error.message, place)]
    throw error
  }
}

/** One vchannel of each pchannel that has any, by what of the catalog can be read. */
async function placedVchannels(environment: Environment, catalog: string): Promise<Map<number, string>> {
  const placed = new Map<number, string>()
  for await (const { records } of dump(environment, catalog)) {
    for (const { payload } of records ?? []) {
      let entry: { name?: unknown; pchannel?: unknown } | null
      try {
        entry = JSON.parse(Buffer.from(payload).toString('utf8'))
      } catch {
        continue
      }
      const { name, pchannel } = entry ?? {}
      if (typeof pchannel === 'number' && typeof name === 'string') placed.set(pchannel, JSON.stringify(name))
    }
  }
  return placed
}

function missing(path: string, message: string): LogVerification {
  const findings = [finding('LOG_MISSING', message)]
  return { path, firstLsn: null, lastLsn: null, provenLsn: null, records: 0, bytes: 0, findings }
}
