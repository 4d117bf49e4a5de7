/**
 * The lease: two slots of 512 bytes, at 0 and 512, written in turn (FORMAT 7).
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | hash of bytes 8 to 511 |
 * | 8 | 8 | magic, ASCII `TIDELEA1` |
 * | 16 | 8 | sequence |
 * | 24 | 8 | tick bound |
 * | 32 | 8 | LSN bound |
 * | 40 | 16 | boot id, 0: not known |
 * | 56 | 456 | reserved |
 */
import { hash64 } from './checksum.ts'
import { readBootId, writeBootId } from './file-names.ts'
import { readBigU64, readU64OrNegative, writeBigU64, writeU64 } from './integers.ts'

export const LEASE_SLOT_BYTES = 512
export const LEASE_BYTES = 2 * LEASE_SLOT_BYTES

const MAGIC = 'TIDELEA1'

const CHECKSUM = 0
const MAGIC_AT = 8
const SEQUENCE = 16
const TICK_BOUND = 24
const LSN_BOUND = 32
const BOOT_ID = 40

export interface LeaseSlot {
  sequence: number
  /** No tick at or above it was given or published. */
  tickBound: bigint
  /** At durability `os`, no LSN at or above it was given; else 0. */
  lsnBound: number
  /** 16 bytes; all zero: not known. */
  bootId: Uint8Array
}

/** Where the slot of a sequence stands: the odd ones at 0, the even ones at 512. */
export function leaseSlotPosition(sequence: number): number {
  return ((sequence + 1) % 2) * LEASE_SLOT_BYTES
}

export function encodeLeaseSlot(lease: LeaseSlot): Buffer {
  const bytes = Buffer.alloc(LEASE_SLOT_BYTES)
  bytes.write(MAGIC, MAGIC_AT, 'latin1')
  writeU64(bytes, SEQUENCE, lease.sequence)
  writeBigU64(bytes, TICK_BOUND, lease.tickBound)
  writeU64(bytes, LSN_BOUND, lease.lsnBound)
  writeBootId(bytes, BOOT_ID, lease.bootId)
  writeBigU64(bytes, CHECKSUM, hash64(bytes.subarray(MAGIC_AT)))
  return bytes
}

/** Null: the slot is not valid (torn, never written). */
export function decodeLeaseSlot(bytes: Buffer): LeaseSlot | null {
  if (bytes.length < LEASE_SLOT_BYTES) return null
  if (bytes.toString('latin1', MAGIC_AT, MAGIC_AT + 8) !== MAGIC) return null
  if (hash64(bytes.subarray(MAGIC_AT, LEASE_SLOT_BYTES)) !== readBigU64(bytes, CHECKSUM)) return null
  const sequence = readU64OrNegative(bytes, SEQUENCE)
  const lsnBound = readU64OrNegative(bytes, LSN_BOUND)
  if (sequence < 0 || lsnBound < 0) return null
  return { sequence, tickBound: readBigU64(bytes, TICK_BOUND), lsnBound, bootId: readBootId(bytes, BOOT_ID) }
}

/** The lease of a file: of its valid slots the one with the higher sequence; null when it has none. */
export function decodeLease(file: Buffer): LeaseSlot | null {
  const first = decodeLeaseSlot(file.subarray(0, LEASE_SLOT_BYTES))
  const second = decodeLeaseSlot(file.subarray(LEASE_SLOT_BYTES, LEASE_BYTES))
  if (first === null || second === null) return first ?? second
  return first.sequence > second.sequence ? first : second
}
