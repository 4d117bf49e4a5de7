/** Message types on the command line: by number, or by Milvus's name. */
import { nearNames } from '../daemon/units.ts'
import { messageTypes } from '../message/message-type.ts'
import { didYouMean } from './did-you-mean.ts'
import { usageError } from './usage-error.ts'

const TYPE_MAX = 65_535
const TYPES_MAX = 256

/** `2,3,Insert`. Throws USAGE. */
export function parseTypes(text: string): number[] {
  const types = text.split(',').map((part) => parseType(part.trim()))
  if (types.length > TYPES_MAX) throw usageError(`--types names ${types.length} types; at most ${TYPES_MAX}`)
  return [...new Set(types)]
}

function parseType(text: string): number {
  if (/^[0-9]{1,5}$/.test(text) && Number(text) <= TYPE_MAX) return Number(text)
  const known = messageTypes.find(({ name }) => name.toLowerCase() === text.toLowerCase())
  if (known !== undefined) return known.type
  const near = nearNames(
    text,
    messageTypes.map(({ name }) => name),
  )
  const hint = didYouMean(near)
  throw usageError(
    `--types: ${JSON.stringify(text)} is no type; ${hint || `a number from 0 to ${TYPE_MAX}, or a name such as Insert`}`,
  )
}
