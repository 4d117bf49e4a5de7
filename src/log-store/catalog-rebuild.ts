/**
 * The catalog of the vchannels after records of it were lost: what is left of it, and of each vchannel that is missing
 * the pchannel on which its records are. Written anew, and the front with its gaps goes. A vchannel without any record
 * is not missed: it is created again when somebody uses it.
 */
import { join } from 'node:path'
import { dump, type Environment, openLog, openTickOracle } from '../../native-free-storage/index.ts'
import { TidelogError } from '../errors.ts'
import { CATALOG_LOG, CATALOG_VCHANNEL, catalogPayload, FRAME_ENTRIES_MAX } from './catalog-entry.ts'

export interface CatalogRebuild {
  /** Records of the catalog are lost, or all of it: without a rebuild no daemon starts on it. */
  needed: boolean
  /** Vchannels that are in what is left of it. */
  known: number
  /** Vchannels that are missing in it and have records. */
  found: { name: string; pchannel: number }[]
}

interface Entry {
  name: string
  pchannel: number
  createdMs: number
}

/** `logs`: the directories of the pchannels' logs that are there, by number. Reads, never writes. Throws IO_FAILED. */
export async function planCatalogRebuild(
  environment: Environment,
  path: string,
  logs: ReadonlyMap<number, string>,
): Promise<CatalogRebuild> {
  const { entries, hasGap } = await readCatalog(environment, path)
  const found = hasGap ? await findVchannels(environment, logs, entries) : []
  return { needed: hasGap, known: entries.size, found }
}

/**
 * Writes the catalog anew. The caller holds the lock of the data directory at `path`. A crash in between leaves entries
 * twice, which agree, and the gap: done again, it finishes. Errors as those of `openLog` and `append`.
 */
export async function rebuildCatalog(
  environment: Environment,
  path: string,
  logs: ReadonlyMap<number, string>,
): Promise<CatalogRebuild> {
  const { entries, hasGap } = await readCatalog(environment, path)
  const found = await findVchannels(environment, logs, entries)
  const createdMs = environment.clock.nowMs()
  for (const { name, pchannel } of found) entries.set(name, { name, pchannel, createdMs })
  const ticks = await openTickOracle(environment, path)
  try {
    const log = await openLog(join(path, CATALOG_LOG), { environment, ticks, durability: 'disk' })
    try {
      const first = log.nextLsn
      const all = [...entries.values()]
      for (let index = 0; index < all.length; index += FRAME_ENTRIES_MAX) {
        const part = all.slice(index, index + FRAME_ENTRIES_MAX)
        await log.append(part.map((entry) => ({ vchannel: CATALOG_VCHANNEL, payload: catalogPayload(entry) })))
      }
      await log.truncateBefore(first)
    } finally {
      await log.close()
    }
  } finally {
    await ticks.close()
  }
  return { needed: hasGap, known: entries.size - found.length, found }
}

/** What of the catalog can be read; one that is not there has lost all. */
async function readCatalog(
  environment: Environment,
  path: string,
): Promise<{ entries: Map<string, Entry>; hasGap: boolean }> {
  const entries = new Map<string, Entry>()
  let hasGap = false
  try {
    for await (const { kind, records } of dump(environment, join(path, CATALOG_LOG))) {
      if (kind === 'gap' || kind === 'damaged') hasGap = true
      for (const { payload } of records ?? []) {
        const entry = parsed(payload)
        if (entry === null) hasGap = true
        else if (!entries.has(entry.name)) entries.set(entry.name, entry)
      }
    }
  } catch (error) {
    if (!(error instanceof TidelogError) || error.code !== 'LOG_MISSING') throw error
    hasGap = true
  }
  return { entries, hasGap }
}

async function findVchannels(
  environment: Environment,
  logs: ReadonlyMap<number, string>,
  known: ReadonlyMap<string, Entry>,
): Promise<{ name: string; pchannel: number }[]> {
  const found = new Map<string, number>()
  for (const [pchannel, directory] of [...logs].sort(([a], [b]) => a - b)) {
    for await (const { records } of dump(environment, directory)) {
      // The empty name belongs to all of them.
      for (const { vchannel } of records ?? []) {
        if (vchannel !== '' && !known.has(vchannel) && !found.has(vchannel)) found.set(vchannel, pchannel)
      }
    }
  }
  return [...found].map(([name, pchannel]) => ({ name, pchannel }))
}

function parsed(payload: Uint8Array): Entry | null {
  try {
    const { name, pchannel, createdMs } = JSON.parse(Buffer.from(payload).toString('utf8')) as Partial<Entry>
    const isEntry = typeof name === 'string' && Number.isInteger(pchannel) && typeof createdMs === 'number'
    return isEntry ? { name, pchannel: pchannel!, createdMs } : null
  } catch {
    return null
  }
}
