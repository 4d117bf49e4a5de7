/** A vchannel's name on the command line. */
import { usageError } from './usage-error.ts'

/** Throws USAGE unless it is 1 to 255 bytes of UTF-8 without control characters. */
export function requireVchannelName(name: string): void {
  const bytes = Buffer.byteLength(name)
  if (bytes === 0 || bytes > 255) {
    throw usageError(`a vchannel's name has 1 to 255 bytes of UTF-8; this one has ${bytes}`)
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name) || /\p{Surrogate}/u.test(name)) {
    throw usageError(`the name ${JSON.stringify(name)} has a control character, which no vchannel may have`)
  }
}
