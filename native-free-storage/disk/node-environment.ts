/**
 * The environment of a real process: the system's clocks, its processes through /proc, and random bytes.
 */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import type { Clock, Environment, Processes, ProcessIdentity, Timer } from '../environment.ts'
import { nodeDisk } from './node-disk.ts'

/** Stands where the system does not tell; never compared with anything. */
const unknown = ''

const nodeClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs: number, callback: () => void): Timer {
    const timer = setTimeout(callback, delayMs).unref()
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Where and how the system is asked about processes; the tests pass in another /proc. */
export interface ProcessSources {
  procDirectory?: string
  /** Throws as `process.kill(pid, 0)` does. */
  signal?: (pid: number) => void
}

function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

interface ProcessStatus {
  startTime: string
  /** Ended, and only waits for its parent to ask. */
  zombie: boolean
}

/** `/proc/<pid>/stat`: the command, which may hold anything, stands in brackets; state is field 3, start time field 22. */
function parseStatus(text: string): ProcessStatus | undefined {
  const fields = text
    .slice(text.lastIndexOf(')') + 1)
    .trim()
    .split(/\s+/)
  const state = fields[0]
  const threads = fields[17]
  const startTime = fields[19]
  if (state === undefined || startTime === undefined || !/^\d+$/.test(startTime)) return undefined
  // The first thread of a process may have ended while others go on.
  return { startTime, zombie: (state === 'Z' || state === 'X') && Number(threads) <= 1 }
}

/**
 * Asks the system about processes. In doubt a process counts as alive: then a lock is refused, and a person decides.
 * Without /proc neither the boot nor the start time is known, and any process with the same pid counts as the same.
 * Processes in another pid name space (two containers that share a directory) cannot be told from dead ones; `flock`,
 * where it is passed in, sees through that, and the manifest fences the rest.
 */
export function systemProcesses(sources: ProcessSources = {}): Processes {
  const proc = sources.procDirectory ?? '/proc'
  const signal = sources.signal ?? ((pid: number) => void process.kill(pid, 0))
  const bootId = readText(`${proc}/sys/kernel/random/boot_id`)?.trim() ?? unknown
  const own = readText(`${proc}/self/stat`)
  const startTime = (own === undefined ? undefined : parseStatus(own))?.startTime ?? unknown

  return {
    self: () => ({ pid: process.pid, bootId, startTime }),
    isAlive(identity: ProcessIdentity): boolean {
      if (bootId !== unknown && identity.bootId !== unknown && identity.bootId !== bootId) return false
      if (!Number.isSafeInteger(identity.pid) || identity.pid <= 0) return false
      try {
        signal(identity.pid)
      } catch (error) {
        // EPERM: it runs, as somebody else.
        if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
      }
      if (startTime === unknown || identity.startTime === unknown) return true
      const text = readText(`${proc}/${identity.pid}/stat`)
      // It may have ended just now, or /proc hides the processes of others: in doubt alive.
      const status = text === undefined ? undefined : parseStatus(text)
      if (status === undefined) return true
      return status.startTime === identity.startTime && !status.zombie
    },
  }
}

/** Everything of the real system; `overrides` replaces parts of it. */
export function nodeEnvironment(overrides: Partial<Environment> = {}): Environment {
  return {
    disk: nodeDisk(),
    clock: nodeClock,
    processes: systemProcesses(),
    randomBytes: (length) => randomBytes(length),
    ...overrides,
  }
}
