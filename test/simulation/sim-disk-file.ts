/**
 * An open file of the simulated disk.
 */
import { DiskError, type DiskFile, type WriteSync } from '../../native-free-storage/disk/disk.ts'
import type { PendingWrite, SimFile } from './sim-file.ts'
import { type Fault, type Finish, type Machine, type Operation, type OperationKind, operation } from './sim-machine.ts'

/** What an open file asks of the disk that it is on, as one process sees it. */
export interface FileHost {
  readonly openFiles: { delete(key: object): boolean }
  run<T>(what: Operation, begin: () => Finish<T>, faulty?: (fault: Fault) => Finish<T> | undefined): Promise<T>
  trackWrite(what: Operation, file: SimFile, write: PendingWrite): void
  land(what: Operation): void
}

export class SimDiskFile implements DiskFile {
  readonly path: string
  readonly #disk: FileHost
  readonly #machine: Machine
  readonly #file: SimFile
  readonly #access: 'read' | 'write'
  readonly #dsync: boolean
  readonly #key: object
  #busy = 0
  #closed: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(
    disk: FileHost,
    machine: Machine,
    path: string,
    file: SimFile,
    access: 'read' | 'write',
    sync: WriteSync,
    key: object,
  ) {
    this.path = path
    this.#disk = disk
    this.#machine = machine
    this.#file = file
    this.#access = access
    this.#dsync = sync === 'dsync'
    this.#key = key
  }

  read(target: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    const read = () => this.#file.read(target, offset, Math.min(length, target.length - offset), position)
    return this.#run(
      operation('read', this.path, { position, length }),
      () => read,
      (fault) => {
        if (!('mangle' in fault)) return undefined
        return () => {
          const count = read()
          fault.mangle(target.subarray(offset, offset + count), position)
          return count
        }
      },
    )
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    const what = operation('write', this.path, { position, length: bytes.length, dsync: this.#dsync })
    return this.#run(
      what,
      () => this.#beginWrite(what, bytes, position, {}),
      (fault) => {
        if ('short' in fault) {
          return this.#beginWrite(what, bytes, position, {
            limit: Math.min(fault.short, bytes.length - 1),
            failWith: fault.fail ?? 'EIO',
          })
        }
        if ('syncFails' in fault) return this.#beginWrite(what, bytes, position, { syncFails: fault.syncFails })
        // It fails although its bytes are in the cache: nothing was made durable.
        if ('applied' in fault) return this.#beginWrite(what, bytes, position, { unsynced: true })
        return undefined
      },
    )
  }

  #beginWrite(
    what: Operation,
    bytes: Uint8Array,
    position: number,
    turn: { limit?: number; failWith?: string; syncFails?: SyncFailure; unsynced?: boolean },
  ): Finish<void> {
    this.#mustBeWritable('write')
    const machine = this.#machine
    const limit = turn.limit ?? bytes.length
    const room = Math.max(0, this.#file.length + machine.freeBytes() - position)
    const part = bytes.subarray(0, Math.min(limit, room))
    const code = room < limit ? 'ENOSPC' : (turn.failWith ?? 'EIO')
    let write: PendingWrite | undefined
    if (part.length > 0) {
      const lengthBefore = this.#file.length
      write = this.#file.write(++machine.order, part, position)
      machine.usedBytes += this.#file.length - lengthBefore
      this.#disk.trackWrite(what, this.#file, write)
    }
    return () => {
      this.#disk.land(what)
      if (part.length < bytes.length) throw new DiskError(code, 'write', this.path, { bytesWritten: part.length })
      if (write === undefined || turn.unsynced) return
      if (turn.syncFails !== undefined) this.#failSync([write], turn.syncFails, 'write')
      if (!this.#dsync) return
      this.#file.makeDurable([write])
      machine.names.makeDurable(machine.names.syncableWith(this.#file))
    }
  }

  sync(): Promise<void> {
    const covered = () => this.#file.syncable()
    return this.#run(
      operation('sync', this.path),
      () => {
        const { names } = this.#machine
        const writes = covered()
        const changes = names.syncableWith(this.#file)
        return () => {
          if (this.#machine.readOnly && writes.length > 0) throw new DiskError('EROFS', 'sync', this.path)
          this.#file.makeDurable(writes)
          names.makeDurable(changes)
        }
      },
      (fault) => {
        if ('applied' in fault) return () => undefined
        if (!('syncFails' in fault)) return undefined
        const writes = covered()
        return () => this.#failSync(writes, fault.syncFails, 'sync')
      },
    )
  }

  truncate(length: number): Promise<void> {
    return this.#run(operation('truncate', this.path, { length }), () => {
      this.#mustBeWritable('truncate')
      const machine = this.#machine
      const growth = length - this.#file.length
      if (growth > machine.freeBytes()) throw new DiskError('ENOSPC', 'truncate', this.path)
      machine.usedBytes += growth
      const writes = this.#file.truncate(++machine.order, length)
      return () => {
        for (const write of writes) write.inFlight = false
      }
    })
  }

  size(): Promise<number> {
    return this.#run(operation('size', this.path), () => {
      const { length } = this.#file
      return () => length
    })
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    if (this.#busy > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve
      })
    }
    const forget = () => {
      if (!this.#disk.openFiles.delete(this.#key)) return
      this.#file.openers--
      this.#machine.forgetIfUnused(this.#file)
    }
    // As with close(2), the descriptor is gone even when it fails.
    await this.#disk
      .run(operation('close', this.path), () => forget)
      .catch((error) => {
        forget()
        throw error
      })
  }

  async #run<T>(what: Operation, begin: () => Finish<T>, faulty?: (fault: Fault) => Finish<T> | undefined): Promise<T> {
    if (this.#closed !== undefined) throw new DiskError('EBADF', what.kind, this.path)
    this.#busy++
    try {
      return await this.#disk.run(what, begin, faulty)
    } finally {
      this.#busy--
      if (this.#busy === 0) this.#onIdle?.()
    }
  }

  #mustBeWritable(kind: OperationKind): void {
    if (this.#access === 'read') throw new DiskError('EBADF', kind, this.path)
    if (this.#machine.readOnly) throw new DiskError('EROFS', kind, this.path)
  }

  #failSync(covered: readonly PendingWrite[], how: SyncFailure, kind: OperationKind): never {
    if (how === 'marked-clean') this.#file.markClean(covered)
    if (how === 'reverted') this.#file.revert(covered)
    if (how === 'read-only') this.#machine.readOnly = true
    throw new DiskError('EIO', kind, this.path)
  }
}

type SyncFailure = 'marked-clean' | 'reverted' | 'read-only'
