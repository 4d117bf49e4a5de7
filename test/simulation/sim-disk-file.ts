/**
 * An open file of the simulated disk.
 */
import { DiskError, type DiskFile, type WriteSync } from '../../native-free-storage/disk/disk.ts'
import { type PendingWrite, SimFile } from './sim-file.ts'
import { type Fault, type Finish, type Machine, type Operation, type OperationKind, operation } from './sim-machine.ts'
import type { SimProcess } from './sim-process.ts'

export class SimDiskFile implements DiskFile {
  readonly path: string
  readonly #process: SimProcess
  readonly #machine: Machine
  readonly #file: SimFile
  readonly #access: 'read' | 'write'
  readonly #dsync: boolean
  readonly #key: object
  #busy = 0
  #closed: Promise<void> | undefined
  #onIdle: (() => void) | undefined

  constructor(
    process: SimProcess,
    machine: Machine,
    path: string,
    file: SimFile,
    access: 'read' | 'write',
    sync: WriteSync,
    key: object,
  ) {
    this.path = path
    this.#process = process
    this.#machine = machine
    this.#file = file
    this.#access = access
    this.#dsync = sync === 'dsync'
    this.#key = key
  }

  async read(target: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    let done = 0
    for (;;) {
      const turn = { isShort: false }
      done += await this.#readOnce(target, offset + done, length - done, position + done, turn)
      if (!turn.isShort) return done
    }
  }

  #readOnce(
    target: Uint8Array,
    offset: number,
    length: number,
    position: number,
    turn: { isShort: boolean },
  ): Promise<number> {
    const read = (file: SimFile, from: number, bytes = length) =>
      file.read(target, offset, Math.min(bytes, target.length - offset), from)
    return this.#run(
      operation('read', this.path, { position, length }),
      () => () => read(this.#file, position),
      (fault) => {
        if ('mangle' in fault) {
          return () => {
            const count = read(this.#file, position)
            fault.mangle(target.subarray(offset, offset + count), position)
            return count
          }
        }
        if ('misdirect' in fault) {
          const other = this.#misdirected(fault.misdirect.path)
          // The length is the right one: only what stands in the sectors is another's.
          return () => {
            const count = read(this.#file, position)
            target.fill(0, offset, offset + count)
            if (other !== undefined) read(other, fault.misdirect.position, count)
            return count
          }
        }
        if ('short' in fault && fault.short < length) {
          return () => {
            const count = read(this.#file, position, fault.short)
            if (fault.fail !== undefined) throw new DiskError(fault.fail, 'read', this.path)
            turn.isShort = count > 0
            return count
          }
        }
        return undefined
      },
    )
  }

  #misdirected(path: string | undefined): SimFile | undefined {
    if (path === undefined) return this.#file
    const node = this.#machine.names.find(path)
    return node instanceof SimFile ? node : undefined
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
        if ('misdirect' in fault) {
          const finish = this.#beginWrite(what, bytes, position, { lost: true })
          this.#misdirected(fault.misdirect.path)?.poke(fault.misdirect.position, bytes)
          return finish
        }
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
    turn: { limit?: number; failWith?: string; syncFails?: SyncFailure; unsynced?: boolean; lost?: boolean },
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
      write = this.#file.write(++machine.order, part, position, turn.lost)
      machine.usedBytes += this.#file.length - lengthBefore
      this.#process.trackWrite(what, this.#file, write)
    }
    return () => {
      this.#process.land(what)
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
      if (!this.#process.openFiles.delete(this.#key)) return
      this.#file.openers--
      this.#machine.forgetIfUnused(this.#file)
    }
    // As with close(2), the descriptor is gone even when it fails.
    await this.#process
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
      return await this.#process.run(what, begin, faulty)
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
