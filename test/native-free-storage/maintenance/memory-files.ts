/**
 * The files of a log in memory, for looking at many damaged versions of it quickly: a disk that can only be read, and
 * that gives each reader the bytes as they stand at that moment.
 */
import { type Disk, DiskError, type DiskFile } from '../../../native-free-storage/disk/disk.ts'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import type { Environment } from '../../../native-free-storage/environment.ts'
import { openLog, type RecordInput } from '../../../native-free-storage/index.ts'
import { logDirectory, Session, type Workload, ways } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

/** Bytes by name, relative to the log's directory. */
export type Files = Map<string, Buffer>

export const memoryDirectory = '/log'

/** The log that a daemon or a process wrote on a simulated disk, closed; each batch is an opening of its own. */
export async function writtenFiles(openings: readonly (readonly RecordInput[][])[]): Promise<Files> {
  const disk = new SimDisk({ seed: 1 })
  const environment = simEnvironment(disk, { seed: 1 })
  const directory = '/data/log'
  disk.prepareDirectory('/data')
  for (const batches of openings) {
    const writeWay = { mode: 'dsync', depth: 4, reason: 'a simulation' } as const
    const log = await openLog(directory, { environment, segmentBytes: 64 * 1024, cacheBytes: 0, writeWay })
    for (const batch of batches) await log.append(batch)
    await log.close()
  }
  return filesIn(disk, directory)
}

/** What a workload leaves: when its process dies half-way, and at its end. */
export async function logFiles(workload: Workload): Promise<Files[]> {
  const ended = new Session(new SimDisk({ seed: 2 }), ways[0]!, 2)
  ended.disk.prepareDirectory('/data')
  await workload.run(ended)
  const { disk } = ended
  const killed = new Session(new SimDisk({ seed: 2 }), ways[0]!, 2)
  killed.disk.prepareDirectory('/data')
  const half = disk.steps >> 1
  const died = new Promise<void>((resolve) => {
    killed.disk.onStep = (step) => {
      if (step < half) return
      killed.stopped = true
      killed.disk.onStep = undefined
      killed.disk.processCrash(2)
      resolve()
    }
  })
  await Promise.race([died, workload.run(killed)])
  return [filesIn(disk, logDirectory), filesIn(killed.disk, logDirectory)]
}

function filesIn(disk: SimDisk, directory: string): Files {
  const files: Files = new Map()
  for (const path of disk.paths()) {
    const name = path.slice(directory.length + 1)
    // What they hold means nothing: prepared files, and names that lie ready for a full disk.
    if (!path.startsWith(`${directory}/`) || /^(pool\/|MANIFEST\.spare|LOCK)/.test(name)) continue
    files.set(name, Buffer.from(disk.contents(path)))
  }
  return files
}

/** Two openings with records of several vchannels, sizes and frames: a little more than 64 KiB of segments. */
export async function smallLog(): Promise<Files> {
  const batch = (count: number, bytes: number): RecordInput[] =>
    Array.from({ length: count }, (_, i) => ({
      vchannel: `v${i % 3}`,
      payload: i === 4 ? null : Buffer.alloc(bytes + i, bytes + i),
      properties: i % 2 === 1 ? { index: `${i}` } : {},
    }))
  const first = [batch(3, 3000), batch(2, 100), batch(1, 7000), batch(5, 800)]
  return await writtenFiles([first, [batch(9, 2200), batch(1, 0), batch(14, 1130), batch(1, 1)]])
}

export function memoryEnvironment(files: Files): Environment {
  return { ...nodeEnvironment(), disk: memoryDisk(files) }
}

function memoryDisk(files: Files): Disk {
  const refuse = async (): Promise<never> => {
    throw new DiskError('EROFS', 'write', memoryDirectory)
  }
  const prefix = `${memoryDirectory}/`
  return {
    async open(path, access) {
      if (access !== 'read') return refuse()
      const bytes = files.get(path.slice(prefix.length))
      if (!path.startsWith(prefix) || bytes === undefined) throw new DiskError('ENOENT', 'open', path)
      return memoryFile(path, bytes, refuse)
    },
    async list(directory) {
      if (directory === memoryDirectory) {
        return [...new Set([...files.keys()].map((name) => name.replace(/\/.*/, '')))]
      }
      const inside = directory.startsWith(prefix) ? `${directory.slice(prefix.length)}/` : null
      const names = [...files.keys()].filter((name) => inside !== null && name.startsWith(inside))
      if (names.length === 0) throw new DiskError('ENOENT', 'list', directory)
      return names.map((name) => name.slice(inside!.length))
    },
    existsSync: (path) => files.has(path.slice(prefix.length)),
    space: refuse,
    identify: refuse,
    create: refuse,
    link: refuse,
    rename: refuse,
    unlink: refuse,
    makeDirectory: refuse,
    syncDirectory: refuse,
  }
}

function memoryFile(path: string, bytes: Buffer, refuse: () => Promise<never>): DiskFile {
  return {
    path,
    read: async (target, offset, length, position) =>
      position >= bytes.length ? 0 : bytes.copy(target, offset, position, Math.min(bytes.length, position + length)),
    size: async () => bytes.length,
    close: async () => {},
    write: refuse,
    sync: refuse,
    truncate: refuse,
  }
}
