import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type FlockAddon, kernelLock, loadFlockAddon } from '../../src/daemon/kernel-lock.ts'

const addon = loadFlockAddon({})

describe('kernel lock', () => {
  let directory: string
  let path: string

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidelog-flock-'))
    path = join(directory, 'LOCK.flock')
    await writeFile(path, '')
  })

  afterEach(() => rm(directory, { recursive: true }))

  test.skipIf(addon === null)('one holder at a time; free again after its release', async () => {
    const lock = kernelLock(addon)!
    const first = await lock.tryLock(path)
    expect(first).not.toBeNull()
    expect(await lock.tryLock(path)).toBeNull()
    await first!.release()
    await first!.release()
    const second = await lock.tryLock(path)
    expect(second).not.toBeNull()
    await second!.release()
  })

  test('an addon that is missing, does not load, or is another thing is tolerated', () => {
    const failing = (error: Error) => () => {
      throw error
    }
    expect(loadFlockAddon({}, failing(new Error("Cannot find module 'fs-ext'")))).toBeNull()
    expect(loadFlockAddon({}, failing(new Error('NODE_MODULE_VERSION 999')))).toBeNull()
    expect(loadFlockAddon({}, () => null)).toBeNull()
    expect(loadFlockAddon({}, () => ({ flock: 'no' }))).toBeNull()
    expect(kernelLock(null)).toBeUndefined()
  })

  test('TIDELOG_TEST_NO_FLOCK=1 stands for a machine without it', () => {
    expect(loadFlockAddon({ TIDELOG_TEST_NO_FLOCK: '1' })).toBeNull()
  })

  test('a file system without flock leaves the decision to the lock file; other failures are told', async () => {
    const failing = (code: string): FlockAddon => ({
      flock: (_fd, _flags, callback) => callback(Object.assign(new Error(code), { code })),
    })
    const unsupported = await kernelLock(failing('ENOLCK'))!.tryLock(path)
    expect(unsupported).not.toBeNull()
    await unsupported!.release()
    await expect(kernelLock(failing('EIO'))!.tryLock(path)).rejects.toMatchObject({ code: 'EIO' })
  })
})
