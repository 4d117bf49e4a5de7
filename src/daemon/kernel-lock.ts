/**
 * The kernel's lock (`flock`) on top of the engine's lock file, where the optional addon `fs-ext` can be loaded. It is
 * a bonus: it was built for one major version of Node, may not be installed, and may not load; then the lock file
 * alone keeps honest processes apart, and the manifest fences the others.
 */
import { close, open } from 'node:fs'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import type { KernelLock } from '../../native-free-storage/index.ts'

const openFile = promisify(open)
const closeFile = promisify(close)

/** What is used of `fs-ext`. */
export interface FlockAddon {
  flock(fd: number, flags: 'exnb' | 'un', callback: (error: NodeJS.ErrnoException | null) => void): void
}

/** The addon, or null when it is missing, built for another Node, or switched off by TIDELOG_TEST_NO_FLOCK=1. */
export function loadFlockAddon(
  environment: NodeJS.ProcessEnv = process.env,
  load: (name: string) => unknown = createRequire(import.meta.url),
): FlockAddon | null {
  if (environment.TIDELOG_TEST_NO_FLOCK === '1') return null
  try {
    const addon = load('fs-ext') as Partial<FlockAddon> | null
    return typeof addon?.flock === 'function' ? (addon as FlockAddon) : null
  } catch {
    return null
  }
}

/** The engine's port over the addon; undefined without one. */
export function kernelLock(addon: FlockAddon | null = loadFlockAddon()): KernelLock | undefined {
  if (addon === null) return undefined
  return {
    async tryLock(path) {
      const fd = await openFile(path, 'r+')
      let taken: boolean
      try {
        taken = await flock(addon, fd)
      } catch (error) {
        await closeFile(fd).catch(() => {})
        throw error
      }
      if (!taken) {
        await closeFile(fd)
        return null
      }
      let open = true
      return {
        async release() {
          if (!open) return
          open = false
          // Closing the last descriptor of the open file gives the lock back.
          await closeFile(fd)
        },
      }
    },
  }
}

/** False when somebody else holds it. A file system without flock counts as taken by us: the lock file decides. */
function flock(addon: FlockAddon, fd: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    addon.flock(fd, 'exnb', (error) => {
      if (!error) resolve(true)
      else if (error.code === 'EAGAIN' || error.code === 'EWOULDBLOCK') resolve(false)
      else if (error.code === 'ENOLCK' || error.code === 'ENOSYS' || error.code === 'EOPNOTSUPP') resolve(true)
      else reject(error)
    })
  })
}
