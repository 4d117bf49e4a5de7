/** Damage to bytes that are provably durable: it is told, with the place, and nothing wrong is ever delivered. */
import type { Environment } from '../../native-free-storage/environment.ts'
import { TidelogError } from '../../native-free-storage/index.ts'
import { newDisk } from './crash-runner.ts'
import { demand } from './log-ledger.ts'
import { logDirectory, Session, ways } from './log-session.ts'
import { Random } from './random.ts'
import type { SimDisk } from './sim-disk.ts'

const MAGIC = Buffer.from('TFRM')
const told: readonly string[] = ['LOG_DAMAGED', 'FRAME_DAMAGED', 'SEGMENT_MISSING']

/** Where frames begin, by their magic, and the total length that each has. */
function framesOf(bytes: Buffer): { position: number; length: number }[] {
  const frames: { position: number; length: number }[] = []
  for (let position = 4096; position + 96 <= bytes.length; position += 512) {
    if (!bytes.subarray(position + 8, position + 12).equals(MAGIC)) continue
    frames.push({ position, length: bytes.readUInt32LE(position + 16) })
  }
  return frames
}

/** State `index`: a bit of a frame's header in turn, then a byte of its body, a sector, the whole frame, two exchanged. */
function damage(disk: SimDisk, path: string, index: number, random: Random): string {
  const bytes = Buffer.from(disk.contents(path))
  const frames = framesOf(bytes)
  // Of the last frame nothing says that it was durable.
  const { position, length } = random.pick(frames.slice(0, -1))
  const spoiled = Buffer.from(bytes.subarray(position, position + length))
  const way = index % 8
  if (way < 4) {
    const byte = way === 0 ? 16 + random.below(4) : random.below(96)
    spoiled[byte]! ^= 1 << random.below(8)
    disk.poke(path, position, spoiled)
    return `a bit of byte ${byte} of the frame at ${position}`
  }
  if (way === 4) {
    const byte = 96 + random.below(100)
    spoiled[byte]! ^= 1 << random.below(8)
    disk.poke(path, position, spoiled)
    return `a bit of byte ${byte} of the frame at ${position}`
  }
  if (way === 5) {
    const sector = position / 512 + random.below(length / 512)
    disk.zeroSector(path, sector)
    return `sector ${sector}`
  }
  const other = frames.slice(0, -1).find((frame) => frame.length === length && frame.position !== position)
  if (way === 6 || other === undefined) {
    disk.poke(path, position, Buffer.alloc(length, way === 6 ? 0 : 0xa5))
    return `all of the frame at ${position}`
  }
  disk.poke(path, position, bytes.subarray(other.position, other.position + length))
  disk.poke(path, other.position, spoiled)
  return `the frames at ${position} and ${other.position}, exchanged`
}

/** Throws when damage is healed in silence, or told without its place. */
export async function damageDurable(
  _what: unknown,
  index: number,
  seed: string,
  wrap: (environment: Environment) => Environment,
): Promise<void> {
  const random = new Random(seed)
  const disk = newDisk({ names: 'strict', seed })
  const way = ways[index % 3]!
  const session = new Session(disk, way, seed)
  session.wrap = wrap
  await session.open()
  const large = index % 2 === 0
  // Each is acknowledged before the next one is built, so that each proves all before it.
  for (let i = 0; i < 8; i++) await session.submit(large ? 12_000 : 400)
  session.dies()
  const segments = session.disk.paths().filter((path) => path.startsWith(logDirectory) && path.endsWith('.seg'))
  const path = segments.filter((name) => framesOf(Buffer.from(disk.contents(name))).length > 2).sort()[0]!
  const before = Buffer.from(session.disk.contents(path))
  const what = damage(session.disk, path, index, random)
  // A bit of the padding, which nothing covers and nothing reads, or two equal frames.
  const changed = !before.equals(Buffer.from(session.disk.contents(path)))
  const { ledger } = session
  try {
    const log = await session.open()
    await ledger.check(log)
  } catch (error) {
    if (!(error instanceof TidelogError) || !told.includes(error.code)) {
      const words = error instanceof Error ? error.message : String(error)
      throw new Error(`${what} damaged, ${way.mode} depth ${way.depth}: ${words}`, { cause: error })
    }
    demand(error.file !== undefined && error.lsnFrom !== undefined, () => `${what}: told without its place: ${error}`)
    demand(changed, () => `${what} is as it was, and told as damage: ${error}`)
  } finally {
    disk.powerLoss()
  }
}
