/** The lease of what was salvaged: no tick, and at durability `os` no LSN, that was given before is given again. */
import type { Environment } from '../environment.ts'
import { loadChecksum } from '../format/checksum.ts'
import { encodeLeaseSlot, LEASE_BYTES, leaseSlotPosition } from '../format/lease.ts'
import { LEASE_FILE } from '../log/lease-file.ts'
import { knownLease } from './salvage-evidence.ts'

/** Writes a lease where there is none. */
export async function writeLease(
  environment: Environment,
  directory: string,
  tickBound: bigint,
  lsnBound: number,
): Promise<void> {
  const bytes = Buffer.alloc(LEASE_BYTES)
  // Of no machine: at durability `os` the next owner begins above the LSN bound.
  const slot = { tickBound, lsnBound, bootId: new Uint8Array(16) }
  for (const sequence of [1, 2]) encodeLeaseSlot({ ...slot, sequence }).copy(bytes, leaseSlotPosition(sequence))
  const file = await environment.disk.create(`${directory}/${LEASE_FILE}`, 'none')
  try {
    await file.write(bytes, 0)
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * The lease of a data directory, in `out`: above the bound of the one in `directory`, if that is valid, and above
 * `lastTimeTick`. Returns whether it was. Throws what the disk throws.
 */
export async function salvageLease(
  environment: Environment,
  directory: string,
  out: string,
  lastTimeTick: bigint,
): Promise<boolean> {
  await loadChecksum()
  const known = await knownLease(environment, directory)
  const above = lastTimeTick + 1n
  const tickBound = known !== null && known.tickBound > above ? known.tickBound : above
  await writeLease(environment, out, tickBound, 0)
  await environment.disk.syncDirectory(out)
  return known !== null
}
