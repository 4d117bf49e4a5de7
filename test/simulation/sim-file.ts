/**
 * One file of the simulated disk: what its openers see (the page cache), what is durable, and each write in between.
 */
import type { Chooser } from './choices.ts'
import { Random } from './random.ts'
import { bytesOf, cutSector, readSectors, type Sector, sectorBytes, sectorsFor, sectorsOf } from './sim-sectors.ts'

/** Bytes that are in the page cache, but not certain to be on the medium. Whole sectors, as they were at that moment. */
export interface PendingWrite {
  order: number
  firstSector: number
  sectors: readonly Sector[]
  /** What a truncation leaves behind the end: it is there as a whole or not at all. */
  isCut: boolean
  /** Sectors of which a later version is durable already. */
  superseded: Set<number> | undefined
  /** The file's length after it. */
  lengthAfter: number
  /** The call has not returned yet. */
  inFlight: boolean
  /** False after a failed sync that took it for done: no later sync writes it. */
  dirty: boolean
  /** What the cache held before, for a process that dies in the middle of the call. */
  before: { sectors: readonly Sector[]; length: number } | undefined
}

export interface PowerLossOptions {
  /** Sectors may come back as noise. Default true. */
  garble?: boolean
  /** The sectors of one write may fare differently. Default true. */
  tear?: boolean
}

const nothing: Sector[] = []

export class SimFile {
  readonly id: number
  /** The two may be one array, also of several disks, as long as nobody changes it. */
  #cache: Sector[] = nothing
  #cacheIsOwn = false
  #length = 0
  #durable: Sector[] = nothing
  #durableIsOwn = false
  #durableLength = 0
  #durableLengthOrder = -1
  #pending: PendingWrite[] = []
  /** Each sector as it was before its last write. */
  #older: Map<number, Sector> | undefined
  #olderIsOwn = false
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
    readSectors(this.#cache, target.subarray(offset, offset + end - position), position)
    return end - position
  }

  /** What its openers see; a copy. */
  contents(): Uint8Array {
    const bytes = new Uint8Array(this.#length)
    readSectors(this.#cache, bytes, 0)
    return bytes
  }

  /** What is certain to survive; a copy. */
  durableContents(): Uint8Array {
    const bytes = new Uint8Array(this.#durableLength)
    readSectors(this.#durable, bytes, 0)
    return bytes
  }

  /** `lost`: the length grows, and the bytes go nowhere, or somewhere else. */
  write(order: number, bytes: Uint8Array, position: number, lost = false): PendingWrite {
    const end = position + bytes.length
    const firstSector = Math.floor(position / sectorBytes)
    const count = sectorsFor(end) - firstSector
    const before = { sectors: this.#cache.slice(firstSector, firstSector + count), length: this.#length }
    const sectors = lost ? padded(before.sectors, count) : sectorsOf(bytes, position, this.#cache)
    this.#ownCache(firstSector + count)
    for (let i = 0; i < count; i++) {
      const sector = firstSector + i
      if (sector * sectorBytes < this.#length) this.#keepOlder(sector, before.sectors[i] ?? null)
      this.#cache[sector] = sectors[i]!
    }
    this.#length = Math.max(this.#length, end)
    return this.#push(order, firstSector, sectors, before)
  }

  truncate(order: number, length: number): PendingWrite[] {
    const oldEnd = sectorsFor(this.#length)
    const pushed: PendingWrite[] = []
    const firstZero = sectorsFor(length)
    this.#ownCache(firstZero)
    const shrinks = length < this.#length
    this.#length = length
    if (shrinks) {
      const inside = length % sectorBytes
      if (inside !== 0) {
        const last = firstZero - 1
        this.#cache[last] = cutSector(this.#cache[last] ?? null, inside)
        pushed.push(this.#push(order, last, [this.#cache[last]!], undefined))
      }
      this.#cache.length = firstZero
    }
    const zeros = new Array<Sector>(Math.max(0, oldEnd - firstZero)).fill(null)
    pushed.push(this.#push(order, firstZero, zeros, undefined, true))
    return pushed
  }

  #push(
    order: number,
    firstSector: number,
    sectors: readonly Sector[],
    before: PendingWrite['before'],
    isCut = false,
  ): PendingWrite {
    const write: PendingWrite = {
      order,
      firstSector,
      sectors,
      isCut,
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
      this.#ownDurable(write.firstSector + write.sectors.length)
      apply(this.#durable, write)
      if (write.order > this.#durableLengthOrder) {
        this.#durableLength = write.lengthAfter
        this.#durableLengthOrder = write.order
      }
      for (const other of this.#pending) {
        if (other.order >= write.order || done.has(other)) continue
        const from = Math.max(other.firstSector, write.firstSector)
        const to = Math.min(other.firstSector + other.sectors.length, write.firstSector + write.sectors.length)
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
    for (const { firstSector, sectors } of writes) {
      const to = Math.min(firstSector + sectors.length, this.#cache.length)
      for (let sector = firstSector; sector < to; sector++) this.#cache[sector] = this.#durable[sector] ?? null
    }
    for (const write of this.#pending) if (write.dirty) apply(this.#cache, write)
  }

  /** The process died during the call: only the first `count` sectors of it reached the page cache. */
  cutInFlight(write: PendingWrite, count: number): void {
    write.inFlight = false
    if (write.before === undefined || count >= write.sectors.length) return
    // A later write of the same sectors has built on this one.
    if (this.#pending.some((other) => other.order > write.order && overlaps(other, write))) return
    this.#ownCache()
    const { firstSector, before } = write
    for (let i = count; i < write.sectors.length; i++) this.#cache[firstSector + i] = before.sectors[i] ?? null
    const end = Math.max(before.length, Math.min((firstSector + count) * sectorBytes, write.lengthAfter))
    if (this.#length === write.lengthAfter) this.#length = end
    write.lengthAfter = this.#length
    write.sectors = write.sectors.slice(0, count)
    if (count === 0) this.#pending = this.#pending.filter((other) => other !== write)
  }

  // ---- Damage ----

  /** Puts bytes in place of others on the medium and in the cache, as rot or a hand would. Never lengthens the file. */
  poke(position: number, bytes: Uint8Array): void {
    this.#ownCache()
    this.#ownDurable()
    for (const [area, length] of [
      [this.#cache, this.#length],
      [this.#durable, this.#durableLength],
    ] as const) {
      const part = bytes.subarray(0, Math.max(0, Math.min(bytes.length, length - position)))
      if (part.length === 0) continue
      const sectors = sectorsOf(part, position, area)
      const first = Math.floor(position / sectorBytes)
      for (const [index, sector] of sectors.entries()) area[first + index] = sector
    }
  }

  byteAt(position: number): number {
    return this.#cache[Math.floor(position / sectorBytes)]?.[position % sectorBytes] ?? 0
  }

  /** A sector as it was before its last write; undefined when it was written once at most. */
  olderSector(sector: number): Uint8Array | undefined {
    const older = this.#older?.get(sector)
    return older === undefined ? undefined : bytesOf(older)
  }

  /** Sectors of which there is an older version. */
  rewrittenSectors(): number[] {
    return [...(this.#older?.keys() ?? [])]
  }

  // ---- Power ----

  /** The file as it is found after a power loss, all of it durable. */
  afterPowerLoss(id: number, chooser: Chooser, options: PowerLossOptions): SimFile {
    const found = new SimFile(id)
    let length = this.#durableLength
    if (this.#pending.length > 0) {
      const lengths = [length]
      for (const write of this.#pending) if (!lengths.includes(write.lengthAfter)) lengths.push(write.lengthAfter)
      const newest = this.#pending.at(-1)!.lengthAfter
      lengths.splice(lengths.indexOf(newest), 1)
      lengths.push(newest)
      length = lengths[chooser.choose(lengths.length, 'length')]!
    }
    found.#durable = this.#durable
    this.#durableIsOwn = false
    for (const write of this.#pending) {
      if (write.sectors.length === 0) continue
      found.#ownDurable(write.firstSector + write.sectors.length)
      land(found.#durable, write, chooser, options)
    }
    const sectors = sectorsFor(length)
    if (found.#durable.length > sectors || length % sectorBytes !== 0) {
      found.#ownDurable()
      found.#durable.length = Math.min(found.#durable.length, sectors)
      const inside = length % sectorBytes
      const last = found.#durable[sectors - 1]
      if (inside !== 0 && last != null) found.#durable[sectors - 1] = cutSector(last, inside)
    }
    found.#cache = found.#durable
    found.#durableIsOwn = false
    found.#length = length
    found.#durableLength = length
    found.#older = this.#older
    this.#olderIsOwn = false
    return found
  }

  #keepOlder(sector: number, content: Sector): void {
    if (!this.#olderIsOwn) this.#older = new Map(this.#older)
    this.#olderIsOwn = true
    this.#older!.set(sector, content)
  }

  #ownCache(sectors = 0): void {
    if (!this.#cacheIsOwn) this.#cache = this.#cache.slice()
    this.#cacheIsOwn = true
    while (this.#cache.length < sectors) this.#cache.push(null)
  }

  #ownDurable(sectors = 0): void {
    if (!this.#durableIsOwn) this.#durable = this.#durable.slice()
    this.#durableIsOwn = true
    while (this.#durable.length < sectors) this.#durable.push(null)
  }
}

function land(target: Sector[], write: PendingWrite, chooser: Chooser, options: PowerLossOptions): void {
  if (write.isCut) {
    if (chooser.choose(2, 'write') === 1) apply(target, write)
    return
  }
  const garble = options.garble ?? true
  const fates = ['lost', 'kept']
  if ((options.tear ?? true) && write.sectors.length > 1) fates.push('torn')
  if (garble) fates.push('garbled')
  const fate = fates[chooser.choose(fates.length, 'write')]
  if (fate === 'kept') apply(target, write)
  if (fate !== 'torn' && fate !== 'garbled') return
  const noise = new Random(write.order)
  for (const [index, image] of write.sectors.entries()) {
    const sector = write.firstSector + index
    const sectorFate = fate === 'garbled' ? 2 : chooser.choose(garble ? 3 : 2, 'sector')
    if (sectorFate === 0 || write.superseded?.has(sector)) continue
    target[sector] = sectorFate === 1 ? image : noise.bytes(sectorBytes)
  }
}

function padded(sectors: readonly Sector[], count: number): Sector[] {
  return Array.from({ length: count }, (_, index) => sectors[index] ?? null)
}

function overlaps(a: PendingWrite, b: PendingWrite): boolean {
  return a.firstSector < b.firstSector + b.sectors.length && b.firstSector < a.firstSector + a.sectors.length
}

function apply(target: Sector[], { firstSector, sectors, superseded }: PendingWrite): void {
  const to = Math.min(sectors.length, target.length - firstSector)
  for (let index = 0; index < to; index++) {
    if (superseded?.has(firstSector + index)) continue
    target[firstSector + index] = sectors[index]!
  }
}
