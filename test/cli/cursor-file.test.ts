import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { CursorFile } from '../../src/cli/cursor-file.ts'

let directory: string
let path: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-cursor-'))
  path = join(directory, 'state')
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const taken = async () => true

describe('the place of consume --state', () => {
  test('is nothing at first, and what was noted when it is opened again', async () => {
    const cursor = await CursorFile.open(path, [3, 2], taken)
    expect(cursor.positionOf('a')).toBeUndefined()
    cursor.note(['a', 'b'], { lsn: 7 })
    cursor.note(['a'], { lsn: 9, skip: 2 })
    await cursor.close()
    expect(JSON.parse(await readFile(path, 'utf8'))).toEqual({
      version: 1,
      types: [2, 3],
      positions: { a: { lsn: 9, skip: 2 }, b: { lsn: 7 } },
    })
    expect(await readdir(directory)).toEqual(['state'])
    const again = await CursorFile.open(path, [2, 3, 2], taken)
    expect(again.positionOf('a')).toEqual({ lsn: 9, skip: 2 })
    expect(again.positionOf('b')).toEqual({ lsn: 7 })
  })

  test('is written only when what it says was taken by the system, and is never ahead of it', async () => {
    let print = (_: boolean) => {}
    const cursor = await CursorFile.open(path, undefined, () => new Promise((resolve) => (print = resolve)))
    cursor.note(['a'], { lsn: 1 })
    cursor.note(['a'], { lsn: 2 })
    const closed = cursor.close()
    expect(await readdir(directory)).toEqual([])
    print(true)
    await expect.poll(() => readdir(directory)).toEqual(['state'])
    expect(JSON.parse(await readFile(path, 'utf8')).positions).toEqual({ a: { lsn: 1 } })
    await expect.poll(() => print(true)).toBeUndefined()
    await closed
    expect(JSON.parse(await readFile(path, 'utf8')).positions).toEqual({ a: { lsn: 2 } })
  })

  test('stays where it was when nobody reads the output any more', async () => {
    await writeFile(path, '{"version":1,"types":null,"positions":{"a":{"lsn":1}}}')
    const cursor = await CursorFile.open(path, undefined, async () => false)
    cursor.note(['a'], { lsn: 5 })
    await cursor.close()
    expect(JSON.parse(await readFile(path, 'utf8')).positions).toEqual({ a: { lsn: 1 } })
  })

  test('that cannot be written is told', async () => {
    const cursor = await CursorFile.open(join(directory, 'missing', 'state'), undefined, taken)
    cursor.note(['a'], { lsn: 5 })
    await expect(cursor.close()).rejects.toMatchObject({ code: 'IO_FAILED' })
    expect(() => cursor.note(['a'], { lsn: 6 })).toThrow('cannot be written')
  })

  test.each([
    ['', 'it is not a JSON object'],
    ['[]', 'it is not a JSON object'],
    ['{"version":2,"positions":{}}', 'it has another form'],
    ['{"version":1}', 'it has another form'],
    ['{"version":1,"positions":{"a":{"lsn":-1}}}', 'it has no position of a'],
    ['{"version":1,"positions":{"a":{"lsn":1,"skip":"2"}}}', 'it has no position of a'],
  ])('is refused when it is something else: %s', async (text, why) => {
    await writeFile(path, text)
    await expect(CursorFile.open(path, undefined, taken)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(why),
    })
  })

  test('in the middle of a transaction counts for the same types only', async () => {
    await writeFile(path, '{"version":1,"types":[2],"positions":{"a":{"lsn":9,"skip":1},"b":{"lsn":3}}}')
    await expect(CursorFile.open(path, undefined, taken)).rejects.toThrow('other --types')
    expect((await CursorFile.open(path, [2], taken)).positionOf('a')).toEqual({ lsn: 9, skip: 1 })
    await writeFile(path, '{"version":1,"types":[2],"positions":{"a":{"lsn":9}}}')
    expect((await CursorFile.open(path, undefined, taken)).positionOf('a')).toEqual({ lsn: 9 })
  })
})
