/**
 * Whether somebody still reads the pipe that a descriptor writes to, without writing to it: what `tail -f` asks with
 * poll(2), which Node has not. Linux only, through /proc: the processes that have the pipe open for reading are looked
 * for once, and afterwards only the one that was found is looked at.
 */
import { fstatSync } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'

/** `unknown`: it cannot be told, because the reader belongs to somebody else. */
export type PipeReaderState = 'reading' | 'gone' | 'unknown'

const accessModeMask = 0o3
const readOnly = 0

export class PipeReader {
  readonly #inode: number
  #reader: string | undefined

  /** Null where there is nothing to watch: not a pipe, or not Linux. */
  static of(descriptor: number): PipeReader | null {
    if (process.platform !== 'linux') return null
    try {
      const stat = fstatSync(descriptor)
      return stat.isFIFO() ? new PipeReader(stat.ino) : null
    } catch {
      return null
    }
  }

  constructor(inode: number) {
    this.#inode = inode
  }

  async state(): Promise<PipeReaderState> {
    const before = this.#reader
    if (before !== undefined) {
      const has = await this.#hasOpen(before)
      if (has === 'unknown') return 'unknown'
      if (has === 'reading') return 'reading'
    }
    for (const name of await processesNearest()) {
      if ((await this.#hasOpen(name)) !== 'reading') continue
      this.#reader = name
      return 'reading'
    }
    // One that could never be seen says nothing; one that was seen and is not any more has gone.
    return before === undefined ? 'unknown' : 'gone'
  }

  async #hasOpen(pid: string): Promise<PipeReaderState> {
    const link = `pipe:[${this.#inode}]`
    let descriptors: string[]
    try {
      descriptors = await readdir(`/proc/${pid}/fd`)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return code === 'EACCES' || code === 'EPERM' ? 'unknown' : 'gone'
    }
    for (const descriptor of descriptors) {
      try {
        if ((await readlink(`/proc/${pid}/fd/${descriptor}`)) !== link) continue
        const flags = /^flags:\s*([0-7]+)/m.exec(await readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8'))?.[1]
        const mode = Number.parseInt(flags ?? '0', 8) & accessModeMask
        if (mode === readOnly) return 'reading'
      } catch {
        // It was closed meanwhile.
      }
    }
    return 'gone'
  }
}

/** Those whose numbers are nearest to ours first: a shell starts the processes of a pipeline one after the other. */
async function processesNearest(): Promise<string[]> {
  const names = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))
  return names.sort((a, b) => Math.abs(Number(a) - process.pid) - Math.abs(Number(b) - process.pid))
}
