/** How much lies in a log's `quarantine/`: the engine puts files there and never removes one. */
import { type Disk, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { QUARANTINE } from '../log/companion-names.ts'

export interface Quarantine {
  files: number
  bytes: number
}

/** Folders in it, such as those of a repair. */
const DEPTH_MAX = 4
/** A bound for the time: what lies beyond it is not measured. */
const FILES_MAX = 100_000

/** Of the log in `directory`; nothing where there is none. Also beside its writer. Throws a DiskError when it cannot be read. */
export async function quarantineOf({ disk }: Pick<Environment, 'disk'>, directory: string): Promise<Quarantine> {
  const sum: Quarantine = { files: 0, bytes: 0 }
  await addFolder(disk, `${directory}/${QUARANTINE}`, sum, 0)
  return sum
}

/** False: `path` is no folder. */
async function addFolder(disk: Disk, path: string, sum: Quarantine, depth: number): Promise<boolean> {
  let names: string[]
  try {
    names = await disk.list(path)
  } catch (error) {
    if (isDiskError(error, 'ENOTDIR')) return false
    // Removed meanwhile.
    if (isDiskError(error, 'ENOENT')) return true
    throw error
  }
  for (const name of names) {
    if (sum.files >= FILES_MAX) return true
    const inside = `${path}/${name}`
    if (depth < DEPTH_MAX && (await addFolder(disk, inside, sum, depth + 1))) continue
    sum.files++
    sum.bytes += await sizeOf(disk, inside)
  }
  return true
}

async function sizeOf(disk: Disk, path: string): Promise<number> {
  try {
    const file = await disk.open(path, 'read')
    try {
      return await file.size()
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return 0
    throw error
  }
}
