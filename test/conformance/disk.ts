/**
 * What every implementation of the disk port does. Each runs this suite: `diskConformance(name, makeDisk)`.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Disk, DiskError } from '../../native-free-storage/disk/disk.ts'

export interface DiskUnderTest {
  disk: Disk
  /** An empty directory on it. */
  directory: string
  dispose?: () => void | Promise<void>
}

const text = (value: string) => new TextEncoder().encode(value)

async function failureOf(attempt: () => unknown): Promise<DiskError> {
  try {
    await attempt()
  } catch (error) {
    expect(error).toBeInstanceOf(DiskError)
    return error as DiskError
  }
  throw new Error('it did not fail')
}

const codeOf = async (attempt: () => unknown) => (await failureOf(attempt)).code

export function diskConformance(name: string, makeDisk: () => DiskUnderTest | Promise<DiskUnderTest>): void {
  describe(`the disk port: ${name}`, () => {
    let under: DiskUnderTest
    let disk: Disk
    const at = (...names: string[]) => [under.directory, ...names].join('/')

    beforeEach(async () => {
      under = await makeDisk()
      disk = under.disk
    })
    afterEach(() => under.dispose?.())

    async function put(path: string, content: Uint8Array): Promise<void> {
      const file = await disk.create(path)
      await file.write(content, 0)
      await file.sync()
      await file.close()
    }

    async function get(path: string): Promise<Uint8Array> {
      const file = await disk.open(path, 'read')
      const bytes = new Uint8Array(await file.size())
      expect(await file.read(bytes, 0, bytes.length, 0)).toBe(bytes.length)
      await file.close()
      return bytes
    }

    it('creates a file for reading and writing, empty, and gives back what was written', async () => {
      const file = await disk.create(at('a'))
      expect(file.path).toBe(at('a'))
      expect(await file.size()).toBe(0)
      await file.write(text('hello'), 0)
      await file.write(text('J'), 0)
      const target = new Uint8Array(7).fill(0x2e)
      expect(await file.read(target, 1, 5, 0)).toBe(5)
      expect(new TextDecoder().decode(target)).toBe('.Jello.')
      await file.close()
      expect(await get(at('a'))).toEqual(text('Jello'))
    })

    it('refuses to create a name that is taken, and to open one that is missing', async () => {
      await put(at('a'), text('1'))
      expect(await codeOf(() => disk.create(at('a')))).toBe('EEXIST')
      expect(await get(at('a'))).toEqual(text('1'))
      expect(await codeOf(() => disk.open(at('b'), 'read'))).toBe('ENOENT')
      expect(await codeOf(() => disk.open(at('b'), 'write'))).toBe('ENOENT')
      expect(await codeOf(() => disk.open(at('b'), 'write', 'dsync'))).toBe('ENOENT')
      expect(await codeOf(() => disk.create(at('missing', 'b')))).toBe('ENOENT')
      expect(await disk.list(under.directory)).toEqual(['a'])
    })

    it('names the path and the code in its errors', async () => {
      const error = await failureOf(() => disk.open(at('missing'), 'read'))
      expect(error.path).toBe(at('missing'))
      expect(error.message).toContain(at('missing'))
      expect(error.message).toContain('ENOENT')
      expect(error.bytesWritten).toBe(0)
    })

    it('opens for writing without emptying the file, and for reading without writing', async () => {
      await put(at('a'), text('12345'))
      const writer = await disk.open(at('a'), 'write')
      await writer.write(text('x'), 2)
      await writer.close()
      expect(await get(at('a'))).toEqual(text('12x45'))
      const reader = await disk.open(at('a'), 'read')
      expect(await codeOf(() => reader.write(text('y'), 0))).toBe('EBADF')
      await reader.close()
      expect(await get(at('a'))).toEqual(text('12x45'))
    })

    it('reads fewer bytes only at the end of the file', async () => {
      await put(at('a'), new Uint8Array(1000).fill(7))
      const file = await disk.open(at('a'), 'read')
      const target = new Uint8Array(64)
      expect(await file.read(target, 0, 64, 990)).toBe(10)
      expect(await file.read(target, 0, 64, 1000)).toBe(0)
      expect(await file.read(target, 0, 64, 5000)).toBe(0)
      expect(await file.read(target, 0, 0, 0)).toBe(0)
      await file.close()
    })

    it('reads into the part of the target that it was given, also while others read', async () => {
      await put(
        at('a'),
        Uint8Array.from({ length: 5000 }, (_, index) => index % 251),
      )
      const file = await disk.open(at('a'), 'read')
      const target = new Uint8Array(5000).fill(0xff)
      const parts = [0, 1, 511, 512, 1300, 4999].map((from, index, all) => ({
        from,
        length: (all[index + 1] ?? 5000) - from,
      }))
      const counts = await Promise.all(parts.map(({ from, length }) => file.read(target, from, length, from)))
      expect(counts).toEqual(parts.map(({ length }) => length))
      expect(target).toEqual(Uint8Array.from({ length: 5000 }, (_, index) => index % 251))
      await file.close()
    })

    it('keeps the bytes around a write that begins and ends inside a sector', async () => {
      const file = await disk.create(at('a'))
      await file.write(new Uint8Array(2000).fill(1), 0)
      await file.write(new Uint8Array(700).fill(2), 300)
      await file.write(new Uint8Array(1).fill(3), 1999)
      await file.close()
      const expected = new Uint8Array(2000).fill(1)
      expected.fill(2, 300, 1000)
      expected[1999] = 3
      expect(await get(at('a'))).toEqual(expected)
    })

    it('shows one writer what another one wrote to the same file', async () => {
      const first = await disk.create(at('a'), 'dsync')
      const second = await disk.open(at('a'), 'write')
      await first.write(text('12345'), 0)
      await second.write(text('x'), 2)
      await second.truncate(4)
      const bytes = new Uint8Array(8)
      expect(await first.read(bytes, 0, 8, 0)).toBe(4)
      expect(new TextDecoder().decode(bytes.subarray(0, 4))).toBe('12x4')
      await first.close()
      await second.write(text('5'), 4)
      await second.close()
      expect(await get(at('a'))).toEqual(text('12x45'))
    })

    it('fills a gap with zeros', async () => {
      const file = await disk.create(at('a'))
      await file.write(text('end'), 5000)
      expect(await file.size()).toBe(5003)
      await file.close()
      const bytes = await get(at('a'))
      expect(bytes.subarray(0, 5000).every((byte) => byte === 0)).toBe(true)
      expect(bytes.subarray(5000)).toEqual(text('end'))
    })

    it('writes only the view it was given', async () => {
      const whole = text('0123456789')
      const file = await disk.create(at('a'))
      await file.write(whole.subarray(3, 6), 0)
      await file.write(new Uint8Array(0), 100)
      await file.close()
      expect(await get(at('a'))).toEqual(text('345'))
    })

    for (const sync of ['none', 'dsync'] as const) {
      it(`carries out overlapping writes of a file opened with ${sync}`, async () => {
        const file = await disk.create(at('a'), sync)
        const parts = Array.from({ length: 32 }, (_, index) => new Uint8Array(4096).fill(index + 1))
        await Promise.all(parts.map((part, index) => file.write(part, index * 4096)))
        await Promise.all([file.sync(), file.sync()])
        await file.close()
        const bytes = await get(at('a'))
        expect(bytes.length).toBe(32 * 4096)
        for (let index = 0; index < 32; index++) {
          expect(bytes.subarray(index * 4096, (index + 1) * 4096)).toEqual(parts[index])
        }
      })
    }

    it('shortens and lengthens a file, with zeros behind the old end', async () => {
      const file = await disk.create(at('a'))
      await file.write(new Uint8Array(2000).fill(9), 0)
      await file.truncate(700)
      expect(await file.size()).toBe(700)
      await file.truncate(1500)
      await file.sync()
      await file.close()
      const bytes = await get(at('a'))
      expect(bytes.subarray(0, 700).every((byte) => byte === 9)).toBe(true)
      expect(bytes.subarray(700)).toEqual(new Uint8Array(800))
    })

    it('closes any number of times, after what is in flight, and then refuses', async () => {
      const file = await disk.create(at('a'), 'dsync')
      const writing = Promise.all([file.write(new Uint8Array(65536).fill(1), 0), file.write(text('x'), 65536)])
      const closing = file.close()
      await Promise.all([writing, closing, file.close()])
      await file.close()
      expect(await codeOf(() => file.write(text('x'), 0))).toBe('EBADF')
      expect(await codeOf(() => file.read(new Uint8Array(1), 0, 1, 0))).toBe('EBADF')
      expect(await codeOf(() => file.sync())).toBe('EBADF')
      expect(await codeOf(() => file.size())).toBe('EBADF')
      expect((await get(at('a'))).length).toBe(65537)
    })

    it('links a second name to the same file, and refuses one that is taken', async () => {
      await put(at('a'), text('a'))
      await put(at('b'), text('b'))
      await disk.link(at('a'), at('c'))
      expect(await codeOf(() => disk.link(at('a'), at('b')))).toBe('EEXIST')
      expect(await codeOf(() => disk.link(at('a'), at('a')))).toBe('EEXIST')
      expect(await codeOf(() => disk.link(at('missing'), at('d')))).toBe('ENOENT')
      expect(await get(at('b'))).toEqual(text('b'))
      const file = await disk.open(at('c'), 'write')
      await file.write(text('z'), 0)
      await file.close()
      await disk.unlink(at('a'))
      expect(await get(at('c'))).toEqual(text('z'))
    })

    it('lets exactly one of many links to a name succeed', async () => {
      const sources = Array.from({ length: 8 }, (_, index) => at(`source${index}`))
      for (const source of sources) await put(source, text(source))
      const outcomes = await Promise.allSettled(sources.map((source) => disk.link(source, at('winner'))))
      const winners = sources.filter((_, index) => outcomes[index]?.status === 'fulfilled')
      expect(winners.length).toBe(1)
      expect(await get(at('winner'))).toEqual(text(winners[0]!))
    })

    it('renames over a file that exists, and leaves two names of one file as they are', async () => {
      await put(at('a'), text('a'))
      await put(at('b'), text('b'))
      await disk.rename(at('a'), at('b'))
      expect(await disk.list(under.directory)).toEqual(['b'])
      expect(await get(at('b'))).toEqual(text('a'))
      expect(await codeOf(() => disk.rename(at('a'), at('c')))).toBe('ENOENT')
      await disk.link(at('b'), at('c'))
      await disk.rename(at('b'), at('c'))
      expect((await disk.list(under.directory)).sort()).toEqual(['b', 'c'])
    })

    it('renames into another directory', async () => {
      await disk.makeDirectory(at('pool'))
      await put(at('pool', 'a'), text('a'))
      await disk.rename(at('pool', 'a'), at('a'))
      await disk.syncDirectory(under.directory)
      await disk.syncDirectory(at('pool'))
      expect(await disk.list(at('pool'))).toEqual([])
      expect(await get(at('a'))).toEqual(text('a'))
    })

    it('goes on with an open file after it was renamed or unlinked', async () => {
      const file = await disk.create(at('a'), 'dsync')
      await file.write(text('1'), 0)
      await disk.rename(at('a'), at('b'))
      await Promise.all([file.write(text('2'), 1), file.write(text('3'), 2), file.write(text('4'), 3)])
      expect(await get(at('b'))).toEqual(text('1234'))
      await disk.unlink(at('b'))
      await put(at('b'), text('other'))
      await Promise.all([file.write(text('5'), 4), file.write(text('6'), 5), file.sync()])
      const bytes = new Uint8Array(10)
      expect(await file.read(bytes, 0, 10, 0)).toBe(6)
      await file.close()
      expect(await get(at('b'))).toEqual(text('other'))
    })

    it('unlinks', async () => {
      await put(at('a'), text('a'))
      await disk.unlink(at('a'))
      expect(await codeOf(() => disk.unlink(at('a')))).toBe('ENOENT')
      expect(await disk.list(under.directory)).toEqual([])
    })

    it('makes a directory once or twice, but not its parents', async () => {
      await disk.makeDirectory(at('d'))
      await disk.makeDirectory(at('d'))
      await put(at('d', 'a'), text('a'))
      expect(await disk.list(at('d'))).toEqual(['a'])
      expect(await codeOf(() => disk.makeDirectory(at('missing', 'd')))).toBe('ENOENT')
      await put(at('f'), text('f'))
      expect(await codeOf(() => disk.makeDirectory(at('f')))).toBe('EEXIST')
      expect(await codeOf(() => disk.list(at('missing')))).toBe('ENOENT')
      expect(await codeOf(() => disk.syncDirectory(at('missing')))).toBe('ENOENT')
    })

    it('tells synchronously whether a name exists', async () => {
      expect(disk.existsSync(at('a'))).toBe(false)
      await put(at('a'), text('a'))
      expect(disk.existsSync(at('a'))).toBe(true)
      expect(disk.existsSync(under.directory)).toBe(true)
      expect(disk.existsSync(at('missing', 'a'))).toBe(false)
    })

    it('tells the space and the file system of a directory', async () => {
      const space = await disk.space(under.directory)
      expect(space.totalBytes).toBeGreaterThan(0)
      expect(space.freeBytes).toBeGreaterThan(0)
      expect(space.freeBytes).toBeLessThanOrEqual(space.totalBytes)
      const identity = await disk.identify(under.directory)
      expect(identity.fileSystem).toMatch(/^[a-z0-9]+$/)
      expect(identity.device).not.toBe('')
      expect(await codeOf(() => disk.space(at('missing')))).toBe('ENOENT')
      expect(await codeOf(() => disk.identify(at('missing')))).toBe('ENOENT')
    })
  })
}
