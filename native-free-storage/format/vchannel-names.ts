/**
 * Names of vchannels: 0 to 255 bytes of UTF-8, no control characters (U+0000 to U+001F, U+007F), no lone surrogates.
 * The empty name means: the record belongs to every vchannel of the pchannel.
 */
import { VCHANNEL_NAME_BYTES_MAX } from './body-layout.ts'
import { hash64 } from './checksum.ts'
import { FormatError } from './format-error.ts'
import { isWellFormed } from './text.ts'

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for
const CONTROL_CHARACTER = /[\u0000-\u001f\u007f]/

/** A checked name with its bytes. */
export interface VchannelName {
  readonly name: string
  readonly bytes: Buffer
  /** Of the plan that saw it last: its mark and the index there. Spares each plan a dictionary of its own. */
  planMark: number
  planIndex: number
}

/** Why `name` cannot be the name of a vchannel, or null. */
export function vchannelNameFault(name: unknown, bytesMax: number = VCHANNEL_NAME_BYTES_MAX): string | null {
  if (typeof name !== 'string') return 'it is not a string'
  if (CONTROL_CHARACTER.test(name)) return 'it has control characters'
  if (!isWellFormed(name)) return 'it has a lone surrogate, which UTF-8 cannot hold'
  if (name.length > bytesMax || Buffer.byteLength(name) > bytesMax) return `it is longer than ${bytesMax} bytes`
  return null
}

/** The hash under which an index knows a vchannel: of its name in UTF-8. */
export function vchannelNameHash(name: string): bigint {
  return hash64(Buffer.from(name))
}

const CACHED_NAMES_MAX = 16_384

/** Names that were checked before. Bounded: forgotten as a whole when there are too many. */
export class VchannelNameCache {
  readonly #names = new Map<string, VchannelName>()

  /** Throws INVALID_ARGUMENT, or LIMIT_EXCEEDED for a name that is too long. */
  get(name: string, bytesMax: number): VchannelName {
    let known = this.#names.get(name)
    if (known === undefined) {
      const fault = vchannelNameFault(name, VCHANNEL_NAME_BYTES_MAX)
      if (fault !== null) {
        const tooLong = typeof name === 'string' && Buffer.byteLength(name) > VCHANNEL_NAME_BYTES_MAX
        throw new FormatError(tooLong ? 'LIMIT_EXCEEDED' : 'INVALID_ARGUMENT', `the vchannel name is refused: ${fault}`)
      }
      known = { name, bytes: Buffer.from(name), planMark: -1, planIndex: -1 }
      this.#names.set(name, known)
    }
    if (known.bytes.length > bytesMax) {
      throw new FormatError('LIMIT_EXCEEDED', `the vchannel name is refused: it is longer than ${bytesMax} bytes`)
    }
    return known
  }

  /** Between plans: within one, a name has to keep its entry. */
  trim(): void {
    if (this.#names.size > CACHED_NAMES_MAX) this.#names.clear()
  }
}
