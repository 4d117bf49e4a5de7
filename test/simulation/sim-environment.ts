/**
 * The environment of one simulated process: its disk view, the machine's clock, processes and seeded randomness.
 * When the process dies its timers die with it.
 */
import type { Environment, KernelLock } from '../../native-free-storage/environment.ts'
import { Random } from './random.ts'
import type { SimDisk } from './sim-disk.ts'

export function simEnvironment(
  disk: SimDisk,
  options: { seed?: number | string; kernelLock?: boolean } = {},
): Environment {
  const random = new Random(`${options.seed ?? 0}/${disk.bootId}/${disk.pid}/${disk.startTime}`)
  const { clock } = disk
  return {
    disk,
    clock: {
      nowMs: () => clock.nowMs(),
      monotonicMs: () => clock.monotonicMs(),
      after: (delayMs, callback) =>
        clock.after(delayMs, () => {
          if (disk.alive) callback()
        }),
    },
    processes: {
      self: () => ({ pid: disk.pid, bootId: disk.bootId, startTime: disk.startTime }),
      isAlive: (identity) => disk.isAlive(identity),
    },
    randomBytes: (length) => random.bytes(length),
    kernelLock: options.kernelLock ? simKernelLock(disk) : undefined,
  }
}

function simKernelLock(disk: SimDisk): KernelLock {
  return {
    async tryLock(path) {
      if (!disk.tryKernelLock(path)) return null
      return { release: async () => disk.releaseKernelLock(path) }
    },
  }
}
