import fs from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LossyDisk } from '../../bench/kill-loop/lossy-disk.mjs'
import { type Disk, DiskError } from '../../native-free-storage/disk/disk.ts'
import { nodeDisk } from '../../native-free-storage/disk/node-disk.ts'
import { diskConformance } from '../conformance/disk.ts'

const modes = ['strict', 'ext4'] as const
const fail = (code: string, operation: string, path: string, cause?: unknown) =>
  new DiskError(code, operation, path, { cause })

function makeDirectory(): { parent: string; directory: string } {
  const parent = fs.mkdtempSync(join(os.tmpdir(), 'tidelog-lossy-'))
  const directory = join(parent, 'data')
  fs.mkdirSync(directory)
  return { parent, directory }
}

for (const names of modes) {
  for (const calm of [true, false]) {
    diskConformance(`lossy, ${names}, ${calm ? 'calm' : 'with delays'}`, () => {
      const { parent, directory } = makeDirectory()
      const disk = new LossyDisk(directory, nodeDisk(), fail, { seed: 7, names, calm })
      const dispose = () => {
        disk.end()
        fs.rmSync(parent, { recursive: true })
      }
      return { disk, directory, dispose }
    })
  }
}

const text = (value: string) => new TextEncoder().encode(value)

/** What is really there is what a killed process would leave. */
describe.each(modes)('the lossy disk, %s names', (names) => {
  let parent: string
  let data: string
  let disk: Disk
  const at = (...parts: string[]) => join(data, ...parts)
  const there = (...parts: string[]) => fs.existsSync(at(...parts))
  const read = (...parts: string[]) => fs.readFileSync(at(...parts), 'utf8')

  beforeEach(() => {
    ;({ parent, directory: data } = makeDirectory())
    disk = new LossyDisk(data, nodeDisk(), fail, { seed: 1, names, calm: true })
  })
  afterEach(() => fs.rmSync(parent, { recursive: true }))

  /** All of it durable. */
  async function put(path: string, content: string): Promise<void> {
    const file = await disk.create(path)
    await file.write(text(content), 0)
    await file.sync()
    await file.close()
    await disk.syncDirectory(data)
  }

  it('loses what was written and not synced, which its own process reads', async () => {
    await put(at('a'), 'old bytes')
    const file = await disk.open(at('a'), 'write')
    await file.write(text('new'), 0)
    await file.write(text('more'), 20)
    const bytes = new Uint8Array(30)
    expect(await file.read(bytes, 0, 30, 0)).toBe(24)
    expect(new TextDecoder().decode(bytes.subarray(0, 9))).toBe('new bytes')
    expect(await file.size()).toBe(24)
    expect(read('a')).toBe('old bytes')
    await file.close()
    expect(read('a')).toBe('old bytes')
    const again = await disk.open(at('a'), 'write')
    await again.sync()
    expect(read('a')).toBe(`new bytes${'\0'.repeat(11)}more`)
    await again.truncate(3)
    expect(await again.size()).toBe(3)
    expect(read('a').length).toBe(24)
    await again.sync()
    expect(read('a')).toBe('new')
    await again.close()
  })

  it('keeps a write of a file opened for synced writes when it has returned', async () => {
    await put(at('a'), '')
    const file = await disk.open(at('a'), 'write', 'dsync')
    const writing = file.write(text('synced'), 0)
    expect(read('a')).toBe('')
    await writing
    expect(read('a')).toBe('synced')
    await file.close()
  })

  it('loses a file whose directory was not synced; a sync of the file keeps its name in ext4 mode only', async () => {
    const file = await disk.create(at('a'))
    await file.write(text('1'), 0)
    expect(await disk.list(data)).toEqual(['a'])
    expect(disk.existsSync(at('a'))).toBe(true)
    await file.sync()
    expect(there('a')).toBe(names === 'ext4')
    await disk.syncDirectory(data)
    expect(read('a')).toBe('1')
    await file.close()
  })

  it('keeps a name without its bytes', async () => {
    const file = await disk.create(at('a'))
    await file.write(text('1'), 0)
    await disk.syncDirectory(data)
    expect(read('a')).toBe('')
    await file.close()
  })

  it('brings back what was unlinked or renamed and not synced', async () => {
    await put(at('a'), 'a')
    await put(at('b'), 'b')
    await disk.unlink(at('a'))
    await disk.rename(at('b'), at('c'))
    expect((await disk.list(data)).sort()).toEqual(['c'])
    expect(fs.readdirSync(data).sort()).toEqual(['a', 'b'])
    await disk.syncDirectory(data)
    expect(fs.readdirSync(data)).toEqual(['c'])
    expect(read('c')).toBe('b')
  })

  it('may leave both names of a file that moved to another directory, and never neither', async () => {
    await disk.makeDirectory(at('pool'))
    await disk.syncDirectory(data)
    const file = await disk.create(at('pool', 'a'))
    await file.write(text('x'), 0)
    await file.sync()
    await file.close()
    await disk.syncDirectory(at('pool'))
    await disk.rename(at('pool', 'a'), at('a'))
    await disk.syncDirectory(data)
    expect(read('a')).toBe('x')
    expect(there('pool', 'a')).toBe(names === 'strict')
    await disk.rename(at('a'), at('pool', 'b'))
    await disk.syncDirectory(data)
    expect(there('a')).toBe(false)
    expect(read('pool', 'b')).toBe('x')
  })

  it('loses a directory that was made and not synced, with what was synced in it', async () => {
    await disk.makeDirectory(at('d'))
    const file = await disk.create(at('d', 'a'))
    await file.sync()
    await file.close()
    if (names === 'strict') {
      await disk.syncDirectory(at('d'))
      expect(there('d')).toBe(false)
    }
    await disk.syncDirectory(data)
    expect(there('d', 'a')).toBe(true)
  })

  it('changes a name that was changed more than once in order', async () => {
    await put(at('a'), 'first')
    await disk.unlink(at('a'))
    const second = await disk.create(at('a'))
    await second.write(text('second'), 0)
    await second.sync()
    await disk.rename(at('a'), at('b'))
    const third = await disk.create(at('a'))
    await third.write(text('third'), 0)
    await third.sync()
    await disk.syncDirectory(data)
    expect([read('a'), read('b')]).toEqual(['third', 'second'])
    await second.close()
    await third.close()
  })

  it('leaves nothing of its own behind once all is durable and closed', async () => {
    await put(at('a'), 'a')
    await disk.rename(at('a'), at('b'))
    await disk.syncDirectory(data)
    expect(fs.readdirSync(`${data}.lossy`)).toEqual([])
  })

  it('begins without what a killed process had pending', async () => {
    const file = await disk.create(at('a'))
    await file.write(text('1'), 0)
    const next = new LossyDisk(data, nodeDisk(), fail, { seed: 2, names, calm: true })
    expect(await next.list(data)).toEqual([])
    expect(fs.readdirSync(`${data}.lossy`)).toEqual([])
  })

  it.each(['sync', 'directory'] as const)('does not keep its word when it is to lie about a %s', async (lie) => {
    fs.mkdirSync(at('pchannels', '0'), { recursive: true })
    const liar = new LossyDisk(data, nodeDisk(), fail, { seed: 3, names: 'strict', lie, calm: true })
    liar.startLying()
    for (const directory of [at('pchannels', '0'), data]) {
      for (const name of ['a', 'b.seg']) {
        const file = await liar.create(join(directory, name), 'dsync')
        await file.write(text('1'), 0)
        await file.sync()
        await file.close()
      }
      await liar.syncDirectory(directory)
    }
    expect(read('a')).toBe('1')
    expect(read('b.seg')).toBe(lie === 'sync' ? '' : '1')
    expect(there('pchannels', '0', 'a')).toBe(lie === 'sync')
    expect(there('pchannels', '0', 'b.seg')).toBe(lie === 'sync')
  })
})
