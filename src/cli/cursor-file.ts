/**
 * The place of `consume --state FILE`: where each vchannel goes on. The file is replaced as a whole (temporary file,
 * sync, rename, sync of the directory), and only after what it says was printed has been taken by the system: a death at
 * any moment repeats at most what was printed and not noted yet, and never leaves anything out.
 *
 *   {"version":1,"types":[2],"positions":{"orders":{"lsn":41,"skip":2}}}
 */
import { open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { RecordPosition } from '../client/types.ts'
import { TidelogError } from '../errors.ts'

const VERSION = 1
const BYTES_MAX = 16 * 1024 * 1024

export class CursorFile {
  readonly #path: string
  readonly #types: readonly number[] | null
  /** Settles when everything that was printed before has been taken by the system; false: it never will be. */
  readonly #printed: () => Promise<boolean>
  readonly #positions: Map<string, RecordPosition>
  #changed = false
  #saving: Promise<void> | null = null
  #failure: unknown

  private constructor(
    path: string,
    types: readonly number[] | undefined,
    positions: Map<string, RecordPosition>,
    printed: () => Promise<boolean>,
  ) {
    this.#path = path
    this.#types = sorted(types)
    this.#positions = positions
    this.#printed = printed
  }

  /** A file that is not there is a beginning. Throws IO_FAILED, INVALID_ARGUMENT. */
  static async open(
    path: string,
    types: readonly number[] | undefined,
    printed: () => Promise<boolean>,
  ): Promise<CursorFile> {
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return new CursorFile(path, types, new Map(), printed)
      throw failed(path, 'read', cause)
    }
    return new CursorFile(path, types, positionsOf(text, path, types), printed)
  }

  positionOf(vchannel: string): RecordPosition | undefined {
    return this.#positions.get(vchannel)
  }

  /** Everything of these vchannels before `position` was given to the output. Throws what saving threw before. */
  note(vchannels: readonly string[], position: RecordPosition): void {
    if (this.#failure !== undefined) throw this.#failure
    for (const vchannel of vchannels) this.#positions.set(vchannel, position)
    this.#changed = true
    this.#saving ??= this.#save().finally(() => {
      this.#saving = null
    })
  }

  /** Settles when the last position is durable. Throws IO_FAILED. */
  async close(): Promise<void> {
    while (this.#saving !== null) await this.#saving
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Again as long as positions come; what comes while it writes is in the next one. */
  async #save(): Promise<void> {
    try {
      while (this.#changed) {
        this.#changed = false
        const positions = Object.fromEntries(this.#positions)
        if (!(await this.#printed())) return
        await this.#replace(JSON.stringify({ version: VERSION, types: this.#types, positions }))
      }
    } catch (error) {
      this.#failure = error
    }
  }

  async #replace(text: string): Promise<void> {
    const temporary = `${this.#path}.tmp`
    try {
      const file = await open(temporary, 'w', 0o600)
      try {
        await file.writeFile(`${text}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, this.#path)
      const directory = await open(dirname(this.#path), 'r')
      try {
        await directory.sync()
      } finally {
        await directory.close()
      }
    } catch (cause) {
      throw failed(this.#path, 'written', cause)
    }
  }
}

function positionsOf(text: string, path: string, types: readonly number[] | undefined): Map<string, RecordPosition> {
  const positions = new Map<string, RecordPosition>()
  const state = parsed(text, path)
  if (state.version !== VERSION || !isObject(state.positions)) throw noState(path, 'it has another form')
  for (const [vchannel, position] of Object.entries(state.positions)) {
    if (!isObject(position) || !isCount(position.lsn)) throw noState(path, `it has no position of ${vchannel}`)
    const { lsn, skip } = position
    if (skip === undefined) positions.set(vchannel, { lsn })
    else if (isCount(skip)) positions.set(vchannel, { lsn, skip })
    else throw noState(path, `it has no position of ${vchannel}`)
  }
  // In the middle of a transaction a place counts the records that were asked for.
  const inside = [...positions.values()].some(({ skip = 0 }) => skip > 0)
  if (inside && JSON.stringify(state.types ?? null) !== JSON.stringify(sorted(types))) {
    throw noState(path, 'it stands in the middle of a transaction that was read with other --types: use the same again')
  }
  return positions
}

function parsed(text: string, path: string): Record<string, unknown> {
  if (text.length > BYTES_MAX) throw noState(path, `it is longer than ${BYTES_MAX} bytes`)
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch {
    // Told below.
  }
  throw noState(path, 'it is not a JSON object')
}

function sorted(types: readonly number[] | undefined): number[] | null {
  return types === undefined ? null : [...new Set(types)].sort((a, b) => a - b)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function noState(path: string, why: string): TidelogError<'INVALID_ARGUMENT'> {
  return new TidelogError('INVALID_ARGUMENT', `${path} is no state of consume: ${why}`)
}

function failed(path: string, what: string, cause: unknown): TidelogError<'IO_FAILED'> {
  return new TidelogError('IO_FAILED', `the state ${path} cannot be ${what}: ${(cause as Error).message}`, {
    cause,
    file: path,
  })
}
