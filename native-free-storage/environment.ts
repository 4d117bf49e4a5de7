/**
 * What the engine takes from the outside besides the disk: time, timers, randomness, and what the system says of
 * processes. Passed in, so that a simulation drives the real code.
 */
import type { Disk } from './disk/disk.ts'

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall clock, milliseconds since 1970. May step in both directions. */
  nowMs(): number
  /** Milliseconds that only grow; the origin is arbitrary. */
  monotonicMs(): number
  /** Calls back once, after at least `delayMs`. Does not keep the process alive. */
  after(delayMs: number, callback: () => void): Timer
}

export interface ProcessIdentity {
  pid: number
  /** Changes at each start of the machine. */
  bootId: string
  /** Start time of the process in the system's own unit; tells a reused pid. */
  startTime: string
}

export interface Processes {
  self(): ProcessIdentity
  /** Whether this very process (not another that got its pid) still runs. */
  isAlive(identity: ProcessIdentity): boolean
}

/** An optional kernel lock on top of the lock file: `flock` through `fs-ext`, passed in by `src/`. */
export interface KernelLock {
  /** Takes the exclusive lock of the file at `path` without waiting; null when somebody else holds it. */
  tryLock(path: string): Promise<{ release(): Promise<void> } | null>
}

export interface Environment {
  disk: Disk
  clock: Clock
  processes: Processes
  /** `length` random bytes. */
  randomBytes(length: number): Uint8Array
  kernelLock?: KernelLock | undefined
}
