/**
 * Standard output: data only, with back-pressure. What is written in one turn leaves in one write. A reader that went
 * away (EPIPE, as with `| head -1`) is not an error: `gone` tells the command to stop quietly.
 */
import type { Writable } from 'node:stream'
import { TidelogError } from '../errors.ts'
import { PipeReader } from './pipe-reader.ts'

/** Bytes that gather before a writer has to wait. */
const gatherBytes = 64 * 1024

/** How often an idle follower looks whether the reader of its pipe is still there. */
const readerCheckMs = 500

export class Output {
  readonly #stream: Writable
  readonly #gone = new AbortController()
  #pieces: (string | Uint8Array)[] = []
  #gatheredBytes = 0
  #immediate: NodeJS.Immediate | undefined
  #flushing: Promise<void> | undefined
  #error: Error | undefined

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') this.#error ??= error
      this.#gone.abort()
    })
  }

  /** Aborted as soon as nobody reads any more: further writes are dropped. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  /**
   * Takes the piece. A promise means: wait for it before the next write, the output is behind. Throws IO_FAILED when
   * the output cannot be written (a full disk behind a redirection), never for a reader that went away.
   */
  write(piece: string | Uint8Array): Promise<void> | undefined {
    this.#check()
    if (this.#gone.signal.aborted) return undefined
    this.#pieces.push(piece)
    this.#gatheredBytes += piece.length
    if (this.#gatheredBytes >= gatherBytes) return this.flush()
    this.#immediate ??= setImmediate(() => {
      void this.flush().catch(() => {})
    })
    return undefined
  }

  /** Settles when everything written so far has been taken by the system. */
  async flush(): Promise<void> {
    this.#flushing ??= this.#drain().finally(() => {
      this.#flushing = undefined
    })
    await this.#flushing
    this.#check()
  }

  async #drain(): Promise<void> {
    while (this.#pieces.length > 0 && !this.#gone.signal.aborted) {
      const pieces = this.#pieces
      this.#pieces = []
      this.#gatheredBytes = 0
      if (this.#immediate) clearImmediate(this.#immediate)
      this.#immediate = undefined
      const chunk = Buffer.concat(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece)))
      // The callback also comes when the write failed; the error event has said why.
      await new Promise<void>((resolve) => this.#stream.write(chunk, () => resolve()))
    }
  }

  #check(): void {
    if (!this.#error) return
    throw new TidelogError('IO_FAILED', `standard output cannot be written: ${this.#error.message}`, {
      cause: this.#error,
    })
  }

  /**
   * For a command that may print nothing for long: notices that the reader of the pipe went away although nothing is
   * written. Where that cannot be told, the next write tells. Await it before anything is written: that the reader has
   * gone is only known once it was seen. Gives what ends the watch.
   */
  async watchReader(descriptor = 1): Promise<() => void> {
    const reader = PipeReader.of(descriptor)
    if (reader === null) return () => {}
    let ended = false
    let timer: NodeJS.Timeout | undefined
    const check = async () => {
      const state = await reader.state().catch(() => 'unknown' as const)
      if (state === 'gone') this.#gone.abort()
      if (state === 'reading' && !ended) timer = setTimeout(check, readerCheckMs).unref()
    }
    await check()
    return () => {
      ended = true
      clearTimeout(timer)
    }
  }
}
