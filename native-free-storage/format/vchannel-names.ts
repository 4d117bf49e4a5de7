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
}

/** Why `name` cannot be the name of a vchannel, or null. */
export function vchannelNameFault(name: unknown): string | null {
  if (typeof name !== 'string') return 'it is not a string'
  if (tooLong(name)) return `it is longer than ${VCHANNEL_NAME_BYTES_MAX} bytes`
  if (CONTROL_CHARACTER.test(name)) return 'it has control characters'
  if (!isWellFormed(name)) return 'it has a lone surrogate, which UTF-8 cannot hold'
  return null
}

/** For text that was decoded from at most 255 bytes of UTF-8: whether a name may not be so. */
export function hasControlCharacter(name: string): boolean {
  return CONTROL_CHARACTER.test(name)
}

/** The hash under which an index knows a vchannel: of its name in UTF-8. */
export function vchannelNameHash(name: string): bigint {
  return hash64(Buffer.from(name))
}

const CACHED_NAMES_MAX = 16_384

/** Names that were checked before, by the string. Bounded: forgotten as a whole when there are too many. */
const checkedNames = new Map<string, VchannelName>()

/** Throws INVALID_ARGUMENT, or LIMIT_EXCEEDED for a name that is too long. */
export function checkedVchannelName(name: string, bytesMax: number): VchannelName {
  let known = checkedNames.get(name)
  if (known === undefined) {
    const fault = vchannelNameFault(name)
    if (fault !== null) {
      const code = typeof name === 'string' && tooLong(name) ? 'LIMIT_EXCEEDED' : 'INVALID_ARGUMENT'
      throw new FormatError(code, `the vchannel name is refused: ${fault}`)
    }
    if (checkedNames.size >= CACHED_NAMES_MAX) checkedNames.clear()
    known = { name, bytes: Buffer.from(name) }
    checkedNames.set(name, known)
  }
  if (known.bytes.length > bytesMax) {
    throw new FormatError('LIMIT_EXCEEDED', `the vchannel name is longer than ${bytesMax} bytes`)
  }
  return known
}

function tooLong(name: string): boolean {
  return name.length > VCHANNEL_NAME_BYTES_MAX || Buffer.byteLength(name) > VCHANNEL_NAME_BYTES_MAX
}
