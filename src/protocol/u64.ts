/** Little-endian u64 fields of binary metas: LSNs and sizes as numbers below 2^53, ticks and hashes as bigints. */
import { violation } from './violation.ts'

const TWO_32 = 4_294_967_296
const scratch = new DataView(new ArrayBuffer(8))

/** `value` is an integer from 0 to 2^53 - 1. */
export function writeU64(target: Buffer, offset: number, value: number): void {
  target.writeUInt32LE(value >>> 0, offset)
  target.writeUInt32LE(Math.floor(value / TWO_32), offset + 4)
}

/** Throws PROTOCOL_VIOLATION for a value of 2^53 or more. */
export function readU64(source: Buffer, offset: number): number {
  const high = source.readUInt32LE(offset + 4)
  if (high > 0x1f_ffff) throw violation(`the number at offset ${offset} is not below 2^53`)
  return high * TWO_32 + source.readUInt32LE(offset)
}

/** Through a scratch: `Buffer.writeBigUInt64LE` shifts the bigint once a byte. */
export function writeBigU64(target: Buffer, offset: number, value: bigint): void {
  scratch.setBigUint64(0, value, true)
  target.writeUInt32LE(scratch.getUint32(0, true), offset)
  target.writeUInt32LE(scratch.getUint32(4, true), offset + 4)
}

export function readBigU64(source: Buffer, offset: number): bigint {
  scratch.setUint32(0, source.readUInt32LE(offset), true)
  scratch.setUint32(4, source.readUInt32LE(offset + 4), true)
  return scratch.getBigUint64(0, true)
}

export function paddedTo8(length: number): number {
  return Math.ceil(length / 8) * 8
}
