/** The lease: both slots are valid, one follows the other, and its bound lies above every tick that was given. */
import { isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { loadChecksum } from '../format/checksum.ts'
import { decodeLeaseSlot, LEASE_BYTES, LEASE_SLOT_BYTES, type LeaseSlot, leaseSlotPosition } from '../format/lease.ts'
import { type Finding, finding } from './findings.ts'
import { firstNonZero } from './segment-walk.ts'

const file = 'LEASE'
const SEQUENCE_AT = 16
const TICK_BOUND_AT = 24
const RESERVED_FROM = 56

/**
 * The lease in `directory`, of a log or of a data directory; nothing when there is none. `lastTick`: the last tick that
 * is known to have been given under it, 0: none. `required`: a missing one is a finding. Throws IO_FAILED.
 */
export async function verifyLease(
  environment: Environment,
  directory: string,
  lastTick = 0n,
  required = false,
): Promise<Finding[]> {
  await loadChecksum()
  // One byte more shows that the file is longer than it has to be.
  const bytes = Buffer.alloc(LEASE_BYTES + 1)
  let length: number
  try {
    const opened = await environment.disk.open(`${directory}/${file}`, 'read')
    try {
      length = await opened.read(bytes, 0, bytes.length, 0)
    } finally {
      await opened.close()
    }
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) {
      return required ? [finding('LEASE_DAMAGED', 'the lease is missing: ticks may be given again', { file })] : []
    }
    throw error
  }
  const findings: Finding[] = []
  const add = (position: number, message: string): void => {
    findings.push(finding('LEASE_DAMAGED', message, { file, position }))
  }
  const slots: LeaseSlot[] = []
  for (let at = 0; at < LEASE_BYTES; at += LEASE_SLOT_BYTES) {
    const slot = bytes.subarray(at, Math.min(length, at + LEASE_SLOT_BYTES))
    const decoded = decodeLeaseSlot(slot)
    const reserved = firstNonZero(slot, RESERVED_FROM, slot.length)
    if (decoded === null) add(at, `the slot at position ${at} of the lease is damaged`)
    else if (leaseSlotPosition(decoded.sequence) !== at) {
      add(at + SEQUENCE_AT, `the slot at position ${at} of the lease is that of the other place`)
    } else if (reserved !== null) add(at + reserved, 'unused bytes of the lease are not zero')
    else slots.push(decoded)
  }
  if (length > LEASE_BYTES) add(LEASE_BYTES, 'bytes stand behind the slots of the lease')
  const [odd, even] = slots
  if (odd === undefined || even === undefined) return findings
  const newest = odd.sequence > even.sequence ? odd : even
  if (Math.abs(odd.sequence - even.sequence) !== 1) {
    const older = newest === odd ? even : odd
    const at = leaseSlotPosition(older.sequence) + SEQUENCE_AT
    add(at, `a slot of the lease is of an earlier time: sequences ${odd.sequence} and ${even.sequence}`)
  } else if (lastTick !== 0n && lastTick >= newest.tickBound) {
    const at = leaseSlotPosition(newest.sequence) + TICK_BOUND_AT
    add(at, `the lease is older than the log: the tick ${lastTick} was given, and its bound is ${newest.tickBound}`)
  }
  return findings
}
