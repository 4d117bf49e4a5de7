/**
 * The one error class of the codecs.
 *
 * - `INVALID_ARGUMENT`: what was to be encoded cannot be (a bad name, a type that is no u16).
 * - `LIMIT_EXCEEDED`: it could be, but passes a stated limit.
 * - `DAMAGED`: the bytes to be decoded break a rule of docs/FORMAT.md or do not have their hash.
 * - `FORMAT_UNKNOWN`: the bytes are sound, but of a later version of the format.
 */
export type FormatErrorCode = 'INVALID_ARGUMENT' | 'LIMIT_EXCEEDED' | 'DAMAGED' | 'FORMAT_UNKNOWN'

export class FormatError extends Error {
  readonly code: FormatErrorCode
  /** Where in the bytes that were given to the decoder, if one place can be named. */
  readonly offset: number | undefined

  constructor(code: FormatErrorCode, message: string, offset?: number) {
    super(message)
    this.name = 'FormatError'
    this.code = code
    this.offset = offset
  }
}

export function damaged(message: string, offset?: number): FormatError {
  return new FormatError('DAMAGED', message, offset)
}

export function unknownFormat(what: string, offset?: number): FormatError {
  return new FormatError('FORMAT_UNKNOWN', `${what}: written by a later version; upgrade Tidelog to read it`, offset)
}
