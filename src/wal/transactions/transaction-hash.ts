/** The hash by which a commit says which records its transaction has: their LSNs, folded in order. */
import { hash64 } from '../../../native-free-storage/index.ts'

const TWO_32 = 4_294_967_296
const bytes = Buffer.alloc(16)
const view = new DataView(bytes.buffer, bytes.byteOffset, 16)

/** XXH64 of the hash so far and the LSN, each as a little-endian u64. It begins with the id of the transaction. */
export function foldLsn(hash: bigint, lsn: number): bigint {
  view.setBigUint64(0, hash, true)
  bytes.writeUInt32LE(lsn >>> 0, 8)
  bytes.writeUInt32LE(Math.floor(lsn / TWO_32), 12)
  return hash64(bytes)
}
