/**
 * A disk in memory, driven by a seed, that loses power the way real ones do.
 *
 * Each operation takes two steps: at the first its effect enters the page cache and is pending, at the second the
 * call returns; what it promised to be durable is durable at the second. In between other operations go on, in an
 * order that the seed decides. `existsSync` takes one step. Power can be lost before any step:
 *
 * - `crashAfter(k)` loses it for good: step k+1 and all later ones never happen, calls never settle, and synchronous
 *   ones throw EIO, so the code under test cannot acknowledge anything any more;
 * - `reboot(chooser)` gives the disk as it would be found if power were lost now, and leaves this one as it is; so
 *   one run, with `onStep`, gives as many crash states as wanted.
 *
 * `processCrash()` ends one process: its calls never settle, what it wrote stays in the page cache, pending.
 * `nextProcess()` gives another process's view of the same disk.
 */
import {
  type Disk,
  DiskError,
  type DiskFile,
  type DiskIdentity,
  type DiskSpace,
  type WriteSync,
} from '../../native-free-storage/disk/disk.ts'
import type { ProcessIdentity } from '../../native-free-storage/environment.ts'
import { type Chooser, seededChoices } from './choices.ts'
import { SimClock } from './sim-clock.ts'
import { SimDiskFile } from './sim-disk-file.ts'
import { SimFile } from './sim-file.ts'
import {
  type FaultRule,
  type Finish,
  inodeBytes,
  Machine,
  type Operation,
  type OperationKind,
  operation,
  type RebootOptions,
  type SimDiskOptions,
  type Stalled,
} from './sim-machine.ts'
import { SimDirectory, SimNames } from './sim-names.ts'
import { SimProcess } from './sim-process.ts'
import { sectorBytes } from './sim-sectors.ts'

export type {
  Fault,
  FaultRule,
  Operation,
  OperationKind,
  RebootOptions,
  SimDiskOptions,
  Stalled,
} from './sim-machine.ts'

export class SimDisk implements Disk {
  readonly traits: { parallelOperations: number; dsyncTrusted: boolean }
  readonly #machine: Machine
  readonly #process: SimProcess

  constructor(options: SimDiskOptions = {}, shared?: { machine: Machine; pid?: number | undefined }) {
    const mode = options.names ?? 'strict'
    this.#machine = shared?.machine ?? new Machine(options, options.clock ?? new SimClock(), new SimNames(mode))
    this.#process = new SimProcess(this.#machine, shared?.pid)
    this.traits = { parallelOperations: this.#machine.options.parallelOperations ?? 4, dsyncTrusted: true }
  }

  // ---- The machine and its processes ----

  get clock(): SimClock {
    return this.#machine.clock
  }

  get bootId(): string {
    return this.#machine.bootId
  }

  get pid(): number {
    return this.#process.pid
  }

  get startTime(): string {
    return this.#process.startTime
  }

  /** False after the process or the machine went down. */
  get alive(): boolean {
    return this.#process.alive
  }

  /** Steps taken since this disk was made, by all processes. */
  get steps(): number {
    return this.#machine.steps
  }

  /** Settles when power is lost. */
  get crashed(): Promise<void> {
    return this.#machine.crashed
  }

  /** The last operations, in words. */
  get trace(): string[] {
    return this.#machine.traceInWords()
  }

  /** Called before each step, with the steps taken so far; `reboot` may be called in it. */
  set onStep(callback: ((step: number) => void) | undefined) {
    this.#machine.onStep = callback
  }

  /** Power is lost when `steps` have been taken; counted from the making of the disk. */
  crashAfter(steps: number): void {
    this.#machine.crashAt = steps
  }

  powerLoss(): void {
    this.#machine.powerLoss()
  }

  /** The disk as it would be found if power were lost now. By default its own seed decides; pass others for more. */
  reboot(choice: Chooser | number | string = 0, options: RebootOptions = {}): SimDisk {
    const machine = this.#machine
    const seed = typeof choice === 'object' ? machine.order : choice
    const chooser =
      typeof choice === 'object' ? choice : seededChoices(`${machine.options.seed ?? 0}/${machine.steps}/${choice}`)
    const clock = options.clock ?? new SimClock({ startMs: machine.clock.nowMs() + 5_000 })
    let ids = machine.fileIds
    const names = machine.names.afterPowerLoss(() => ++ids, chooser, options)
    const next = new Machine(
      { ...machine.options, clock, seed: `${machine.options.seed ?? 0}/${machine.steps}/${seed}` },
      clock,
      names,
    )
    next.fileIds = ids
    next.order = machine.order
    next.pids = machine.pids
    next.starts = machine.starts
    next.capacityBytes = machine.capacityBytes
    for (const file of names.files()) next.usedBytes += file.length + inodeBytes
    return new SimDisk({}, { machine: next })
  }

  /** Ends this process only. Of the writes it had in flight any part may have reached the page cache. */
  processCrash(seed: number | string = 0): void {
    this.#process.die(seed)
  }

  /** Another process's view of this disk; with `pid`, one that has the number of an earlier one. */
  nextProcess(options: { pid?: number } = {}): SimDisk {
    return new SimDisk({}, { machine: this.#machine, pid: options.pid })
  }

  isAlive(identity: ProcessIdentity): boolean {
    const found = this.#machine.processes.get(identity.pid)
    return (
      identity.bootId === this.#machine.bootId &&
      found !== undefined &&
      found.startTime === identity.startTime &&
      found.alive
    )
  }

  /** `flock`, as far as the engine needs it; the lock of a dead process is free. */
  tryKernelLock(path: string): boolean {
    if (this.#machine.kernelLocks.has(path)) return false
    this.#machine.kernelLocks.set(path, this.pid)
    return true
  }

  releaseKernelLock(path: string): void {
    if (this.#machine.kernelLocks.get(path) === this.pid) this.#machine.kernelLocks.delete(path)
  }

  // ---- Faults and damage ----

  /** Adds a rule that may make operations fail; the first rule that answers counts. Returns what removes it. */
  inject(rule: FaultRule): () => void {
    const { rules } = this.#machine
    rules.push(rule)
    return () => {
      const index = rules.indexOf(rule)
      if (index >= 0) rules.splice(index, 1)
    }
  }

  /** The operations that a `stall` holds. */
  get stalled(): readonly Stalled[] {
    return this.#machine.stalled
  }

  /** Changes the room on the disk; what is used stays. */
  setCapacity(bytes: number): void {
    this.#machine.capacityBytes = bytes
  }

  /** Leaves room for `bytes` more. */
  setFreeBytes(bytes: number): void {
    this.#machine.capacityBytes = this.#machine.usedBytes + bytes
  }

  /** Remounted: writing is possible again after a failed sync made the file system read-only. */
  remount(): void {
    this.#machine.readOnly = false
  }

  /** Flips a bit, on the medium and in the cache. */
  flipBit(path: string, position: number, bit: number): void {
    const file = this.#fileAt(path)
    file.poke(position, Uint8Array.of(file.byteAt(position) ^ (1 << bit)))
  }

  /** Zeroes a sector, on the medium and in the cache. */
  zeroSector(path: string, sector: number): void {
    this.#fileAt(path).poke(sector * sectorBytes, new Uint8Array(sectorBytes))
  }

  /** Puts a sector back as it was before its last write: a write that was lost. False: it was written once at most. */
  olderSector(path: string, sector: number): boolean {
    const file = this.#fileAt(path)
    const older = file.olderSector(sector)
    if (older === undefined) return false
    file.poke(sector * sectorBytes, older)
    return true
  }

  /** The sectors of a file of which there is an older version. */
  rewrittenSectors(path: string): number[] {
    return this.#fileAt(path).rewrittenSectors()
  }

  /** Puts bytes into a file, on the medium and in the cache: a misdirected write, a hand. Never lengthens it. */
  poke(path: string, position: number, bytes: Uint8Array): void {
    this.#fileAt(path).poke(position, bytes)
  }

  // ---- Looking in, without a step ----

  /** Makes a directory and its parents durable at once. */
  prepareDirectory(path: string): void {
    this.#machine.names.prepare(path)
  }

  /** A file's bytes as openers see them. */
  contents(path: string): Uint8Array {
    return this.#fileAt(path).contents()
  }

  /** A file's bytes that are certain to survive, if its name does. */
  durableContents(path: string): Uint8Array {
    return this.#fileAt(path).durableContents()
  }

  /** The paths of all files, each of its names, as openers see them. */
  paths(): string[] {
    return [...this.#machine.names.paths()].map(([path]) => path)
  }

  /** How much could be lost now. */
  pending(): { names: number; writes: number; sectors: number } {
    const counts = { names: this.#machine.names.pending.length, writes: 0, sectors: 0 }
    for (const file of this.#machine.names.files()) {
      counts.writes += file.pending.length
      for (const write of file.pending) counts.sectors += write.sectors.length
    }
    return counts
  }

  usedBytes(): number {
    return this.#machine.usedBytes
  }

  // ---- The port ----

  open(path: string, access: 'read' | 'write', sync: WriteSync = 'none'): Promise<DiskFile> {
    return this.#process.run(operation('open', path), () => {
      const file = this.#find('open', path)
      if (!(file instanceof SimFile)) throw new DiskError('EISDIR', 'open', path)
      if (access === 'write') this.#mustBeWritable('open', path)
      return this.#openedAtFinish(path, file, access, sync)
    })
  }

  create(path: string, sync: WriteSync = 'none'): Promise<DiskFile> {
    const what = operation('create', path)
    return this.#process.run(what, () => {
      const { directory, name } = this.#parent('create', path)
      if (directory.names.has(name)) throw new DiskError('EEXIST', 'create', path)
      this.#mustBeWritable('create', path)
      const machine = this.#machine
      if (machine.freeBytes() < inodeBytes) throw new DiskError('ENOSPC', 'create', path)
      machine.usedBytes += inodeBytes
      const file = new SimFile(++machine.fileIds)
      const land = this.#change(what, [{ directory, name, node: file }])
      const opened = this.#openedAtFinish(path, file, 'write', sync)
      return () => {
        land()
        return opened()
      }
    })
  }

  #openedAtFinish(path: string, file: SimFile, access: 'read' | 'write', sync: WriteSync): Finish<DiskFile> {
    file.openers++
    const key = {}
    this.#process.openFiles.set(key, file)
    return () => new SimDiskFile(this.#process, this.#machine, path, file, access, sync, key)
  }

  link(existing: string, name: string): Promise<void> {
    const what = operation('link', existing, { to: name })
    return this.#process.run(what, () => {
      const file = this.#find('link', existing)
      if (!(file instanceof SimFile)) throw new DiskError('EPERM', 'link', existing)
      const target = this.#parent('link', name)
      if (target.directory.names.has(target.name)) throw new DiskError('EEXIST', 'link', name)
      this.#mustBeWritable('link', name)
      return this.#change(what, [{ ...target, node: file }])
    })
  }

  rename(from: string, to: string): Promise<void> {
    const what = operation('rename', from, { to })
    return this.#process.run(what, () => {
      const node = this.#find('rename', from)
      const source = this.#parent('rename', from)
      const target = this.#parent('rename', to)
      const old = target.directory.names.get(target.name)
      if (old instanceof SimDirectory) throw new DiskError('EISDIR', 'rename', to)
      this.#mustBeWritable('rename', to)
      // POSIX: two names of one file stay as they are.
      if (old === node) return () => undefined
      const land = this.#change(what, [
        { ...target, node },
        { ...source, node: null },
      ])
      if (old instanceof SimFile) this.#machine.forgetIfUnused(old)
      return land
    })
  }

  unlink(path: string): Promise<void> {
    const what = operation('unlink', path)
    return this.#process.run(what, () => {
      const file = this.#find('unlink', path)
      if (!(file instanceof SimFile)) throw new DiskError('EISDIR', 'unlink', path)
      this.#mustBeWritable('unlink', path)
      const land = this.#change(what, [{ ...this.#parent('unlink', path), node: null }])
      this.#machine.forgetIfUnused(file)
      return land
    })
  }

  list(directory: string): Promise<string[]> {
    return this.#process.run(operation('list', directory), () => {
      const found = this.#find('list', directory)
      if (!(found instanceof SimDirectory)) throw new DiskError('ENOTDIR', 'list', directory)
      const names = [...found.names.keys()]
      return () => names
    })
  }

  makeDirectory(path: string): Promise<void> {
    const what = operation('makeDirectory', path)
    return this.#process.run(what, () => {
      const found = this.#machine.names.find(path)
      if (found instanceof SimDirectory) return () => undefined
      if (found !== undefined) throw new DiskError('EEXIST', 'makeDirectory', path)
      const parent = this.#parent('makeDirectory', path)
      this.#mustBeWritable('makeDirectory', path)
      return this.#change(what, [{ ...parent, node: new SimDirectory() }])
    })
  }

  syncDirectory(path: string): Promise<void> {
    return this.#process.run(operation('syncDirectory', path), () => {
      const directory = this.#find('syncDirectory', path)
      if (!(directory instanceof SimDirectory)) throw new DiskError('ENOTDIR', 'syncDirectory', path)
      const { names } = this.#machine
      const changes = names.syncable(directory)
      return () => names.makeDurable(changes, directory)
    })
  }

  existsSync(path: string): boolean {
    const what = { ...operation('exists', path), pid: this.pid, step: this.steps }
    if (!this.#process.alive || !this.#machine.step()) throw new DiskError('EIO', 'exists', path)
    const fault = this.#machine.fault(what)
    if (fault !== undefined && 'fail' in fault && fault.fail !== undefined) {
      throw new DiskError(fault.fail, 'exists', path)
    }
    return this.#machine.names.find(path) !== undefined
  }

  space(directory: string): Promise<DiskSpace> {
    return this.#process.run(operation('space', directory), () => {
      this.#find('space', directory)
      const { capacityBytes } = this.#machine
      const totalBytes = Number.isFinite(capacityBytes) ? capacityBytes : 2 ** 40
      return () => ({ totalBytes, freeBytes: Math.min(totalBytes, this.#machine.freeBytes()) })
    })
  }

  identify(directory: string): Promise<DiskIdentity> {
    return this.#process.run(operation('identify', directory), () => {
      this.#find('identify', directory)
      return () => ({ fileSystem: this.#machine.options.fileSystem ?? 'ext4', device: '1' })
    })
  }

  // ---- Finding ----

  #fileAt(path: string): SimFile {
    const file = this.#machine.names.find(path)
    if (!(file instanceof SimFile)) throw new Error(`no file at ${path}`)
    return file
  }

  #find(kind: OperationKind, path: string) {
    const node = this.#machine.names.find(path)
    if (node === undefined) throw new DiskError('ENOENT', kind, path)
    return node
  }

  #parent(kind: OperationKind, path: string) {
    const parent = this.#machine.names.parent(path)
    if (parent === undefined) throw new DiskError('ENOENT', kind, path)
    return parent
  }

  #mustBeWritable(kind: OperationKind, path: string): void {
    if (this.#machine.readOnly) throw new DiskError('EROFS', kind, path)
  }

  #change(what: Operation, effects: Parameters<SimNames['change']>[2]): Finish<void> {
    const description = `${what.kind} ${what.path}${what.to === undefined ? '' : ` -> ${what.to}`}`
    const change = this.#machine.names.change(++this.#machine.order, description, effects)
    return this.#process.trackChange(what, change)
  }
}
