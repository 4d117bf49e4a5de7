/**
 * One file of the simulated disk: what its openers see (the page cache), what is durable, and each write in between.
 */
import type { Chooser } from './choices.ts'
import { Random } from './random.ts'

export const sectorBytes = 512

/** Bytes that are in the page cache, but not certain to be on the medium. Whole sectors, as they were at that moment. */
export interface PendingWrite {
  order: number
  firstSector: number
  sectorCount: number
  /** Null stands for zeros: what a truncation leaves. */
  image: Uint8Array | null
  /** Sectors of which a later version is durable already. */
  superseded: Set<number> | undefined
  /** The file's length after it. */
  lengthAfter: number
  /** The call has not returned yet. */
  inFlight: boolean
  /** False after a failed sync that took it for done: no later sync writes it. */
  dirty: boolean
  /** What the cache held before, for a process that dies in the middle of the call. */
  before: { bytes: Uint8Array; length: number } | undefined
}

export interface PowerLossOptions {
  /** Sectors may come back as noise. Default true. */
  garble?: boolean
  /** The sectors of one write may fare differently. Default true. */
  tear?: boolean
}

const nothing = new Uint8Array(0)

export class SimFile {
  readonly id: number
  /** The two may be one buffer, also of several disks, as long as nobody changes it. */
  #cache: Uint8Array<ArrayBuffer> = nothing
  #cacheIsOwn = false
  #length = 0
  #durable: Uint8Array<ArrayBuffer> = nothing
  #durableIsOwn = false
  #durableLength = 0
  #durableLengthOrder = -1
  #pending: PendingWrite[] = []
  /** Names in the page cache's view, and open descriptors: the space is free when both are gone. */
  names = 0
  openers = 0

  constructor(id: number) {
    this.id = id
  }

  get length(): number {
    return this.#length
  }

  get durableLength(): number {
    return this.#durableLength
  }

  get pending(): readonly PendingWrite[] {
    return this.#pending
  }

  read(target: Uint8Array, offset: number, length: number, position: number): number {
    const end = Math.min(this.#length, position + length)
    if (end <= position) return 0
    target.set(this.#cache.subarray(position, end), offset)
    return end - position
  }

  /** What its openers see; a copy. */
  contents(): Uint8Array {
    return this.#cache.slice(0, this.#length)
  }

  /** What is certain to survive; a copy. */
  durableContents(): Uint8Array {
    const bytes = new Uint8Array(this.#durableLength)
    bytes.set(this.#durable.subarray(0, Math.min(this.#durable.length, this.#durableLength)))
    return bytes
  }

  write(order: number, bytes: Uint8Array, position: number): PendingWrite {
    const end = position + bytes.length
    const firstSector = Math.floor(position / sectorBytes)
    const sectorCount = Math.ceil(end / sectorBytes) - firstSector
    this.#ownCache((firstSector + sectorCount) * sectorBytes)
    const area = this.#cache.subarray(firstSector * sectorBytes, (firstSector + sectorCount) * sectorBytes)
    const before = { bytes: area.slice(), length: this.#length }
    this.#cache.set(bytes, position)
    this.#length = Math.max(this.#length, end)
    return this.#push(order, firstSector, sectorCount, area.slice(), before)
  }

  truncate(order: number, length: number): PendingWrite[] {
    const oldEnd = Math.ceil(this.#length / sectorBytes)
    const pushed: PendingWrite[] = []
    this.#ownCache(Math.ceil(length / sectorBytes) * sectorBytes)
    const shrinks = length < this.#length
    const lastSector = Math.floor(length / sectorBytes)
    if (shrinks) this.#cache.fill(0, length)
    this.#length = length
    if (shrinks && length % sectorBytes !== 0) {
      const image = this.#cache.slice(lastSector * sectorBytes, (lastSector + 1) * sectorBytes)
      pushed.push(this.#push(order, lastSector, 1, image, undefined))
    }
    const firstZero = Math.ceil(length / sectorBytes)
    pushed.push(this.#push(order, firstZero, Math.max(0, oldEnd - firstZero), null, undefined))
    return pushed
  }

  #push(
    order: number,
    firstSector: number,
    sectorCount: number,
    image: Uint8Array | null,
    before: PendingWrite['before'],
  ): PendingWrite {
    const write: PendingWrite = {
      order,
      firstSector,
      sectorCount,
      image,
      superseded: undefined,
      lengthAfter: this.#length,
      inFlight: true,
      dirty: true,
      before,
    }
    this.#pending.push(write)
    return write
  }

  /** What a sync that begins now makes durable: all whose call has returned. */
  syncable(): PendingWrite[] {
    return this.#pending.filter((write) => !write.inFlight && write.dirty)
  }

  makeDurable(writes: readonly PendingWrite[]): void {
    if (writes.length === 0) return
    const done = new Set(writes)
    for (const write of writes) {
      if (!write.dirty || !this.#pending.includes(write)) continue
      this.#ownDurable((write.firstSector + write.sectorCount) * sectorBytes)
      apply(this.#durable, write)
      if (write.order > this.#durableLengthOrder) {
        this.#durableLength = write.lengthAfter
        this.#durableLengthOrder = write.order
      }
      for (const other of this.#pending) {
        if (other.order >= write.order || done.has(other)) continue
        const from = Math.max(other.firstSector, write.firstSector)
        const to = Math.min(other.firstSector + other.sectorCount, write.firstSector + write.sectorCount)
        for (let sector = from; sector < to; sector++) {
          other.superseded ??= new Set()
          other.superseded.add(sector)
        }
      }
    }
    this.#pending = this.#pending.filter((write) => !(done.has(write) && write.dirty))
  }

  /** A failed sync: the content stays visible, but no later sync will write it. */
  markClean(writes: readonly PendingWrite[]): void {
    for (const write of writes) write.dirty = false
  }

  /** A failed sync after which the old content is back. */
  revert(writes: readonly PendingWrite[]): void {
    this.markClean(writes)
    this.#ownCache()
    for (const write of writes) {
      const from = write.firstSector * sectorBytes
      const to = Math.min(from + write.sectorCount * sectorBytes, this.#cache.length)
      this.#cache.fill(0, from, to)
      this.#cache.set(this.#durable.subarray(from, to), from)
    }
    for (const write of this.#pending) if (write.dirty) apply(this.#cache, write)
  }

  /** The process died during the call: only the first `sectors` of it reached the page cache. */
  cutInFlight(write: PendingWrite, sectors: number): void {
    write.inFlight = false
    if (write.before === undefined || write.image === null || sectors >= write.sectorCount) return
    // A later write of the same sectors has built on this one.
    if (this.#pending.some((other) => other.order > write.order && overlaps(other, write))) return
    this.#ownCache()
    const keptBytes = sectors * sectorBytes
    const from = write.firstSector * sectorBytes
    this.#cache.set(write.before.bytes.subarray(keptBytes), from + keptBytes)
    const end = Math.max(write.before.length, Math.min(from + keptBytes, write.lengthAfter))
    if (this.#length === write.lengthAfter) this.#length = end
    write.lengthAfter = this.#length
    write.sectorCount = sectors
    write.image = write.image.slice(0, keptBytes)
    if (sectors === 0) this.#pending = this.#pending.filter((other) => other !== write)
  }

  /** Changes bytes on the medium and in the cache, as rot or a hand would. */
  poke(position: number, change: (old: number) => number, length: number): void {
    this.#ownCache()
    this.#ownDurable()
    for (const area of [this.#cache, this.#durable]) {
      const end = Math.min(position + length, area.length)
      for (let i = position; i < end; i++) area[i] = change(area[i]!)
    }
  }

  /** The file as it is found after a power loss, all of it durable. */
  afterPowerLoss(id: number, chooser: Chooser, options: PowerLossOptions): SimFile {
    const lengths = [this.#durableLength]
    for (const write of this.#pending) if (!lengths.includes(write.lengthAfter)) lengths.push(write.lengthAfter)
    const newest = this.#pending.at(-1)?.lengthAfter
    if (newest !== undefined) {
      lengths.splice(lengths.indexOf(newest), 1)
      lengths.push(newest)
    }
    const length = lengths[chooser.choose(lengths.length, 'length')]!
    const found = new SimFile(id)
    found.#durable = this.#durable
    this.#durableIsOwn = false
    for (const write of this.#pending) {
      if (write.sectorCount === 0) continue
      found.#ownDurable((write.firstSector + write.sectorCount) * sectorBytes)
      this.#land(found.#durable, write, chooser, options)
    }
    const sectorEnd = Math.ceil(length / sectorBytes) * sectorBytes
    if (found.#durable.length < sectorEnd || !isZeroFrom(found.#durable, length)) {
      found.#ownDurable(sectorEnd)
      found.#durable.fill(0, length)
    }
    found.#cache = found.#durable
    found.#durableIsOwn = false
    found.#length = length
    found.#durableLength = length
    return found
  }

  #ownCache(capacity = 0): void {
    if (this.#cacheIsOwn && this.#cache.length >= capacity) return
    this.#cache = copyOf(this.#cache, capacity)
    this.#cacheIsOwn = true
  }

  #ownDurable(capacity = 0): void {
    if (this.#durableIsOwn && this.#durable.length >= capacity) return
    this.#durable = copyOf(this.#durable, capacity)
    this.#durableIsOwn = true
  }

  #land(target: Uint8Array, write: PendingWrite, chooser: Chooser, options: PowerLossOptions): void {
    if (write.sectorCount === 0) return
    const garble = options.garble ?? true
    const tear = (options.tear ?? true) && write.sectorCount > 1
    if (write.image === null) {
      if (chooser.choose(2, 'write') === 1) apply(target, write)
      return
    }
    const fates = ['lost', 'kept']
    if (tear) fates.push('torn')
    if (garble) fates.push('garbled')
    const fate = fates[chooser.choose(fates.length, 'write')]
    if (fate === 'kept') apply(target, write)
    if (fate !== 'torn' && fate !== 'garbled') return
    const noise = new Random(write.order)
    for (let index = 0; index < write.sectorCount; index++) {
      const sector = write.firstSector + index
      const sectorFate = fate === 'garbled' ? 2 : chooser.choose(garble ? 3 : 2, 'sector')
      if (sectorFate === 0 || write.superseded?.has(sector)) continue
      const content =
        sectorFate === 1
          ? write.image.subarray(index * sectorBytes, (index + 1) * sectorBytes)
          : noise.bytes(sectorBytes)
      target.set(content, sector * sectorBytes)
    }
  }
}

function overlaps(a: PendingWrite, b: PendingWrite): boolean {
  return a.firstSector < b.firstSector + b.sectorCount && b.firstSector < a.firstSector + a.sectorCount
}

function apply(target: Uint8Array, write: PendingWrite): void {
  const from = write.firstSector * sectorBytes
  if (write.superseded === undefined) {
    if (write.image === null) target.fill(0, from, from + write.sectorCount * sectorBytes)
    else target.set(write.image.subarray(0, Math.max(0, target.length - from)), from)
    return
  }
  for (let index = 0; index < write.sectorCount; index++) {
    if (write.superseded.has(write.firstSector + index)) continue
    const at = from + index * sectorBytes
    if (write.image === null) target.fill(0, at, at + sectorBytes)
    else target.set(write.image.subarray(index * sectorBytes, (index + 1) * sectorBytes), at)
  }
}

function isZeroFrom(bytes: Uint8Array, from: number): boolean {
  for (let i = from; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}

/** Room to grow is bounded: each power loss looks through it. */
function copyOf(bytes: Uint8Array, capacity: number): Uint8Array<ArrayBuffer> {
  const grown = Math.max(capacity, Math.min(bytes.length * 2, bytes.length + 65_536))
  const copy = new Uint8Array(capacity > bytes.length ? grown : bytes.length)
  copy.set(bytes)
  return copy
}
