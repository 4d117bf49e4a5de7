/** Standard error: notes for people, progress on a terminal, colour where it is wanted. */
import type { WriteStream } from 'node:tty'

type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow'

const codes: Record<Style, number> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 }

/** What a terminal redraws at most this often. */
const progressIntervalMs = 100

type NoteStream = Pick<WriteStream, 'write' | 'on'> & { isTTY?: boolean; columns?: number }

export class Notes {
  readonly #stream: NoteStream
  readonly #colour: boolean
  #progress = ''
  #progressDue = 0

  constructor(stream: NoteStream, environment: NodeJS.ProcessEnv) {
    this.#stream = stream
    this.#colour = wantsColour(stream, environment)
    // Nobody reads the notes any more: no reason to fail.
    stream.on('error', () => {})
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true
  }

  /** One line. */
  line(text: string): void {
    this.clearProgress()
    this.#stream.write(`${text}\n`)
  }

  styled(style: Style, text: string): string {
    return this.#colour ? `\u001b[${codes[style]}m${text}\u001b[0m` : text
  }

  /** Redraws the line of progress, on a terminal only. `text` is called when it is time to draw. */
  progress(text: () => string): void {
    if (!this.isTerminal) return
    const now = performance.now()
    if (now < this.#progressDue) return
    this.#progressDue = now + progressIntervalMs
    this.#progress = text().slice(0, (this.#stream.columns ?? 80) - 1)
    this.#stream.write(`\r${this.#progress}\u001b[K`)
  }

  clearProgress(): void {
    if (this.#progress === '') return
    this.#progress = ''
    this.#progressDue = 0
    this.#stream.write('\r\u001b[K')
  }
}

/** Whether the stream gets colour: a terminal that can, and neither NO_COLOR nor TERM=dumb (no-color.org). */
export function wantsColour(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && !environment.NO_COLOR && environment.TERM !== 'dumb'
}

/** A bar of 20 cells with its percentage: `[#####     ] 25%`. */
export function progressBar(done: number, total: number): string {
  const share = total > 0 ? Math.min(1, done / total) : 1
  const cells = Math.round(share * 20)
  return `[${'#'.repeat(cells)}${' '.repeat(20 - cells)}] ${Math.floor(share * 100)}%`
}

/** `1234567` as `1.2 MB`; powers of 1,000. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(1)} ${units[unit]}`
}
