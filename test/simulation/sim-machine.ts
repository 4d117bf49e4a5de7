/**
 * What all processes of a simulated machine share: names and files, time, faults, room, and the count of steps.
 */
import { Random } from './random.ts'
import type { SimClock } from './sim-clock.ts'
import type { PowerLossOptions, SimFile } from './sim-file.ts'
import type { NameMode, SimNames } from './sim-names.ts'

export type OperationKind =
  | 'open'
  | 'create'
  | 'link'
  | 'rename'
  | 'unlink'
  | 'list'
  | 'makeDirectory'
  | 'syncDirectory'
  | 'exists'
  | 'space'
  | 'identify'
  | 'read'
  | 'write'
  | 'sync'
  | 'truncate'
  | 'size'
  | 'close'

export interface Operation {
  /** The step at which it began. */
  step: number
  pid: number
  kind: OperationKind
  path: string
  /** Of `link` and `rename`: the other path. */
  to: string | undefined
  position: number | undefined
  length: number | undefined
  /** Of a write: to a file opened with `dsync`. */
  dsync: boolean
}

export type Fault =
  /** Fails; with `applied`, after its effect has entered the page cache. */
  | { fail: string; applied?: boolean }
  /**
   * A write that writes so many bytes and then fails (EIO unless named). A read that gets so many bytes at first: the
   * disk asks for the rest, as the port demands, or fails when that is named.
   */
  | { short: number; fail?: string }
  /** A read or a write that goes to another place, of this file or of the one that is named, and tells nobody. */
  | { misdirect: { path?: string; position: number } }
  /** A sync, or a write that syncs, that fails (EIO). What becomes of the data, and that later syncs succeed or not: */
  | { syncFails: 'marked-clean' | 'reverted' | 'read-only' }
  /** Does not settle before it is released; its effect enters the cache at once ('landed') or then ('late'). */
  | { stall: 'landed' | 'late' }
  /** A read that delivers something else. */
  | { mangle: (bytes: Uint8Array, position: number) => void }

export type FaultRule = (operation: Operation) => Fault | undefined

export interface Stalled {
  operation: Operation
  /** Lets it go on, as if nothing had been; or lets it fail. */
  release(failWith?: string): void
}

export interface SimDiskOptions {
  seed?: number | string
  clock?: SimClock
  names?: NameMode
  /** Room for file contents; each file counts 256 bytes more. Default: no bound. */
  capacityBytes?: number
  latencyMs?: (operation: Operation, random: Random) => number
  parallelOperations?: number
  fileSystem?: string
}

export interface RebootOptions extends PowerLossOptions {
  clock?: SimClock
}

export const inodeBytes = 256
const traceLinesMax = 20_000

export function defaultLatencyMs(operation: Operation, random: Random): number {
  const syncs = operation.kind === 'sync' || operation.kind === 'syncDirectory' || operation.dsync
  return (syncs ? 0.1 : 0.01) * (0.5 + random.fraction())
}

/** What the machine knows of a process. */
export interface KnownProcess {
  readonly startTime: string
  readonly alive: boolean
}

export class Machine {
  readonly options: SimDiskOptions
  readonly clock: SimClock
  readonly random: Random
  readonly bootId: string
  names: SimNames
  readonly processes = new Map<number, KnownProcess>()
  readonly kernelLocks = new Map<string, number>()
  readonly rules: FaultRule[] = []
  readonly stalled: Stalled[] = []
  readonly trace: { step: number; text: string; operation: Operation; fault: Fault | undefined }[] = []
  onStep: ((step: number) => void) | undefined
  steps = 0
  crashAt = Number.POSITIVE_INFINITY
  down = false
  readOnly = false
  capacityBytes: number
  usedBytes = 0
  order = 0
  fileIds = 0
  pids = 100
  starts = 0
  readonly crashed: Promise<void>
  #tellCrash!: () => void

  constructor(options: SimDiskOptions, clock: SimClock, names: SimNames) {
    this.options = options
    this.clock = clock
    this.random = new Random(options.seed ?? 0)
    this.bootId = `boot-${this.random.u32().toString(16)}`
    this.names = names
    this.capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY
    this.crashed = new Promise((resolve) => {
      this.#tellCrash = resolve
    })
  }

  /** False when the machine is down. */
  step(): boolean {
    if (this.down) return false
    this.onStep?.(this.steps)
    if (this.steps >= this.crashAt) {
      this.powerLoss()
      return false
    }
    this.steps++
    return true
  }

  powerLoss(): void {
    if (this.down) return
    this.down = true
    this.clock.stop()
    this.#tellCrash()
  }

  log(operation: Operation, text: string, fault?: Fault): void {
    if (this.trace.length >= traceLinesMax) this.trace.splice(0, traceLinesMax / 2)
    this.trace.push({ step: this.steps, text, operation, fault })
  }

  traceInWords(): string[] {
    return this.trace.map(({ step, text, operation, fault }) => {
      const { pid, kind, path, to, position, length } = operation
      const where = position === undefined ? '' : ` @${position}${length === undefined ? '' : `+${length}`}`
      const because = fault === undefined ? '' : `, fault ${JSON.stringify(fault)}`
      return `${step} p${pid} ${kind} ${path}${to === undefined ? '' : ` -> ${to}`}${where}: ${text}${because}`
    })
  }

  fault(operation: Operation): Fault | undefined {
    for (const rule of this.rules) {
      const fault = rule(operation)
      if (fault !== undefined) return fault
    }
    return undefined
  }

  freeBytes(): number {
    return Math.max(0, this.capacityBytes - this.usedBytes)
  }

  forgetIfUnused(file: SimFile): void {
    if (file.names === 0 && file.openers === 0) this.usedBytes -= file.length + inodeBytes
  }
}

/** How an operation ends: the value it gives, computed at its second step. */
export type Finish<T> = () => T

export function operation(kind: OperationKind, path: string, rest: Partial<Operation> = {}): Operation {
  return { step: 0, pid: 0, kind, path, to: undefined, position: undefined, length: undefined, dsync: false, ...rest }
}
