/**
 * Salvages a data directory of which any file may be damaged or gone: each log into one of its own, then what binds them
 * together. A catalog with losses is completed with the vchannels of which records were found; a descriptor that is gone
 * is made from what there is.
 */
import {
  dump,
  type Environment,
  isDiskError,
  type LostRange,
  openFilePool,
  openLog,
  openTickOracle,
  prepareSalvage,
  type RecordInput,
  type SalvageReport,
  salvageLease,
  salvageLog,
} from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { placeDescriptor, readDescriptor } from './data-directory.ts'
import type { DataDirectoryDescriptor } from './descriptor.ts'

const CATALOG = 'catalog'
const CATALOG_VCHANNEL = 'vchannels'
/** Records in one frame of the catalog. */
const FRAME_ENTRIES_MAX = 4096
const CATALOG_SEGMENT_BYTES = 4 * 1024 * 1024
/** Bound of the names that are remembered: no catalog has more. */
const VCHANNELS_MAX = 1_000_000

export interface LogSalvage
  extends Pick<SalvageReport, 'records' | 'lost' | 'lostOmitted' | 'files' | 'snapshots' | 'assumptions'> {
  /** Relative to the data directory. */
  log: string
  /** Null: nothing of it was there. */
  report: SalvageReport | null
}

export interface DataDirectorySalvage {
  records: number
  lost: (LostRange & { log: string })[]
  assumptions: string[]
  logs: LogSalvage[]
}

interface CatalogEntry {
  name: string
  pchannel: number
  createdMs: number
}

/** Whether `path` is a data directory, or what is left of one, rather than one log's directory. */
export async function looksLikeDataDirectory(environment: Environment, path: string): Promise<boolean> {
  const names = await namesIn(environment, path)
  return names.includes('pchannels') || names.includes(CATALOG) || names.includes('tidelog.json')
}

/**
 * Salvages the data directory at `path` to `out`, which must be missing or empty. Nothing is written into `path`.
 *
 * @throws TidelogError INVALID_ARGUMENT (`out`), LOG_MISSING (no log at all), DISK_FULL, IO_FAILED. What was begun stays
 *   in `out`, without a descriptor.
 */
export async function salvageDataDirectory(
  environment: Environment,
  path: string,
  out: string,
  options: { quarantine?: boolean | undefined; onLog?: (directory: string) => void } = {},
): Promise<DataDirectorySalvage> {
  const numbers = (await namesIn(environment, `${path}/pchannels`)).filter((name) => /^(0|[1-9]\d{0,5})$/.test(name))
  const pchannels = numbers.map(Number).sort((a, b) => a - b)
  const assumptions: string[] = []
  const descriptor = await descriptorOf(environment, path, assumptions)
  await prepareSalvage(environment, path, out)
  await environment.disk.makeDirectory(`${out}/pchannels`)
  const logs: LogSalvage[] = []
  const found = new Map<string, number>()
  for (const pchannel of pchannels) {
    const note = (names: readonly string[]): void => {
      for (const name of names) if (name !== '' && found.size < VCHANNELS_MAX) found.set(name, pchannel)
    }
    const durability = descriptor?.durability
    const each = { quarantine: options.quarantine, sharedTicks: true, durability, onVchannels: note }
    logs.push(await salvageOne(environment, path, out, `pchannels/${pchannel}`, each, options.onLog))
  }
  const catalog = await salvageOne(
    environment,
    path,
    out,
    CATALOG,
    { quarantine: options.quarantine, sharedTicks: true, durability: 'disk' },
    options.onLog,
  )
  if (catalog.report === null && logs.every(({ report }) => report === null)) {
    throw new TidelogError('LOG_MISSING', `no log is left in ${path}`, { file: path })
  }
  const known = await entriesOf(environment, catalog)
  logs.push(catalog)
  const used = [...known.values(), ...found.values()].map((entry) =>
    typeof entry === 'number' ? entry : entry.pchannel,
  )
  tellMissing(logs, known)
  if (!(await salvageLease(environment, path, out, lastTickOf(logs)))) {
    assumptions.push('there is no valid lease: ticks go on above those of the records')
  }
  await completeCatalog(environment, out, catalog, known, found)
  await placeDescriptor(environment, out, descriptor ?? madeDescriptor(environment, logs, [...used, ...pchannels]))
  return {
    records: logs.reduce((sum, { log, records }) => sum + (log === CATALOG ? 0 : records), 0),
    lost: logs.flatMap(({ log, lost }) => lost.map((range) => ({ log, ...range }))),
    assumptions,
    logs,
  }
}

async function salvageOne(
  environment: Environment,
  path: string,
  out: string,
  log: string,
  options: Parameters<typeof salvageLog>[3],
  onLog?: (directory: string) => void,
): Promise<LogSalvage> {
  onLog?.(`${path}/${log}`)
  try {
    const report = await salvageLog(environment, `${path}/${log}`, `${out}/${log}`, options)
    const { records, lost, lostOmitted, files, snapshots, assumptions } = report
    return { log, report, records, lost, lostOmitted, files, snapshots, assumptions }
  } catch (error) {
    if (!(error instanceof TidelogError) || error.code !== 'LOG_MISSING') throw error
    return { log, report: null, records: 0, lost: [], lostOmitted: 0, files: [], snapshots: [], assumptions: [] }
  }
}

/** Null: it is missing or damaged. */
async function descriptorOf(
  environment: Environment,
  path: string,
  assumptions: string[],
): Promise<DataDirectoryDescriptor | null> {
  let found: DataDirectoryDescriptor | null = null
  try {
    found = await readDescriptor(environment, path)
  } catch (error) {
    if (!(error instanceof TidelogError)) throw error
  }
  if (found === null) assumptions.push('tidelog.json is missing or damaged: it is made from the logs that are there')
  return found
}

function madeDescriptor(
  environment: Environment,
  logs: readonly LogSalvage[],
  pchannels: readonly number[],
): DataDirectoryDescriptor {
  const isOs = logs.some(({ log, report }) => log !== CATALOG && report?.durability === 'os')
  return {
    pchannels: 1 + pchannels.reduce((a, b) => Math.max(a, b), 0),
    durability: isOs ? 'os' : 'disk',
    createdMs: environment.clock.nowMs(),
  }
}

/** What the salvaged catalog says. */
async function entriesOf(environment: Environment, { report }: LogSalvage): Promise<Map<string, CatalogEntry>> {
  const entries = new Map<string, CatalogEntry>()
  if (report === null) return entries
  for await (const { records } of dump(environment, report.out)) {
    for (const { payload } of records ?? []) {
      const entry = parseEntry(payload)
      if (entry !== null) entries.set(entry.name, entry)
    }
  }
  return entries
}

function parseEntry(payload: Uint8Array): CatalogEntry | null {
  try {
    const { name, pchannel, createdMs } = JSON.parse(Buffer.from(payload).toString('utf8')) as Record<string, unknown>
    if (typeof name !== 'string' || !Number.isInteger(pchannel) || typeof createdMs !== 'number') return null
    return { name, pchannel: pchannel as number, createdMs }
  } catch {
    return null
  }
}

/** A daemon does not start on a catalog with a gap: all that is known is written behind it, and the front goes. */
async function completeCatalog(
  environment: Environment,
  out: string,
  catalog: LogSalvage,
  known: ReadonlyMap<string, CatalogEntry>,
  found: ReadonlyMap<string, number>,
): Promise<void> {
  const createdMs = environment.clock.nowMs()
  const added = [...found]
    .filter(([name]) => !known.has(name))
    .map(([name, pchannel]) => ({ name, pchannel, createdMs }))
  if (catalog.report !== null && catalog.lost.length === 0 && added.length === 0) return
  // As a daemon opens it: ticks and prepared files are those of the data directory.
  const ticks = await openTickOracle(environment, out)
  const pool = await openFilePool(environment, out, { preparedBytesMax: 0 })
  const options = { environment, durability: 'disk', cacheBytes: 0, segmentBytes: CATALOG_SEGMENT_BYTES } as const
  const log = await openLog(`${out}/${CATALOG}`, { ...options, ticks, pool })
  try {
    const first = log.nextLsn
    const entries = [...known.values(), ...added]
    for (let index = 0; index < entries.length; index += FRAME_ENTRIES_MAX) {
      const records = entries.slice(index, index + FRAME_ENTRIES_MAX).map((entry): RecordInput => {
        return { vchannel: CATALOG_VCHANNEL, payload: Buffer.from(JSON.stringify(entry)) }
      })
      await log.append(records)
    }
    await log.truncateBefore(first)
  } finally {
    await log.close()
    await pool.close()
    await ticks.close()
  }
  if (catalog.report === null) catalog.lost.push({ lsnFrom: 0, lsnTo: null })
  catalog.assumptions.push(
    `the catalog was written anew: ${known.size} vchannels of it, ${added.length} of which records were found`,
  )
}

/** A log that is gone, although there were vchannels on it. */
function tellMissing(logs: LogSalvage[], known: ReadonlyMap<string, CatalogEntry>): void {
  const there = new Set(logs.filter(({ report }) => report !== null).map(({ log }) => log))
  const wanted = new Map([...known.values()].map(({ name, pchannel }) => [`pchannels/${pchannel}`, name]))
  for (const [log, name] of wanted) {
    if (there.has(log)) continue
    const lost: LostRange[] = [{ lsnFrom: 0, lsnTo: null }]
    const assumptions = [`nothing of ${log} is there; the vchannel ${JSON.stringify(name)} lived on it`]
    const index = logs.findIndex((each) => each.log === log)
    const missing: LogSalvage = {
      log,
      report: null,
      records: 0,
      lost,
      lostOmitted: 0,
      files: [],
      snapshots: [],
      assumptions,
    }
    if (index < 0) logs.push(missing)
    else logs[index] = missing
  }
}

function lastTickOf(logs: readonly LogSalvage[]): bigint {
  return logs.reduce(
    (last, { report }) => (report !== null && report.lastTimeTick > last ? report.lastTimeTick : last),
    0n,
  )
}

async function namesIn(environment: Environment, path: string): Promise<string[]> {
  try {
    return await environment.disk.list(path)
  } catch (error) {
    if (isDiskError(error, 'ENOENT') || isDiskError(error, 'ENOTDIR')) return []
    throw error
  }
}
