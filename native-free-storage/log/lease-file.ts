/**
 * The lease: bounds, durable, below which ticks (and, at durability `os`, LSNs) may have been given. A new owner begins
 * above them, so that neither a crash nor a clock that steps back repeats one. docs/FORMAT.md section 7.
 *
 * Each owner begins a file of its own, renamed over the last one: an owner that was fenced goes on writing into a file
 * without a name. It learns that it was fenced from `stillOwner`, asked after each extension and before its use.
 */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'
import { decodeLease, encodeLeaseSlot, LEASE_BYTES, leaseSlotPosition } from '../format/lease.ts'
import { machineBootId } from './boot-id.ts'

export const LEASE_FILE = 'LEASE'

export interface LeaseBounds {
  tickBound: bigint
  lsnBound: number
}

export interface FoundLease extends LeaseBounds {
  /** Whether the machine has not been started anew since the lease was written. */
  sameBoot: boolean
}

/** What the last owner left; null when there never was one. Both slots damaged is an error: ticks could repeat. */
export async function readLease(environment: Environment, directory: string): Promise<FoundLease | null> {
  const path = `${directory}/${LEASE_FILE}`
  let file: DiskFile
  try {
    file = await environment.disk.open(path, 'read')
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return null
    throw error
  }
  try {
    const bytes = Buffer.alloc(LEASE_BYTES)
    await file.read(bytes, 0, bytes.length, 0)
    const lease = decodeLease(bytes)
    if (lease === null) {
      throw new TidelogError('LOG_DAMAGED', `both slots of ${path} are damaged: ticks given before cannot be known`, {
        file: LEASE_FILE,
      })
    }
    const boot = machineBootId(environment)
    return {
      tickBound: lease.tickBound,
      lsnBound: lease.lsnBound,
      sameBoot: boot.equals(lease.bootId) && boot.some((byte) => byte !== 0),
    }
  } finally {
    await file.close()
  }
}

export class LeaseFile {
  readonly #environment: Environment
  readonly #directory: string
  readonly #stillOwner: () => boolean | Promise<boolean>
  #bounds: LeaseBounds
  /** Null until the first write: who gives nothing writes nothing, and a full disk can be opened. */
  #file: DiskFile | null = null
  /** Of the last slot that was synced. */
  #sequence = 0
  /** A write or sync has failed: what the file holds is not known, and it is not written again. */
  #failure: unknown = null
  #doubtful = false
  /** Syncs under way whose failure could take with it what was acknowledged. */
  #syncsAtRisk = 0
  /** The gap over what was lost with the machine is not written yet: whoever comes next has to leave it, too. */
  #owesGap: boolean
  #queue: Promise<void> = Promise.resolve()

  /**
   * `bounds`: what the predecessor left. `stillOwner`: asked after each extension and before its use. `owesGap`: a gap up
   * to the LSN bound has to be written first (`gapWritten`).
   */
  constructor(
    environment: Environment,
    directory: string,
    bounds: LeaseBounds,
    stillOwner: () => boolean | Promise<boolean>,
    owesGap = false,
  ) {
    this.#environment = environment
    this.#directory = directory
    this.#bounds = bounds
    this.#stillOwner = stillOwner
    this.#owesGap = owesGap
  }

  get bounds(): Readonly<LeaseBounds> {
    return this.#bounds
  }

  /** Raises (or, at a clean end, sets exactly) the bounds: durable when it settles. FENCED when there is a newer owner, DISK_FULL. */
  write(change: Partial<LeaseBounds>): Promise<void> {
    return this.#inTurn(() => this.#write({ ...this.#bounds, ...change }))
  }

  /**
   * What was written at level `os` may be gone although the machine goes on: a sync has failed, and the system may have
   * dropped it. The next owner begins above the bounds, as after a start of the machine.
   */
  doubt(): void {
    this.#doubtful = true
    this.write({}).catch(() => {})
  }

  /**
   * Runs a sync of what was acknowledged at level `os`. When it fails, the system may drop that, and the process may die
   * before it says so: while the sync is under way the lease tells the next owner to begin above the bounds. That mark has
   * to outlive the process alone, so it is not synced. After a sync that failed it stays.
   */
  async duringSync<T>(sync: () => Promise<T>): Promise<T> {
    this.#syncsAtRisk++
    try {
      await this.#mark()
    } catch (error) {
      this.#syncsAtRisk--
      throw error
    }
    const result = await sync()
    this.#syncsAtRisk--
    this.#mark().catch(() => {})
    return result
  }

  /** From now on the lease is one of this run of the machine. */
  gapWritten(): void {
    if (!this.#owesGap) return
    this.#owesGap = false
    this.write({}).catch(() => {})
  }

  async close(): Promise<void> {
    await this.#queue
    await this.#file?.close()
  }

  #inTurn(step: () => Promise<void>): Promise<void> {
    const run = this.#queue
      .then(async () => {
        if (this.#failure !== null) throw this.#failure
        await step()
      })
      .catch((error: unknown) => {
        throw this.#explained(error)
      })
    this.#queue = run.catch(() => {})
    return run
  }

  async #write(bounds: LeaseBounds): Promise<void> {
    await this.#keepFailure(async () => {
      if (this.#file === null) await this.#begin(bounds)
      else await this.#syncSlot(this.#file, bounds)
    })
    await this.#mustOwn()
    this.#bounds = bounds
  }

  /** The bounds stay. Into the slot that the next synced write takes: the last one that was synced stays whole. */
  #mark(): Promise<void> {
    return this.#inTurn(async () => {
      const file = this.#file
      if (file === null) await this.#write(this.#bounds)
      else await this.#keepFailure(() => this.#writeSlot(file, this.#bounds))
    })
  }

  async #keepFailure(step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      if (!isDiskError(error, 'ENOSPC')) this.#failure = error
      throw error
    }
  }

  #explained(error: unknown): unknown {
    if (isDiskError(error, 'ENOENT'))
      return new TidelogError('FENCED', 'a newer owner has cleared our lease away', {
        outcome: 'not-written',
        cause: error,
      })
    // The slots lie in place: only the file of a new owner takes room.
    if (isDiskError(error, 'ENOSPC') && this.#file === null) {
      return new TidelogError(
        'DISK_FULL',
        `no space for ${LEASE_FILE} in ${this.#directory}. Make room and send again.`,
        {
          outcome: 'not-written',
          retriable: true,
          cause: error,
        },
      )
    }
    if (!isDiskError(error)) return error
    return new TidelogError('IO_FAILED', `the lease in ${this.#directory} could not be written: ${error.message}`, {
      file: LEASE_FILE,
      outcome: 'not-written',
      cause: error,
    })
  }

  #bootId(): Buffer {
    return this.#doubtful || this.#owesGap || this.#syncsAtRisk > 0
      ? Buffer.alloc(16)
      : machineBootId(this.#environment)
  }

  async #mustOwn(): Promise<void> {
    if (await this.#stillOwner()) return
    throw new TidelogError('FENCED', 'a newer owner has opened the log: its lease is not ours to extend', {
      outcome: 'not-written',
    })
  }

  async #syncSlot(file: DiskFile, bounds: LeaseBounds): Promise<void> {
    await this.#writeSlot(file, bounds)
    await file.sync()
    this.#sequence++
  }

  async #writeSlot(file: DiskFile, bounds: LeaseBounds): Promise<void> {
    const sequence = this.#sequence + 1
    const slot = encodeLeaseSlot({ ...bounds, sequence, bootId: this.#bootId() })
    await file.write(slot, leaseSlotPosition(sequence))
  }

  async #begin(bounds: LeaseBounds): Promise<void> {
    const { disk } = this.#environment
    const path = `${this.#directory}/${LEASE_FILE}`
    const fresh = `${path}.${Buffer.from(this.#environment.randomBytes(8)).toString('hex')}.tmp`
    const bootId = this.#bootId()
    const file = await disk.create(fresh, 'none')
    try {
      const bytes = Buffer.alloc(LEASE_BYTES)
      for (const sequence of [1, 2]) {
        encodeLeaseSlot({ ...bounds, sequence, bootId }).copy(bytes, leaseSlotPosition(sequence))
      }
      await file.write(bytes, 0)
      await file.sync()
      // A new owner removes such files once it has published, and reads the lease afterwards: if there was none when
      // we looked, the rename comes before that or fails, and never takes the name from the new owner's file.
      await this.#mustOwn()
      await disk.rename(fresh, path)
      await disk.syncDirectory(this.#directory)
    } catch (error) {
      await file.close().catch(() => {})
      await disk.unlink(fresh).catch(() => {})
      throw error
    }
    this.#file = file
    this.#sequence = 2
  }
}

/** `lsnLease`: null at level `disk`, where nothing was acknowledged that is not synced. */
export async function syncOfAcknowledged(lsnLease: LeaseFile | null, sync: () => Promise<void>): Promise<void> {
  await (lsnLease === null ? sync() : lsnLease.duringSync(sync))
}
