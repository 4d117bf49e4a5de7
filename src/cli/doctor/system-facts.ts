/** What `doctor` asks of the system besides the disk port: passed in, so that a test decides what the machine is. */
import { constants } from 'node:fs'
import { access, open, realpath, stat, statfs } from 'node:fs/promises'

/** /proc/self/mountinfo of a machine with many containers is large. */
const TEXT_BYTES_MAX = 4 * 1024 * 1024

export interface PathFacts {
  isDirectory: boolean
  mode: number
  uid: number
}

export interface SystemFacts {
  platform: string
  /** Without the "v". */
  nodeVersion: string
  /** Effective user; null where there are none. */
  uid: number | null
  environment: Readonly<Record<string, string | undefined>>
  nowMs(): number
  monotonicMs(): number
  /** Null: not there, or not for us. */
  readText(path: string): Promise<string | null>
  /** Without symbolic links; as it is where that cannot be found out. */
  realPath(path: string): Promise<string>
  /** Null: nothing is there. Throws what the system says otherwise. */
  pathFacts(path: string): Promise<PathFacts | null>
  /** Null: this process may list the directory and create files in it. Else the errno's name. */
  refusesWriting(directory: string): Promise<string | null>
  /** Total is 0 where the file system has no fixed number of them. Null: it does not say. */
  inodes(path: string): Promise<{ total: number; free: number } | null>
}

export function systemFacts(): SystemFacts {
  return {
    platform: process.platform,
    nodeVersion: process.versions.node,
    uid: process.geteuid?.() ?? null,
    environment: process.env,
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    readText,
    realPath: (path) => realpath(path).catch(() => path),
    async pathFacts(path) {
      try {
        const found = await stat(path)
        return { isDirectory: found.isDirectory(), mode: found.mode & 0o7777, uid: found.uid }
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === 'ENOENT' || code === 'ENOTDIR') return null
        throw error
      }
    },
    async refusesWriting(directory) {
      try {
        await access(directory, constants.R_OK | constants.W_OK | constants.X_OK)
        return null
      } catch (error) {
        return (error as NodeJS.ErrnoException).code ?? 'EACCES'
      }
    },
    async inodes(path) {
      try {
        const { files, ffree } = await statfs(path)
        return { total: files, free: ffree }
      } catch {
        return null
      }
    },
  }
}

/** Files of /proc and /sys have no size: read to the end, within a bound. */
async function readText(path: string): Promise<string | null> {
  try {
    const file = await open(path, 'r')
    try {
      const chunks: Buffer[] = []
      for (let total = 0; total < TEXT_BYTES_MAX; ) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, null)
        if (bytesRead === 0) break
        chunks.push(buffer.subarray(0, bytesRead))
        total += bytesRead
      }
      return Buffer.concat(chunks).toString('utf8')
    } finally {
      await file.close()
    }
  } catch {
    return null
  }
}
