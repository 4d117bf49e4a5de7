/**
 * What leaves by a socket: small pieces that come in one turn of the event loop leave in one write, and what waits is
 * bounded by those who ask for room first. A peer that does not read in time is reported once.
 */
import type { Socket } from 'node:net'
import type { ConnectionClock } from './clock.ts'
import { slowAllowanceMs, WRITE_STALL_TIMEOUT_MS } from './limits.ts'

/** Pieces below it are copied together; larger ones are written as they are. */
const COPY_BELOW_BYTES = 8 * 1024
const SLAB_BYTES = 64 * 1024

export interface OutboxOptions {
  clock: ConnectionClock
  /** `room` settles below it. */
  highWaterBytes: number
  stallTimeoutMs?: number | undefined
  /** The peer has not read what waits: the connection is to be ended. */
  onStalled: () => void
  onSent?: ((bytes: number) => void) | undefined
}

export class Outbox {
  readonly #socket: Socket
  readonly #options: OutboxOptions
  #pieces: Buffer[] = []
  #queuedBytes = 0
  /** Given to the socket and not yet taken by the kernel. */
  #writingBytes = 0
  #scheduled = false
  #closed = false
  #waiters: (() => void)[] = []
  #stallTimer: { cancel(): void } | null = null
  readonly #flush = () => this.#write()

  constructor(socket: Socket, options: OutboxOptions) {
    this.#socket = socket
    this.#options = options
  }

  /** Bytes that wait in this process. */
  get bufferedBytes(): number {
    return this.#queuedBytes + this.#writingBytes
  }

  get hasRoom(): boolean {
    return this.bufferedBytes < this.#options.highWaterBytes
  }

  /** The bytes must not change afterwards. Nothing is sent once it is closed. */
  send(piece: Buffer): void {
    if (this.#closed || piece.length === 0) return
    this.#pieces.push(piece)
    this.#queuedBytes += piece.length
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(this.#flush)
  }

  /** Settles when less than `highWaterBytes` wait, or when it is closed. */
  room(): Promise<void> {
    if (this.hasRoom || this.#closed) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  /** Writes what waits and ends this direction. */
  end(): void {
    if (this.#closed) return
    this.#write()
    this.#closed = true
    this.#socket.end()
    this.#wake()
  }

  /** Drops what waits. */
  close(): void {
    this.#closed = true
    this.#pieces = []
    this.#queuedBytes = 0
    this.#stallTimer?.cancel()
    this.#stallTimer = null
    this.#wake()
  }

  #write(): void {
    this.#scheduled = false
    if (this.#closed || this.#pieces.length === 0) return
    const pieces = this.#pieces
    const bytes = this.#queuedBytes
    this.#pieces = []
    this.#queuedBytes = 0
    this.#writingBytes += bytes
    const joined = pieces.length === 1 ? pieces : joinSmall(pieces)
    const written = () => this.#written(bytes)
    if (joined.length === 1) {
      this.#socket.write(joined[0]!, written)
    } else {
      this.#socket.cork()
      for (let index = 0; index < joined.length - 1; index++) this.#socket.write(joined[index]!)
      this.#socket.write(joined[joined.length - 1]!, written)
      this.#socket.uncork()
    }
    this.#options.onSent?.(bytes)
    if (this.#writingBytes > 0 && this.#stallTimer === null) this.#watch()
  }

  #written(bytes: number): void {
    this.#writingBytes -= bytes
    this.#stallTimer?.cancel()
    this.#stallTimer = null
    if (this.#closed) return
    if (this.#writingBytes > 0) this.#watch()
    if (this.hasRoom) this.#wake()
  }

  #watch(): void {
    const { clock, stallTimeoutMs = WRITE_STALL_TIMEOUT_MS, onStalled } = this.#options
    this.#stallTimer = clock.after(stallTimeoutMs + slowAllowanceMs(this.#writingBytes), () => {
      this.#stallTimer = null
      if (!this.#closed) onStalled()
    })
  }

  #wake(): void {
    const waiters = this.#waiters
    if (waiters.length === 0) return
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}

/** Runs of small pieces become one piece each. */
function joinSmall(pieces: readonly Buffer[]): Buffer[] {
  const joined: Buffer[] = []
  let run: Buffer[] = []
  let runBytes = 0
  const endRun = () => {
    if (run.length > 0) joined.push(run.length === 1 ? run[0]! : Buffer.concat(run, runBytes))
    run = []
    runBytes = 0
  }
  for (const piece of pieces) {
    if (piece.length >= COPY_BELOW_BYTES) {
      endRun()
      joined.push(piece)
      continue
    }
    if (runBytes + piece.length > SLAB_BYTES) endRun()
    run.push(piece)
    runBytes += piece.length
  }
  endRun()
  return joined
}
