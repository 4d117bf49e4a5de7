/**
 * Damage, drawn from a seed, to what a log had made durable: stored bytes that change, files that vanish or are exchanged,
 * writes and reads that go elsewhere. It is named by the opening, by the read or by `verify`; it is never healed in silence,
 * and nothing that was not submitted is ever delivered in a record's place.
 */
import { TidelogError } from '../../native-free-storage/index.ts'
import { verifyLog } from '../../native-free-storage/maintenance/verify.ts'
import { newDisk } from './crash-runner.ts'
import { demand, identified } from './log-ledger.ts'
import { logDirectory, Session } from './log-session.ts'
import { checkLookups } from './lookups.ts'
import { Random } from './random.ts'
import type { SimDisk } from './sim-disk.ts'

export interface DamageCounts {
  seeds: number
  /** The damage changed nothing: zeros over zeros. */
  unchanged: number
  namedByVerify: number
  refusedByOpen: number
  toldByRead: number
  /** All records came all the same: an index, bytes that nothing rests on. */
  harmless: number
}

type Place = 'seg' | 'idx' | 'MANIFEST'

const kinds = [
  'a bit',
  'a bit',
  'a bit',
  'a sector of zeros',
  'an older sector',
  'a sector of another place',
  'some bytes',
  'a shorter file',
  'a missing file',
  'two files exchanged',
  'a write that went elsewhere',
  'a write that was lost',
  'reads that lie',
] as const

/** Whatever stands in the way of a reader or an opener says so by one of these. */
const told = [
  'LOG_DAMAGED',
  'FRAME_DAMAGED',
  'FRAME_INVALID',
  'SEGMENT_MISSING',
  'MANIFEST_DAMAGED',
  'MANIFEST_MISSING',
  'FORMAT_UNKNOWN',
]

export class DamageRun {
  readonly story: string[] = []
  readonly #random: Random
  readonly #kind: (typeof kinds)[number]
  #session: Session
  #provenLsn = -1
  /** The log was not closed: of its last file what is not proven may be lost, and nobody can know. */
  #isOpenEnded = false

  constructor(seed: string) {
    const random = new Random(`${seed}/damage`)
    this.#random = random
    this.#kind = random.pick(kinds)
    const way = {
      mode: random.pick(['dsync', 'fdatasync'] as const),
      depth: random.pick([1, 4]),
      durability: random.chance(0.1) ? ('os' as const) : ('disk' as const),
    }
    const disk = newDisk({ names: random.pick(['strict', 'ext4'] as const), seed })
    this.#session = new Session(disk, way, seed)
    this.story.push(`${way.mode} ${way.depth} ${way.durability}, ${this.#kind}`)
  }

  async run(counts: DamageCounts): Promise<void> {
    try {
      await this.#run(counts)
      counts.seeds++
    } finally {
      this.#session.disk.powerLoss()
    }
  }

  async #run(counts: DamageCounts): Promise<void> {
    const kind = this.#kind
    const isOfWrite = kind === 'a write that went elsewhere' || kind === 'a write that was lost'
    const place = this.#random.pick(['seg', 'seg', 'seg', 'idx', 'MANIFEST'] as const)
    await this.#live(isOfWrite ? place : undefined)
    if (kind === 'reads that lie') return await this.#readLies(counts)
    const before = snapshotOf(this.#session.disk)
    if (!isOfWrite) {
      const sound = await verifyLog(this.#session.environment, logDirectory)
      const severe = sound.findings.filter(({ severity }) => severity !== 'info')
      demand(severe.length === 0, () => `verify, before the damage: ${severe[0]!.code} ${severe[0]!.message}`)
      this.#provenLsn = sound.provenLsn ?? -1
      if (!(await this.#damage(place))) return
    }
    const after = snapshotOf(this.#session.disk)
    const changed = isOfWrite ? undefined : changesOf(before, after)
    const onlyZeros = changed?.every((name) => becameZero(before, after, `${logDirectory}/${name}`)) ?? false
    if (changed?.length === 0) {
      counts.unchanged++
      return
    }
    await this.#judge(changed, onlyZeros, place, counts)
  }

  /** A log of some segments, with a history. */
  async #live(damagedWrite: Place | undefined): Promise<void> {
    const random = this.#random
    const session = this.#session
    const segmentBytes = random.pick([8_192, 16_384, 65_536])
    if (damagedWrite !== undefined) this.#plan(damagedWrite)
    const lives = random.between(1, 3)
    for (let life = 0; life < lives; life++) {
      if (life > 0 && !(await this.#reopens(segmentBytes))) return
      if (life === 0) await session.open({ segmentBytes })
      const appends = random.between(2, 8)
      for (let i = 0; i < appends; i++) {
        await Promise.all(Array.from({ length: random.between(1, 3) }, () => session.submit(random.below(5_000))))
        if (random.chance(0.2)) await session.sleep(random.pick([1, 120]))
      }
      if (random.chance(0.2) && session.log.nextLsn > 4) {
        await session.ledger.truncate(session.log, random.below(session.log.nextLsn - 2)).catch(engineErrorOnly)
      }
      this.#isOpenEnded = damagedWrite === undefined && random.chance(0.3)
      if (this.#isOpenEnded) session.dies()
      else await session.close().catch(engineErrorOnly)
    }
    // All that was acknowledged is provable in a log that was closed.
    if (damagedWrite !== undefined) this.#provenLsn = Math.max(-1, ...session.ledger.known.keys())
  }

  /** A write that was lost may be met by the next opening already. */
  async #reopens(segmentBytes: number): Promise<boolean> {
    try {
      await this.#session.open({ segmentBytes })
      return true
    } catch (error) {
      demandTold(error)
      return false
    }
  }

  /** One write of a file of this kind lands in another place, or nowhere, and is told to have been made. */
  #plan(place: Place): void {
    const { disk } = this.#session
    const random = this.#random
    let left = random.below(10)
    const matches = { seg: /\/pool\/.*\.(new|prep)$|\.seg$/, idx: /\.idx/, MANIFEST: /\/MANIFEST-/ }[place]
    disk.inject(({ kind, path, position, length }) => {
      if (kind !== 'write' || !matches.test(path) || left-- !== 0) return undefined
      this.story.push(`the write of ${length} at ${position} of ${path}`)
      if (this.#kind === 'a write that was lost') return { misdirect: { path: '/nowhere', position: 0 } }
      const others = disk.paths().filter((other) => other.startsWith(logDirectory) && /\.(seg|idx)$/.test(other))
      const target = others.length === 0 || random.chance(0.5) ? path : random.pick(others)
      return { misdirect: { path: target, position: 512 * random.below(24) } }
    })
  }

  /** False: there is nothing to damage in this way. */
  async #damage(place: Place): Promise<boolean> {
    const random = this.#random
    const { disk } = this.#session
    const files = filesOf(disk)
    const ofPlace = files.filter((path) => path.includes(place))
    if (ofPlace.length === 0) return false
    const path = random.pick(ofPlace)
    const bytes = disk.contents(path)
    if (bytes.length === 0) return false
    const sectors = Math.ceil(bytes.length / 512)
    this.story.push(`${this.#kind}: ${path} of ${bytes.length} bytes`)
    const hand = disk.nextProcess()
    switch (this.#kind) {
      case 'a bit':
        disk.flipBit(path, random.below(bytes.length), random.below(8))
        return true
      case 'a sector of zeros':
        disk.zeroSector(path, random.below(sectors))
        return true
      case 'an older sector': {
        const rewritten = disk.rewrittenSectors(path)
        return rewritten.length > 0 && disk.olderSector(path, random.pick(rewritten))
      }
      case 'a sector of another place': {
        const from = disk.contents(random.pick(files))
        const at = 512 * random.below(Math.ceil(from.length / 512))
        disk.poke(path, 512 * random.below(sectors), from.subarray(at, at + 512))
        return true
      }
      case 'some bytes':
        disk.poke(path, random.below(bytes.length), random.bytes(random.between(1, 3_000)))
        return true
      case 'a shorter file': {
        const file = await hand.open(path, 'write')
        await file.truncate(random.below(bytes.length))
        return true
      }
      case 'a missing file':
        await hand.unlink(path)
        return true
      default: {
        const other = random.pick(ofPlace)
        await hand.rename(path, `${path}.moving`)
        if (other === path) return true
        await hand.rename(other, path)
        await hand.rename(`${path}.moving`, other)
        return true
      }
    }
  }

  async #judge(
    changed: readonly string[] | undefined,
    onlyZeros: boolean,
    place: Place,
    counts: DamageCounts,
  ): Promise<void> {
    const session = this.#session
    const { ledger } = session
    const { findings } = await verifyLog(session.environment, logDirectory)
    const severe = findings.filter(({ severity }) => severity !== 'info')
    const named = findings.filter(({ file, message }) => {
      return changed?.some((name) => file === name || message.includes(name.replace(/\.(seg|idx)$/, '')))
    })
    if (severe.length > 0 || named.length > 0) counts.namedByVerify++
    const isNamed = severe.length > 0 || named.length > 0
    const segments = filesOf(session.disk).filter((path) => path.endsWith('.seg'))
    // The one that is missing counts, too.
    const missing =
      this.#kind === 'a missing file' && changed !== undefined ? `${logDirectory}/${changed[0]}` : undefined
    const last = [...segments, ...(missing?.endsWith('.seg') ? [missing] : [])].sort().at(-1)
    // What proves that a frame was durable stands in the frames behind it.
    const isUnprovable = this.#isOpenEnded && changed?.length === 1 && last?.endsWith(changed[0]!) === true
    if (isUnprovable && this.#kind !== 'a bit') this.#provenLsn = -1

    const outcome = await this.#openAndRead()
    if (outcome.error === null) {
      for (const { lsn } of ledger.known.values()) {
        if (lsn < outcome.firstLsn || lsn > this.#provenLsn || lsn < ledger.mayLoseBelow) continue
        demand(outcome.delivered.has(lsn), () => `LSN ${lsn} was durable; it is gone, and nobody says so`)
      }
      counts.harmless++
      const all = [...ledger.known.keys()].every((lsn) => lsn < outcome.firstLsn || outcome.delivered.has(lsn))
      // Zeros in place of a seal, or a file cut in front of it: its successor or the manifest says where the segment
      // ends, and a segment that a recovery cut has none either.
      const isSealGone = all && place === 'seg' && (onlyZeros || this.#kind === 'a shorter file')
      // A crash can leave the manifest before the newest one: the log goes on from there.
      const isOlderLeft = all && place === 'MANIFEST' && this.#kind === 'a missing file'
      // It held only what was truncated away.
      const next = missing === undefined ? undefined : segments.sort().find((path) => path > missing)
      const isTruncated = all && next !== undefined && baseLsnOf(next) <= outcome.firstLsn
      const isHarmless = isUnprovable || isSealGone || isOlderLeft || isTruncated
      demand(changed === undefined || isNamed || isHarmless, () => {
        return `${changed!.join(', ')} changed, and nobody says anything of it`
      })
      // What verify calls lost is not given to readers as if nothing had been.
      const lost = severe.filter(({ severity, lsnFrom, lsnTo }) => {
        return (
          severity === 'data-lost' && lsnFrom !== null && lsnTo !== null && lsnTo >= Math.max(lsnFrom, outcome.firstLsn)
        )
      })
      demand(lost.length === 0 || !all || place !== 'seg' || changed === undefined || changed.length > 1, () => {
        return `verify says that LSN ${lost[0]!.lsnFrom} to ${lost[0]!.lsnTo} are lost, and all are read`
      })
    } else {
      demandTold(outcome.error)
      demand(place !== 'idx' || changed === undefined, () => `an index that is damaged is in the way: ${outcome.error}`)
      if (outcome.opened) counts.toldByRead++
      else counts.refusedByOpen++
    }
  }

  async #openAndRead() {
    const session = this.#session
    const delivered = new Set<number>()
    let opened = false
    try {
      const log = await session.open()
      opened = true
      const { firstLsn } = log
      let last = -1
      for await (const frame of log.read({ gaps: true, readAheadBytes: 65_536 })) {
        if (frame.gap !== null) last = Math.max(last, frame.gap.firstLsn + frame.gap.count - 1)
        for (const record of frame) {
          const found = identified(record)
          demand(last < 0 || found.lsn === last + 1, () => `LSN ${found.lsn} follows ${last}`)
          last = found.lsn
          session.ledger.noteRead(found)
          delivered.add(found.lsn)
        }
      }
      // No LSN that was provably given is given again, whatever the damage was.
      const { firstLsn: given } = await log.append([{ vchannel: 'v0', payload: new Uint8Array(8) }])
      demand(given > this.#provenLsn, () => `LSN ${given} is given although ${this.#provenLsn} was durable`)
      return { opened, firstLsn, delivered, error: null }
    } catch (error) {
      return { opened, firstLsn: 0, delivered, error }
    }
  }

  /** The bytes on the medium are right; what comes from it is not, for a while. */
  async #readLies(counts: DamageCounts): Promise<void> {
    const random = this.#random
    const session = this.#session
    session.dies()
    await session.open({ cacheBytes: 0 })
    const { disk } = session
    const files = filesOf(disk)
    let lies = random.between(1, 4)
    const heal = disk.inject(({ kind, path }) => {
      if (kind !== 'read' || !/\.(seg|idx)$/.test(path) || random.chance(0.5) || lies-- <= 0) return undefined
      if (random.chance(0.4)) return { misdirect: { path: random.pick(files), position: 512 * random.below(40) } }
      const zeros = random.chance(0.3)
      return {
        mangle: (bytes) => {
          if (zeros) bytes.fill(0, 0, 512)
          else if (bytes.length > 0) bytes[random.below(bytes.length)]! ^= 1 << random.below(8)
        },
      }
    })
    for (const vchannels of [undefined, ['v1'], ['v0', 'v2']]) {
      try {
        for await (const frame of session.log.read({ readAheadBytes: 65_536, ...(vchannels && { vchannels }) })) {
          for (const record of frame) session.ledger.noteRead(identified(record))
        }
      } catch (error) {
        demandTold(error)
        counts.toldByRead++
      }
    }
    heal()
    const found = await session.ledger.check(session.log)
    await checkLookups(session.log, found, random, 3)
    await session.close()
    counts.harmless++
  }
}

function engineErrorOnly(error: unknown): void {
  demand(error instanceof TidelogError, () => `not an error of the engine: ${error}`)
}

function demandTold(error: unknown): void {
  if (!(error instanceof TidelogError)) throw error
  demand(told.includes(error.code), () => `told with ${error.code}: ${error.message}`)
  const { file, lsnFrom, lsn } = error
  demand(file !== undefined || lsnFrom !== undefined || lsn !== undefined, () => `told without a place: ${error}`)
}

/** Segments, indexes and the newest manifest. */
function filesOf(disk: SimDisk): string[] {
  const names = disk.paths().map((path) => path.slice(logDirectory.length + 1))
  const manifest = names
    .filter((name) => /^MANIFEST-\d{20}$/.test(name))
    .sort()
    .at(-1)
  return names
    .filter((name) => /^[^/]*\.(seg|idx)$/.test(name) || name === manifest)
    .map((name) => `${logDirectory}/${name}`)
}

function snapshotOf(disk: SimDisk): Map<string, Uint8Array> {
  return new Map(filesOf(disk).map((path) => [path, disk.contents(path)]))
}

/** Names, relative to the log, of the files that are not what they were. */
function changesOf(before: Map<string, Uint8Array>, after: Map<string, Uint8Array>): string[] {
  const changed: string[] = []
  for (const [path, bytes] of before) {
    const now = after.get(path)
    if (now === undefined || Buffer.compare(bytes, now) !== 0) changed.push(path.slice(logDirectory.length + 1))
  }
  return changed
}

/** Every byte that is another one is zero now. */
function becameZero(before: Map<string, Uint8Array>, after: Map<string, Uint8Array>, path: string): boolean {
  const now = after.get(path)
  return now !== undefined && before.get(path)!.every((byte, at) => now[at] === byte || now[at] === 0)
}

function baseLsnOf(path: string): number {
  return Number(path.slice(logDirectory.length + 1, logDirectory.length + 21))
}
