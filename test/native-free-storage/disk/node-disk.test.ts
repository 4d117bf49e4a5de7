import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DiskError } from '../../../native-free-storage/disk/disk.ts'
import { nodeDisk } from '../../../native-free-storage/disk/node-disk.ts'

const onLinux = process.platform === 'linux'
/** Of util-linux: bounds the size of files that this process may write. */
const prlimit = 'prlimit'

let directory: string
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-node-disk-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true }))

function descriptorsOf(file: string): string[] {
  return fs.readdirSync('/proc/self/fd').filter((name) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${name}`).startsWith(file)
    } catch {
      return false
    }
  })
}

function openFlags(descriptor: string): number {
  const line = fs.readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8').match(/flags:\s*([0-7]+)/)
  return Number.parseInt(line![1]!, 8)
}

describe('the Node disk', () => {
  it('makes files for their owner alone, and directories too', async () => {
    const disk = nodeDisk()
    await disk.makeDirectory(`${directory}/d`)
    await (await disk.create(`${directory}/d/a`)).close()
    expect(fs.statSync(`${directory}/d`).mode & 0o777).toBe(0o700)
    expect(fs.statSync(`${directory}/d/a`).mode & 0o777).toBe(0o600)
  })

  it.runIf(onLinux)('gives each synced write in flight a descriptor of its own, and closes them all', async () => {
    const file = await nodeDisk().create(`${directory}/a`, 'dsync')
    await file.write(new Uint8Array(512), 0)
    expect(descriptorsOf(`${directory}/a`).length).toBe(1)
    await nodeDisk().rename(`${directory}/a`, `${directory}/b`)
    await Promise.all([0, 1, 2, 3].map((index) => file.write(new Uint8Array(4096), index * 4096)))
    const descriptors = descriptorsOf(`${directory}/b`)
    expect(descriptors.length).toBe(4)
    for (const descriptor of descriptors) expect(openFlags(descriptor) & fs.constants.O_DSYNC).not.toBe(0)
    await Promise.all([0, 1, 2, 3].map((index) => file.write(new Uint8Array(4096), index * 4096)))
    expect(descriptorsOf(`${directory}/b`).length).toBe(4)
    await file.close()
    expect(descriptorsOf(`${directory}/b`)).toEqual([])
  })

  it.runIf(onLinux)('uses one descriptor by turns where more cannot be had', async () => {
    const file = await nodeDisk({ reopenFiles: false }).create(`${directory}/a`, 'dsync')
    await Promise.all([0, 1, 2, 3, 4].map((index) => file.write(new Uint8Array(4096).fill(index), index * 4096)))
    expect(descriptorsOf(`${directory}/a`).length).toBe(1)
    expect([0, 1, 2, 3, 4].map((index) => fs.readFileSync(`${directory}/a`)[index * 4096])).toEqual([0, 1, 2, 3, 4])
    await file.close()
  })

  it.runIf(onLinux)('tells a full disk by its code', async () => {
    const file = await nodeDisk().open('/dev/full', 'write')
    const error = await file.write(new Uint8Array(10), 0).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(DiskError)
    expect(error).toMatchObject({ code: 'ENOSPC', path: '/dev/full', bytesWritten: 0 })
    await file.close()
  })

  const canLimit = onLinux && spawnSync(prlimit, ['--version']).status === 0
  for (const sync of ['none', 'dsync'] as const) {
    it.runIf(canLimit)(`tells how much of a short write arrived, and why it ended (${sync})`, async () => {
      const limit = (soft: string) => spawnSync(prlimit, [`--pid=${process.pid}`, `--fsize=${soft}:unlimited`])
      const ignore = () => undefined
      process.on('SIGXFSZ', ignore)
      const file = await nodeDisk().create(`${directory}/a`, sync)
      limit('10000')
      try {
        const error = await file.write(new Uint8Array(16384).fill(1), 0).catch((reason: unknown) => reason)
        expect(error).toBeInstanceOf(DiskError)
        expect(error).toMatchObject({ code: 'EFBIG', bytesWritten: 10000 })
      } finally {
        limit('unlimited')
        process.off('SIGXFSZ', ignore)
      }
      expect(await file.size()).toBe(10000)
      await file.close()
    })
  }

  it.runIf(onLinux)('names the file of an error as it is called now, not as it was when it was opened', async () => {
    const disk = nodeDisk()
    await (await disk.create(`${directory}/before`)).close()
    const file = await disk.open(`${directory}/before`, 'read')
    const nameInError = async () => ((await file.truncate(0).catch((reason: unknown) => reason)) as DiskError).path
    expect(await nameInError()).toBe(`${directory}/before`)
    await disk.rename(`${directory}/before`, `${directory}/after`)
    expect(await nameInError()).toBe(`${directory}/after`)
    await disk.unlink(`${directory}/after`)
    expect(await nameInError()).toBe(`${directory}/before`)
    await file.close()
  })

  it('takes only absence for absence', () => {
    const disk = nodeDisk()
    const loop = `${directory}/loop`
    fs.symlinkSync(loop, loop)
    expect(disk.existsSync(`${directory}/missing`)).toBe(false)
    expect(() => disk.existsSync(loop)).toThrow(DiskError)
    expect(() => disk.existsSync(`${directory}/${'x'.repeat(300)}`)).toThrow('ENAMETOOLONG')
  })

  it('knows how much goes on at once, and the file system', async () => {
    const disk = nodeDisk()
    expect(disk.traits?.parallelOperations).toBe(Number(process.env.UV_THREADPOOL_SIZE ?? 4))
    expect((await disk.identify(directory)).device).toBe(String(fs.statSync(directory).dev))
    if (onLinux && fs.existsSync('/dev/shm')) expect((await disk.identify('/dev/shm')).fileSystem).toBe('tmpfs')
  })
})
