/**
 * XXH64, the only hash of format version 1.
 *
 * The library copies its input into WebAssembly memory, which grows to the largest input and never shrinks. So inputs
 * above `DIRECT_BYTES_MAX` go through the streaming state in slices: the result is the same, the memory stays at
 * about 1 MiB.
 */
import xxhash, { type XXHashAPI } from 'xxhash-wasm'

const DIRECT_BYTES_MAX = 1024 * 1024
const SLICE_BYTES = 256 * 1024

let api: XXHashAPI | undefined
let loading: Promise<void> | undefined

/** Must have settled before any codec that hashes is called. May be called any number of times. */
export function loadChecksum(): Promise<void> {
  loading ??= xxhash().then((loaded) => {
    api = loaded
  })
  return loading
}

export function hash64(bytes: Uint8Array, seed: bigint = 0n): bigint {
  if (api === undefined) throw new Error('invariant broken: hash64 is called before loadChecksum has settled')
  if (bytes.length <= DIRECT_BYTES_MAX) return api.h64Raw(bytes, seed)
  const state = api.create64(seed)
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) state.update(bytes.subarray(at, at + SLICE_BYTES))
  return state.digest()
}
