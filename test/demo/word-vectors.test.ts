import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { DIMENSIONS, wordCount, wordVectors } from '../../bench/demo/word-vectors.mjs'

const words = ['the', 'vectors', '"', '\\', 'a"]', '],"vectors":{', '}', '1990', 'é', '__proto__', '']
const vectorOf = (index: number) => Array.from({ length: DIMENSIONS }, (_, at) => Number(`${at - 50}.${index + 1}`))

let folder: string
let path: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidelog-words-'))
  path = join(folder, 'words.json')
  const entries = words.map(
    (word, index) => `${JSON.stringify(word)}:${JSON.stringify([...vectorOf(index), 5.5, index])}`,
  )
  const head = `{"precision":8,"l2NormIndex":100,"wordIndex":101,"size":${words.length},"dimensions":${DIMENSIONS}`
  const text = `${head},"words":${JSON.stringify(words)},"vectors":{${entries.join(',')}},"unkVector":[0,0]}\n`
  await writeFile(path, text)
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('every word comes with its vector as Float32, wherever the pieces of the file end', async () => {
  expect(await wordCount(path)).toBe(words.length)
  for (const readBytes of [1, 7, 100, 4096, 1024 * 1024]) {
    const read: { id: number; word: string; vector: Buffer }[] = []
    for await (const one of wordVectors(undefined, { path, readBytes })) read.push(one)
    expect(read.map(({ word }) => word)).toEqual(words)
    for (const [index, { id, vector }] of read.entries()) {
      expect(id).toBe(index)
      expect(Array.from({ length: DIMENSIONS }, (_, at) => vector.readFloatLE(4 * at))).toEqual(
        vectorOf(index).map(Math.fround),
      )
    }
  }
})

test('a limit ends it early; a file that ends in the middle is an error', async () => {
  const read: string[] = []
  for await (const { word } of wordVectors(2, { path })) read.push(word)
  expect(read).toEqual(words.slice(0, 2))
  const cut = join(folder, 'cut.json')
  await writeFile(cut, '{"size":2,"dimensions":100,"words":[],"vectors":{"a":[1,2')
  await expect(wordVectors(undefined, { path: cut }).next()).rejects.toThrow('ends in the middle')
})
