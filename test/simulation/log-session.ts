/**
 * One user of a log on a simulated disk: its process, its way of writing, what it knows. What the workloads, the crash
 * runner and the random programs have in common.
 */
import type { Environment } from '../../native-free-storage/environment.ts'
import {
  type AppendOptions,
  type Log,
  type LogOptions,
  openLog,
  type TidelogError,
} from '../../native-free-storage/index.ts'
import type { FindingCode } from '../../native-free-storage/maintenance/findings.ts'
import { demand, Ledger } from './log-ledger.ts'
import type { SimDisk } from './sim-disk.ts'
import { simEnvironment } from './sim-environment.ts'

export const logDirectory = '/data/log'

/** The environment of a process, with a boot id of the form that the engine keeps. */
export function logEnvironment(disk: SimDisk, seed: number | string = 0, kernelLock = false): Environment {
  const environment = simEnvironment(disk, { seed, kernelLock })
  const bootId = Buffer.alloc(16)
  bootId.write(disk.bootId.slice(-16).padStart(16, '0'))
  const own = bootId.toString('hex')
  return {
    ...environment,
    processes: {
      self: () => ({ ...environment.processes.self(), bootId: own }),
      isAlive: (identity) => identity.bootId === own && disk.isAlive({ ...identity, bootId: disk.bootId }),
    },
  }
}

export interface Way {
  mode: 'dsync' | 'fdatasync'
  depth: number
  durability: 'disk' | 'os'
}

export class Session {
  disk: SimDisk
  readonly ledger: Ledger
  readonly way: Way
  readonly seed: number | string
  /** Changes what the engine sees of the disk: for engines that are broken on purpose. */
  wrap: (environment: Environment) => Environment = (environment) => environment
  log!: Log
  /** The run is over: nothing more is opened. */
  stopped = false
  #epoch = 0
  #environment: { disk: SimDisk; value: Environment } | undefined

  constructor(disk: SimDisk, way: Way, seed: number | string = 0, ledger = new Ledger()) {
    this.disk = disk
    this.way = way
    this.seed = seed
    this.ledger = ledger
  }

  /** One a process: each of its openings goes on with the same randomness. */
  get environment(): Environment {
    if (this.#environment?.disk !== this.disk) {
      this.#environment = { disk: this.disk, value: this.wrap(logEnvironment(this.disk, this.seed)) }
    }
    return this.#environment.value
  }

  options(more: LogOptions = {}): LogOptions {
    const { mode, depth, durability } = this.way
    return {
      environment: this.environment,
      segmentBytes: 64 * 1024,
      cacheBytes: 256 * 1024,
      durability,
      writeWay: { mode, depth, reason: 'a simulation' },
      ...more,
    }
  }

  async open(more: LogOptions = {}): Promise<Log> {
    if (this.stopped) await new Promise(() => {})
    this.#epoch = this.ledger.nextEpoch()
    this.log = await openLog(logDirectory, this.options(more))
    return this.log
  }

  submit(...sizes: number[]): Promise<TidelogError | null> {
    return this.ledger.submit(this.log, sizes, this.#epoch)
  }

  /** Closes the log: every promise settles, whether it succeeds or not. */
  async close(): Promise<void> {
    const { log } = this
    const epoch = this.#epoch
    try {
      await log.close()
    } finally {
      // What was rejected is told to its caller in the jobs that are ready now.
      await this.sleep(0)
      const { pending } = this.ledger.countOf(epoch)
      demand(pending === 0, () => `${pending} appends have not settled although the log was closed`)
    }
  }

  /** As `submit`, with what an append can be told. */
  submitWith(options: AppendOptions, ...sizes: number[]): Promise<TidelogError | null> {
    return this.ledger.submit(this.log, sizes, this.#epoch, options)
  }

  watermark(): void {
    this.ledger.tellWatermark(this.log, this.#epoch)
  }

  async sleep(ms: number): Promise<void> {
    await new Promise<void>((resolve) => this.disk.clock.after(ms, resolve))
  }

  /** The process ends without a word; another one takes its place. */
  dies(): void {
    this.disk.processCrash(this.seed)
    this.disk = this.disk.nextProcess()
  }
}

export interface Workload {
  name: string
  run(session: Session): Promise<void>
  /** What people type after a crash in it, before the log is opened. */
  afterCrash?(session: Session): Promise<void>
  /** What `verify` may find until then. */
  tolerates?: readonly FindingCode[]
}

export const ways: readonly Way[] = [
  { mode: 'dsync', depth: 4, durability: 'disk' },
  { mode: 'fdatasync', depth: 4, durability: 'disk' },
  { mode: 'dsync', depth: 1, durability: 'disk' },
  { mode: 'dsync', depth: 4, durability: 'os' },
]
