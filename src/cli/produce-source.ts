/** Where `produce` reads from: standard input or a file, closed from outside when nothing more is wanted of it. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { TidelogError } from '../errors.ts'
import type { CommandContext } from './command-context.ts'

/** A file is read in pieces of this size. */
const chunkBytes = 256 * 1024

export class ProduceSource implements AsyncIterable<Uint8Array> {
  readonly #stream: Readable
  readonly name: string
  /** A terminal: somebody types, so nothing is read to its end for its own sake. */
  readonly isTerminal: boolean
  /** Undefined for a pipe. */
  readonly totalBytes: number | undefined
  readBytes = 0
  #closed = false
  #timer: NodeJS.Timeout | undefined

  constructor(stream: Readable, name: string, isTerminal: boolean, totalBytes: number | undefined) {
    this.#stream = stream
    this.name = name
    this.isTerminal = isTerminal
    this.totalBytes = totalBytes
  }

  /** Throws IO_FAILED when the file cannot be read. */
  static async open(file: string | undefined, context: CommandContext): Promise<ProduceSource> {
    if (file === undefined) {
      const { stdin } = context
      return new ProduceSource(stdin as Readable, 'standard input', stdin.isTTY === true, undefined)
    }
    try {
      const { size } = await stat(file)
      const stream = createReadStream(file, { highWaterMark: chunkBytes })
      await new Promise<void>((resolve, reject) => {
        stream.once('ready', resolve)
        stream.once('error', reject)
      })
      return new ProduceSource(stream, file, false, size > 0 ? size : undefined)
    } catch (cause) {
      throw unreadable(file, cause)
    }
  }

  /** Ends quietly when it is closed from outside. Throws IO_FAILED when the system refuses to read. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of this.#stream) {
        this.readBytes += (chunk as Uint8Array).length
        yield chunk as Uint8Array
        if (this.#closed) return
      }
    } catch (cause) {
      if (!this.#closed) throw unreadable(this.name, cause)
    }
  }

  /** Nothing more is wanted: the iteration ends. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#stream.destroy()
  }

  /** Closes it in `delayMs` if it has not ended by then; the first call counts. */
  closeAfter(delayMs: number): void {
    this.#timer ??= setTimeout(() => this.close(), delayMs)
  }

  get wasCut(): boolean {
    return this.#closed && !this.#stream.readableEnded
  }
}

function unreadable(name: string, cause: unknown): TidelogError<'IO_FAILED'> {
  const { code, message } = cause as NodeJS.ErrnoException
  const reason = code === 'ENOENT' ? 'there is no such file' : message
  return new TidelogError('IO_FAILED', `${name} cannot be read: ${reason}`, { cause, outcome: 'not-written' })
}
