/**
 * Buffers of flushes, used again: fresh memory costs a page fault for each 4 KiB and work of the garbage collector, which
 * together were a third of what a batch of 1 MiB costs the main thread. A buffer comes back when the cache has let it
 * go and no reader has ever been given a part of it; every other one is left to the garbage collector.
 */
import { assert } from '../errors.ts'

/** Smaller ones come from the allocator's own lists. */
const REUSED_BYTES_MIN = 64 * 1024
/** Larger ones are rare, and would keep too much. */
const REUSED_BYTES_MAX = 4 * 1024 * 1024
/** Bound of what lies unused. */
const UNUSED_BYTES_MAX = 16 * 1024 * 1024

export class FlushBuffers {
  readonly #unused = new Map<number, ArrayBufferLike[]>()
  #unusedBytes = 0
  /** What was taken and may come back: nothing else is accepted. */
  readonly #lent = new WeakSet<ArrayBufferLike>()

  get unusedBytes(): number {
    return this.#unusedBytes
  }

  /** `bytes` long; what stands in it does not matter to whoever takes it. */
  take(bytes: number): Buffer {
    if (bytes < REUSED_BYTES_MIN || bytes > REUSED_BYTES_MAX) return Buffer.allocUnsafeSlow(bytes)
    const size = sizeClass(bytes)
    const unused = this.#unused.get(size)?.pop()
    if (unused !== undefined) {
      this.#unusedBytes -= size
      this.#lent.add(unused)
      return Buffer.from(unused as ArrayBuffer, 0, bytes)
    }
    const fresh = Buffer.allocUnsafeSlow(size)
    this.#lent.add(fresh.buffer)
    return fresh.subarray(0, bytes)
  }

  /** Nobody looks at it any more. One that is not from here, or came back already, is left alone. */
  give(buffer: ArrayBufferLike): void {
    if (!this.#lent.delete(buffer)) return
    const size = buffer.byteLength
    assert(size === sizeClass(size), 'a buffer from here has the size of its class')
    if (this.#unusedBytes + size > UNUSED_BYTES_MAX) return
    const unused = this.#unused.get(size)
    if (unused === undefined) this.#unused.set(size, [buffer])
    else unused.push(buffer)
    this.#unusedBytes += size
  }
}

/** Four classes for each doubling: at most a quarter of a buffer is unused. */
function sizeClass(bytes: number): number {
  const power = 2 ** Math.floor(Math.log2(bytes))
  const step = power / 4
  return Math.ceil(bytes / step) * step
}
