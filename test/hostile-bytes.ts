/**
 * Bytes that nobody vouches for, for every decoder: sound bytes with a few fields changed, lengths inflated, parts
 * exchanged, cut off, lengthened, or spliced with other sound bytes, and noise. `mend` makes the hashes right again, so
 * that the rules behind them are reached.
 *
 * A decoder may refuse, with its own error, or accept. It may not fail otherwise, take long, or allocate for what the
 * bytes only claim to hold. A failure prints the bytes and what to type to see it again.
 */
import { Random } from './simulation/random.ts'

export interface HostileTarget {
  /** Sound inputs: the first is changed, the others are spliced into it. */
  sound: readonly Buffer[]
  mend?: (bytes: Buffer) => Buffer
  /** Throws an error of its own for what it refuses. Checks that what it accepts lies inside the bytes. */
  decode: (bytes: Buffer) => unknown
  /** Buffers that one call may allocate; default 64 KiB and four times the input. */
  bytesMax?: number
}

export interface Survived {
  inputs: number
  accepted: number
  longestMs: number
  mostBytes: number
}

/** No decoder of so few bytes may take longer, on however slow a machine. */
const DECODE_MS_MAX = 2_000
const extremes = [0, 1, 2, 7, 8, 15, 16, 255, 256, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff]

/** A copy with one to four changes. */
function mutated(sound: Buffer, others: readonly Buffer[], random: Random): Buffer {
  let copy: Buffer = Buffer.from(sound)
  for (let changes = random.between(1, 4); changes > 0 && copy.length > 8; changes--) {
    // The beginnings of things decide most.
    const reach = random.chance(0.5) ? Math.min(copy.length, 256) : copy.length
    const at = random.below(reach - 4)
    const extreme = random.pick(extremes)
    switch (random.below(10)) {
      case 0:
        copy[at]! ^= 1 << random.below(8)
        break
      case 1:
        copy.writeUInt32LE(extreme, at & ~3)
        break
      case 2:
        copy.writeUInt16LE(extreme & 0xffff, at & ~1)
        break
      case 3:
        copy[at] = random.below(256)
        break
      case 4: {
        // A length that is a little or a lot too large, or too small.
        const field = at & ~3
        const value = copy.readUInt32LE(field)
        const inflated = random.pick([value + 8, value * 2, value * 256, value - 8, value + 1])
        copy.writeUInt32LE(inflated >>> 0, field)
        break
      }
      case 5:
        copy.copyWithin(at, random.below(copy.length))
        break
      case 6:
        exchange(copy, random)
        break
      case 7:
        if (random.chance(0.3)) copy = copy.subarray(0, random.below(copy.length))
        break
      case 8:
        if (random.chance(0.3)) copy = Buffer.concat([copy, Buffer.from(random.bytes(random.between(1, 64)))])
        break
      default:
        if (others.length > 0) copy = spliced(copy, random.pick(others), random)
    }
  }
  return copy
}

/** Two parts of one length change places. */
function exchange(bytes: Buffer, random: Random): void {
  const length = Math.min(bytes.length >> 1, random.pick([4, 8, 16, 24, 32, 64]))
  const a = random.below(bytes.length - length + 1) & ~7
  const b = random.below(bytes.length - length + 1) & ~7
  const first = Buffer.from(bytes.subarray(a, a + length))
  bytes.copyWithin(a, b, b + length)
  first.copy(bytes, b)
}

/** The beginning of one and the end of the other, mostly at the same place of both. */
function spliced(bytes: Buffer, other: Buffer, random: Random): Buffer {
  const cut = random.below(Math.min(bytes.length, other.length) + 1) & ~7
  const from = random.chance(0.7) ? cut : random.below(other.length + 1)
  return Buffer.concat([bytes.subarray(0, cut), other.subarray(from)])
}

function noise(lengthMax: number, random: Random): Buffer {
  const bytes = Buffer.alloc(random.below(lengthMax + 16))
  const zeros = random.pick([0, 0.5, 0.75])
  for (let at = 0; at < bytes.length; at++) if (!random.chance(zeros)) bytes[at] = random.below(256)
  return bytes
}

/** Counts what is allocated through Buffer while `work` runs. */
async function allocatedBy(work: () => unknown): Promise<number> {
  let bytes = 0
  const names = ['alloc', 'allocUnsafe', 'allocUnsafeSlow'] as const
  const own = names.map((name) => Buffer[name])
  for (const [index, name] of names.entries()) {
    const original = own[index] as (size: number, ...rest: never[]) => Buffer
    Buffer[name] = ((size: number, ...rest: never[]) => {
      bytes += size
      return original.call(Buffer, size, ...rest)
    }) as never
  }
  try {
    const value = work()
    if (value instanceof Promise) await value
  } finally {
    for (const [index, name] of names.entries()) Buffer[name] = own[index] as never
  }
  return bytes
}

/** Feeds `runs` inputs to the decoder. `isOwn`: the error that it may throw. */
export async function survive(
  name: string,
  target: HostileTarget,
  isOwn: (error: unknown) => boolean,
  runs: number,
): Promise<Survived> {
  const { sound, mend, decode } = target
  const survived: Survived = { inputs: 0, accepted: 0, longestMs: 0, mostBytes: 0 }
  const feed = async (bytes: Buffer): Promise<void> => {
    const startedMs = performance.now()
    const allocated = await allocatedBy(async () => {
      try {
        const value = decode(bytes)
        if (value instanceof Promise) await value
        survived.accepted++
      } catch (error) {
        if (!isOwn(error)) throw failure(name, bytes, `it fails with ${error}`, error)
      }
    })
    const tookMs = performance.now() - startedMs
    survived.inputs++
    survived.longestMs = Math.max(survived.longestMs, tookMs)
    survived.mostBytes = Math.max(survived.mostBytes, allocated)
    if (tookMs > DECODE_MS_MAX) throw failure(name, bytes, `it takes ${Math.round(tookMs)} ms`)
    const bytesMax = target.bytesMax ?? 64 * 1024 + 4 * bytes.length
    if (allocated > bytesMax) throw failure(name, bytes, `it allocates ${allocated} bytes`)
  }
  const replayed = process.env.TIDELOG_HOSTILE_HEX
  if (replayed !== undefined) {
    await feed(Buffer.from(replayed, 'hex'))
    return survived
  }
  const random = new Random(`${process.env.TIDELOG_SEED ?? '1'}/${name}`)
  const [first, ...others] = sound as [Buffer, ...Buffer[]]
  await feed(mend === undefined ? first : mend(Buffer.from(first)))
  if (survived.accepted !== 1) throw failure(name, first, 'it refuses sound bytes')
  while (survived.inputs < runs) {
    const bytes = random.chance(0.1) ? noise(first.length, random) : mutated(first, others, random)
    // Every second one with its hashes made right.
    await feed(mend !== undefined && random.chance(0.5) ? mend(bytes) : bytes)
  }
  return survived
}

function failure(name: string, bytes: Buffer, what: string, cause?: unknown): Error {
  const hex = bytes.toString('hex')
  return new Error(`${name}: ${what}; again with TIDELOG_HOSTILE_HEX=${hex} and -t "${name}:"`, { cause })
}
