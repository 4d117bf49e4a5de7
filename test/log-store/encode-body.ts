import { loadChecksum, openBodyHead, planBody, type RecordInput, writeBody } from '../../native-free-storage/index.ts'
import type { EncodedBody } from '../../src/log-store/log-store.ts'

/** A body as a producer encodes it and a node has checked it. */
export async function encodeBody(
  records: readonly RecordInput[],
  contexts: readonly Uint8Array[] = [],
): Promise<EncodedBody> {
  await loadChecksum()
  const plan = planBody(records, undefined, contexts)
  const bytes = Buffer.alloc(plan.bodyBytes)
  const hash = writeBody(plan, bytes, 0)
  return { bytes, hash, head: openBodyHead(bytes, bytes.length, plan.recordCount, hash) }
}

/** A body of `count` records on one vchannel whose payloads are `prefix-0`, `prefix-1`, ... */
export function numberedBody(vchannel: string, prefix: string, count: number): Promise<EncodedBody> {
  return encodeBody(
    Array.from({ length: count }, (_, index) => ({ vchannel, payload: Buffer.from(`${prefix}-${index}`) })),
  )
}
