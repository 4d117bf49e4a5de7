/**
 * The lock file of a directory: keeps honest processes apart. (What is not honest, or is stuck and comes back, is
 * fenced by the manifest.)
 *
 * `LOCK` holds the owner: JSON text, padded with blanks to one sector. It appears complete or not at all: an owner is
 * written to `LOCK.<nonce>.new`, synced, and given the name `LOCK` by `link`, which fails when the name is taken.
 *
 * Taking over from a dead owner X. To unlink `LOCK` and link one's own is wrong: a taker that is slow between seeing X
 * and unlinking would unlink the lock of a faster one. Instead the right to replace X is itself a lock, whose name
 * holds X's nonce, which never comes again:
 *
 *   1. link one's own file to `LOCK.<nonce of X>.next`; it fails when another taker has it;
 *   2. read `LOCK` again: if it does not hold X any more, give the name up and begin anew;
 *   3. rename `LOCK.<nonce of X>.next` over `LOCK`.
 *
 * While `LOCK` holds the dead X, only the taker that has passed step 2 may change it. The name of step 1 comes free
 * in three ways: its holder renamed it (then `LOCK` no longer holds X, and who links it now fails at step 2); its
 * holder gave it up (it changes nothing any more); its holder died. The last is the same problem one level down, and
 * is solved by the same steps on that name, with the nonce of the taker that died.
 *
 * A `LOCK` that cannot be understood is never taken over. No crash of ours leaves one, since its content is durable
 * before its name exists: so it is damage, or somebody else's file, and its owner may be alive. The error says what
 * to do.
 *
 * `LOCK.spare` lets a full disk be opened: a release renames `LOCK` to it, and a taker renames it to its own
 * `.new` and overwrites it in place, which needs no new block. The directory is synced in between, so that after
 * power was lost no old name leads to a file that was being overwritten.
 *
 * While a lock is held all other `LOCK.*` names are left-overs of crashes, and its taker removes them. On a full disk a
 * taker removes those of dead takers before it has the lock: else each process that is killed there leaves a block less.
 *
 * `LOCK.flock` is the file of the kernel's lock, if one is passed in; it is never removed. That lock is taken first
 * and released last, and does not overrule `LOCK`, whose owner may have had no kernel lock.
 */
import type { Environment } from '../environment.ts'
import { assert, TidelogError } from '../errors.ts'
import { type Disk, type DiskFile, isDiskError } from './disk.ts'
import { encodeLockOwner, type LockOwner, lockFileBytes, lockName, lookAtLock, type SeenLock } from './lock-owner.ts'

const spareName = 'LOCK.spare'
const kernelLockName = 'LOCK.flock'

/** Each round but the last ended because another process did something; so this bounds rivals, not time. */
const roundsMax = 32

export interface Lock {
  readonly nonce: string
  /** What the directory held when the lock was taken, so that it need not be listed again; for one caller. */
  takeNames(): readonly string[]
  /** Whether the lock file still names this lock. False when somebody removed it by hand. */
  isHeld(): Promise<boolean>
  /** Idempotent. */
  release(): Promise<void>
}

/** Whether a name in a log's directory belongs to the lock: such files are never taken for strays. */
export function isLockName(name: string): boolean {
  return name === lockName || name.startsWith(`${lockName}.`)
}

/**
 * Takes the lock of `directory`, which must exist, without waiting. Also refused when this very process holds it.
 *
 * @throws TidelogError LOCKED (names the process and what to do), DISK_FULL, IO_FAILED.
 */
export async function acquireLock(environment: Environment, directory: string): Promise<Lock> {
  try {
    return await new LockTaker(environment, directory).take()
  } catch (cause) {
    if (isDiskError(cause, 'ENOSPC')) {
      throw new TidelogError('DISK_FULL', `No space for the lock file in ${directory}. Make room and open again.`, {
        file: lockName,
        retriable: true,
        cause,
      })
    }
    if (isDiskError(cause)) {
      throw new TidelogError('IO_FAILED', `The lock file in ${directory} cannot be written or read (${cause.code}).`, {
        file: lockName,
        cause,
      })
    }
    throw cause
  }
}

class LockTaker {
  readonly #environment: Environment
  readonly #disk: Disk
  readonly #directory: string
  readonly #owner: LockOwner
  readonly #ownName: string

  constructor(environment: Environment, directory: string) {
    this.#environment = environment
    this.#disk = environment.disk
    this.#directory = directory
    const nonce = Buffer.from(environment.randomBytes(12)).toString('hex')
    this.#owner = { ...environment.processes.self(), nonce }
    this.#ownName = `${lockName}.${nonce}.new`
  }

  async take(): Promise<Lock> {
    const kernelLock = await this.#takeKernelLock()
    try {
      await this.#takeName(lockName)
      const after = await this.#look(lockName)
      assert(after.kind === 'owned' && after.owner.nonce === this.#owner.nonce, 'a lock just taken names its taker')
      // Not before the lock is held: what is a left-over then may be a taker's right now.
      const names = await this.#disk.list(this.#directory)
      await this.#removeLeftOvers(names)
      await this.#prepareSpare()
      return new HeldLock(this.#disk, this.#directory, this.#owner.nonce, kernelLock, names)
    } catch (error) {
      await this.#unlinkIfThere(this.#ownName).catch(() => undefined)
      await kernelLock?.release()
      throw error
    }
  }

  async #takeKernelLock(): Promise<{ release(): Promise<void> } | undefined> {
    const port = this.#environment.kernelLock
    if (port === undefined) return undefined
    const path = this.#path(kernelLockName)
    if (!this.#disk.existsSync(path)) {
      try {
        await (await this.#disk.create(path)).close()
      } catch (error) {
        if (!isDiskError(error, 'EEXIST')) throw error
      }
    }
    const taken = await port.tryLock(path)
    if (taken !== null) return taken
    const seen = await this.#look(lockName)
    throw this.#locked(seen.kind === 'owned' ? seen.owner : undefined)
  }

  /** Gives this taker's file the name `name`, directly or in place of a dead owner. */
  async #takeName(name: string): Promise<void> {
    for (let round = 0; round < roundsMax; round++) {
      const seen = await this.#look(name)
      if (seen.kind === 'unreadable') throw this.#unreadable(name)
      if (seen.kind === 'absent') {
        if (await this.#linkOwn(name)) return
        continue
      }
      if (this.#environment.processes.isAlive(seen.owner)) throw this.#locked(seen.owner)

      const successor = `${lockName}.${seen.owner.nonce}.next`
      await this.#takeName(successor)
      const again = await this.#look(name)
      if (again.kind === 'owned' && again.owner.nonce === seen.owner.nonce) {
        await this.#disk.rename(this.#path(successor), this.#path(name))
        return
      }
      await this.#unlinkIfThere(successor)
    }
    throw this.#locked(undefined)
  }

  /** False when the name is taken, or when a rival that holds the lock has cleared this taker's file away. */
  async #linkOwn(name: string): Promise<boolean> {
    if (!this.#disk.existsSync(this.#path(this.#ownName))) await this.#writeOwn()
    try {
      await this.#disk.link(this.#path(this.#ownName), this.#path(name))
    } catch (error) {
      if (isDiskError(error, 'EEXIST') || isDiskError(error, 'ENOENT')) return false
      throw error
    }
    await this.#unlinkIfThere(this.#ownName)
    return true
  }

  async #writeOwn(): Promise<void> {
    try {
      await this.#writeOwnOnce()
    } catch (error) {
      if (!isDiskError(error, 'ENOSPC')) throw error
      await this.#unlinkIfThere(this.#ownName)
      if (!(await this.#removeDeadTakers())) throw error
      await this.#writeOwnOnce()
    }
  }

  /**
   * Makes room on a full disk: files of takers that are known to have died before they had the lock. Nobody uses them; a
   * `.next` is part of the protocol, and one that does not say whose it is may be being written: both stay. False: none.
   */
  async #removeDeadTakers(): Promise<boolean> {
    let removed = false
    for (const name of await this.#disk.list(this.#directory)) {
      if (!/^LOCK\.[0-9a-f]+\.new$/.test(name)) continue
      const seen = await this.#look(name)
      if (seen.kind !== 'owned' || this.#environment.processes.isAlive(seen.owner)) continue
      await this.#unlinkIfThere(name)
      removed = true
    }
    return removed
  }

  async #writeOwnOnce(): Promise<void> {
    const file = (await this.#claimSpare()) ?? (await this.#disk.create(this.#path(this.#ownName)))
    try {
      await file.write(encodeLockOwner(this.#owner), 0)
      await file.sync()
    } finally {
      await file.close()
    }
  }

  async #claimSpare(): Promise<DiskFile | undefined> {
    try {
      await this.#disk.rename(this.#path(spareName), this.#path(this.#ownName))
      await this.#disk.syncDirectory(this.#directory)
      return await this.#disk.open(this.#path(this.#ownName), 'write')
    } catch (error) {
      if (isDiskError(error, 'ENOENT')) return undefined
      throw error
    }
  }

  #look(name: string): Promise<SeenLock> {
    return lookAtLock(this.#disk, this.#path(name))
  }

  /** A file of a taker that is still at work is left alone; it finds out by itself that it came too late. */
  async #removeLeftOvers(names: readonly string[]): Promise<void> {
    for (const name of names) {
      if (!/^LOCK\.[0-9a-f]+\.(new|next)$/.test(name)) continue
      const seen = await this.#look(name)
      // One's own file under the name of a taker before, whose unlink a power loss undid, is a left-over too.
      const another = seen.kind === 'owned' && seen.owner.nonce !== this.#owner.nonce
      if (another && this.#environment.processes.isAlive(seen.owner)) continue
      await this.#unlinkIfThere(name)
    }
  }

  async #prepareSpare(): Promise<void> {
    if (this.#disk.existsSync(this.#path(spareName))) return
    try {
      const file = await this.#disk.create(this.#path(spareName))
      try {
        await file.write(new Uint8Array(lockFileBytes).fill(0x20), 0)
        await file.sync()
      } finally {
        await file.close()
      }
    } catch {
      // Only a comfort for a full disk; a real fault of the disk will show where it matters.
      await this.#unlinkIfThere(spareName).catch(() => undefined)
    }
  }

  async #unlinkIfThere(name: string): Promise<void> {
    try {
      await this.#disk.unlink(this.#path(name))
    } catch (error) {
      if (!isDiskError(error, 'ENOENT')) throw error
    }
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`
  }

  #locked(owner: LockOwner | undefined): TidelogError {
    const self = this.#owner
    let who = 'another process'
    if (owner !== undefined) {
      const own = owner.pid === self.pid && owner.bootId === self.bootId && owner.startTime === self.startTime
      who = own ? `this process (pid ${owner.pid})` : `process ${owner.pid}`
    }
    return new TidelogError(
      'LOCKED',
      `${this.#directory} is open for writing in ${who}. Close it there or end that process, then open again; or open it read-only beside it. Nothing was changed.`,
      { file: lockName, retriable: true },
    )
  }

  #unreadable(name: string): TidelogError {
    return new TidelogError(
      'LOCKED',
      `${this.#directory}/${name} does not say who holds it, so it is taken to be held. If no process has this directory open, delete that file and open again. Nothing was changed.`,
      { file: name },
    )
  }
}

class HeldLock implements Lock {
  readonly nonce: string
  readonly #disk: Disk
  readonly #directory: string
  readonly #kernelLock: { release(): Promise<void> } | undefined
  #released: Promise<void> | undefined
  #names: readonly string[]

  constructor(
    disk: Disk,
    directory: string,
    nonce: string,
    kernelLock: { release(): Promise<void> } | undefined,
    names: readonly string[],
  ) {
    this.#disk = disk
    this.#directory = directory
    this.nonce = nonce
    this.#kernelLock = kernelLock
    this.#names = names
  }

  takeNames(): readonly string[] {
    const names = this.#names
    this.#names = []
    return names
  }

  async isHeld(): Promise<boolean> {
    const seen = await lookAtLock(this.#disk, `${this.#directory}/${lockName}`)
    return seen.kind === 'owned' && seen.owner.nonce === this.nonce
  }

  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    try {
      // Nobody replaces the lock of a live process; if it is not ours, a person removed it, and it may be another's.
      if (await this.isHeld()) {
        await this.#disk.rename(`${this.#directory}/${lockName}`, `${this.#directory}/${spareName}`)
      }
    } catch (cause) {
      throw new TidelogError('IO_FAILED', `The lock file in ${this.#directory} could not be released.`, {
        file: lockName,
        cause,
      })
    } finally {
      await this.#kernelLock?.release()
    }
  }
}
