/**
 * The content of a simulated file: sectors that are never changed in place, so that a state of a disk costs references
 * and no copies of bytes. `null` is a sector of zeros.
 */

export const sectorBytes = 512

export type Sector = Uint8Array | null

const zeros = Buffer.alloc(1024 * 1024)
const zeroSector = new Uint8Array(sectorBytes)

export function sectorsFor(bytes: number): number {
  return Math.ceil(bytes / sectorBytes)
}

export function bytesOf(sector: Sector): Uint8Array {
  return sector ?? zeroSector
}

/** Copies what stands from `position` on; the sectors behind the last one are zeros. */
export function readSectors(sectors: readonly Sector[], target: Uint8Array, position: number): void {
  let done = 0
  while (done < target.length) {
    const at = position + done
    const inside = at % sectorBytes
    const length = Math.min(sectorBytes - inside, target.length - done)
    const sector = sectors[(at - inside) / sectorBytes]
    if (sector == null) target.fill(0, done, done + length)
    else if (length === sectorBytes) target.set(sector, done)
    else target.set(sector.subarray(inside, inside + length), done)
    done += length
  }
}

/** The sectors that `bytes` at `position` touch, with what stood around them in `before`. */
export function sectorsOf(bytes: Uint8Array, position: number, before: readonly Sector[]): Sector[] {
  const first = Math.floor(position / sectorBytes)
  const count = sectorsFor(position + bytes.length) - first
  const inside = position - first * sectorBytes
  const isWhole = inside === 0 && bytes.length === count * sectorBytes
  if (isWhole && isZero(bytes)) return new Array<Sector>(count).fill(null)
  const copy = new Uint8Array(count * sectorBytes)
  if (!isWhole) {
    copy.set(bytesOf(before[first] ?? null), 0)
    const last = count - 1
    if (last > 0) copy.set(bytesOf(before[first + last] ?? null), last * sectorBytes)
  }
  copy.set(bytes, inside)
  const sectors: Sector[] = []
  for (let at = 0; at < copy.length; at += sectorBytes) {
    const sector = copy.subarray(at, at + sectorBytes)
    sectors.push(isZeroSector(sector) ? null : sector)
  }
  return sectors
}

/** A sector with zeros from `length` on. */
export function cutSector(sector: Sector, length: number): Sector {
  if (sector === null || length === 0) return null
  const cut = new Uint8Array(sectorBytes)
  cut.set(sector.subarray(0, length))
  return isZeroSector(cut) ? null : cut
}

function isZeroSector(sector: Uint8Array): boolean {
  for (let i = 0; i < sectorBytes; i++) if (sector[i] !== 0) return false
  return true
}

function isZero(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0 || bytes.length > zeros.length) return false
  return zeros.compare(bytes, 0, bytes.length, 0, bytes.length) === 0
}
