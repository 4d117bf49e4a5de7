/** The bound on the frames of open transactions that a reader keeps in memory. */
import type { HeldFrame } from './held-frame.ts'

export interface FrameHolder {
  /** Null: it keeps none, and never will again. */
  frames: HeldFrame[] | null
  heldBytes: number
}

export class FrameMemory {
  readonly #bytesMax: number
  readonly #holders = new Set<FrameHolder>()
  #bytes = 0
  #peak = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Held now, and held at most. */
  get statistics(): { heldBytes: number; heldBytesMax: number } {
    return { heldBytes: this.#bytes, heldBytesMax: this.#peak }
  }

  /** Null: there was no use in keeping it. */
  add(holder: FrameHolder, frame: HeldFrame | null): void {
    if (holder.frames === null) return
    if (frame === null || frame.heldBytes > this.#bytesMax) {
      this.release(holder)
      return
    }
    if (this.#bytes + frame.heldBytes > this.#bytesMax) this.#makeRoom(frame.heldBytes, holder)
    if (holder.frames === null) return
    holder.frames.push(frame)
    holder.heldBytes += frame.heldBytes
    this.#holders.add(holder)
    this.#bytes += frame.heldBytes
    this.#peak = Math.max(this.#peak, this.#bytes)
  }

  /** Its frames go, and it keeps none any more. */
  release(holder: FrameHolder): void {
    this.#bytes -= holder.heldBytes
    holder.heldBytes = 0
    holder.frames = null
    this.#holders.delete(holder)
  }

  /** The largest go first; so many that there is room for a while, or each body would sort them anew. */
  #makeRoom(bytes: number, newest: FrameHolder): void {
    const all = [...this.#holders]
    if (!this.#holders.has(newest)) all.push(newest)
    const sizeOf = (holder: FrameHolder) => holder.heldBytes + (holder === newest ? bytes : 0)
    all.sort((a, b) => sizeOf(b) - sizeOf(a))
    const most = Math.min(this.#bytesMax - bytes, Math.floor((this.#bytesMax * 3) / 4))
    for (const holder of all) {
      if (this.#bytes <= most) return
      this.release(holder)
    }
  }
}
