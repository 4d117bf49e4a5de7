import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { acquireLock, isLockName, type Lock } from '../../../native-free-storage/disk/lock-file.ts'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import type { Environment } from '../../../native-free-storage/environment.ts'
import { TidelogError } from '../../../native-free-storage/errors.ts'
import { keepAll } from '../../simulation/choices.ts'
import { Random } from '../../simulation/random.ts'
import { SimDisk, type SimDiskOptions } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

const directory = '/data'

function freshDisk(options: SimDiskOptions = {}): SimDisk {
  const disk = new SimDisk({ seed: 1, ...options })
  disk.prepareDirectory(directory)
  return disk
}

const acquire = (disk: SimDisk, kernelLock = false) => acquireLock(simEnvironment(disk, { kernelLock }), directory)

async function failureOf(attempt: Promise<unknown>): Promise<TidelogError> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TidelogError)
  return error as TidelogError
}

async function putLock(disk: SimDisk, content: string): Promise<void> {
  const file = await disk.create(`${directory}/LOCK`)
  await file.write(new TextEncoder().encode(content), 0)
  await file.close()
}

describe('the lock file', () => {
  it('is held by one, refused to others with the pid and what to do, and free after its release', async () => {
    const first = freshDisk()
    const second = first.nextProcess()
    const lock = await acquire(first)
    const error = await failureOf(acquire(second))
    expect(error.code).toBe('LOCKED')
    expect(error.message).toContain(`process ${first.pid}`)
    expect(error.message).toContain('read-only')
    expect(await lock.isHeld()).toBe(true)
    await Promise.all([lock.release(), lock.release()])
    await lock.release()
    const next = await acquire(second)
    expect(await lock.isHeld()).toBe(false)
    expect(await next.isHeld()).toBe(true)
  })

  it('is refused to the process that holds it', async () => {
    const disk = freshDisk()
    await acquire(disk)
    const error = await failureOf(acquire(disk))
    expect(error.code).toBe('LOCKED')
    expect(error.message).toContain(`this process (pid ${disk.pid})`)
  })

  it('says in its file who holds it, and leaves only the spare behind', async () => {
    const disk = freshDisk()
    const lock = await acquire(disk)
    const text = new TextDecoder().decode(disk.contents(`${directory}/LOCK`))
    expect(JSON.parse(text)).toEqual({
      pid: disk.pid,
      bootId: disk.bootId,
      startTime: disk.startTime,
      nonce: lock.nonce,
    })
    expect(await disk.list(directory)).toEqual(expect.arrayContaining(['LOCK', 'LOCK.spare']))
    await lock.release()
    await (await acquire(disk)).release()
    expect(await disk.list(directory)).toEqual(['LOCK.spare'])
    expect((await disk.list(directory)).every(isLockName)).toBe(true)
    expect(isLockName('LEASE')).toBe(false)
  })

  it('is taken over from a process that died, from a pid that was given again, and from before a restart', async () => {
    const disk = freshDisk()
    await acquire(disk)
    disk.processCrash()
    const second = disk.nextProcess()
    await acquire(second)
    second.processCrash()
    const third = disk.nextProcess({ pid: second.pid })
    await acquire(third)
    expect((await failureOf(acquire(disk.nextProcess()))).code).toBe('LOCKED')
    await third.syncDirectory(directory)
    const rebooted = third.reboot(keepAll)
    const lock = await acquire(rebooted)
    expect(await lock.isHeld()).toBe(true)
    expect((await rebooted.list(directory)).sort()).toEqual(['LOCK', 'LOCK.spare'])
  })

  for (const [what, content] of [
    ['empty', ''],
    ['garbage', '\0\0\0\xff'],
    ['of another form', '{"pid":"12"}'],
    ['not an object', 'null'],
    ['without a usable nonce', '{"pid":1,"bootId":"b","startTime":"1","nonce":"../x"}'],
  ] as const) {
    it(`is not taken over when its file is ${what}, and the error says what to do`, async () => {
      const disk = freshDisk()
      await putLock(disk, content)
      const before = disk.contents(`${directory}/LOCK`)
      const error = await failureOf(acquire(disk))
      expect(error.code).toBe('LOCKED')
      expect(error.message).toContain('delete that file')
      expect(await disk.list(directory)).toEqual(['LOCK'])
      expect(disk.contents(`${directory}/LOCK`)).toEqual(before)
    })
  }

  it('does not remove a lock that is not its own', async () => {
    const disk = freshDisk()
    const lock = await acquire(disk)
    await disk.unlink(`${directory}/LOCK`)
    const other = disk.nextProcess()
    const theirs = await acquire(other)
    await lock.release()
    expect(await theirs.isHeld()).toBe(true)
  })

  it('tells a full disk and a failing one', async () => {
    const full = freshDisk({ capacityBytes: 0 })
    expect(await failureOf(acquire(full))).toMatchObject({ code: 'DISK_FULL', retriable: true })
    const failing = freshDisk()
    failing.inject((operation) => (operation.kind === 'link' ? { fail: 'EIO' } : undefined))
    expect(await failureOf(acquire(failing))).toMatchObject({ code: 'IO_FAILED' })
    expect(await failing.list(directory)).toEqual([])
  })

  it('is taken over on a full disk, and again after a release', async () => {
    const disk = freshDisk()
    await acquire(disk)
    disk.processCrash()
    const second = disk.nextProcess()
    second.setFreeBytes(0)
    const lock = await acquire(second)
    second.setFreeBytes(0)
    await lock.release()
    await (await acquire(second)).release()
  })
})

describe('what takers that were killed left behind', () => {
  const takers = ['0a', '0b', '0c'].map((digits) => digits.repeat(12))

  /** Their own files, complete, as of processes that were killed before they had the lock. The last one is of `disk`. */
  async function leave(disk: SimDisk): Promise<void> {
    const dead = disk.nextProcess()
    for (const [index, nonce] of takers.entries()) {
      const { pid, bootId, startTime } = index === takers.length - 1 ? disk : dead
      const file = await disk.create(`${directory}/LOCK.${nonce}.new`)
      await file.write(Buffer.from(JSON.stringify({ pid, bootId, startTime, nonce }).padEnd(512)), 0)
      await file.close()
    }
    dead.processCrash()
  }

  it('is removed by the next one that opens, and what a live one is writing stays', async () => {
    const disk = freshDisk()
    await leave(disk)
    await acquire(disk.nextProcess())
    expect((await disk.list(directory)).sort()).toEqual(['LOCK', `LOCK.${takers[2]}.new`, 'LOCK.spare'])
  })

  it('makes room for the next one on a full disk', async () => {
    const disk = freshDisk()
    await leave(disk)
    disk.setFreeBytes(0)
    const next = disk.nextProcess()
    const lock = await acquire(next)
    // One block for the lock, and one for the spare of the next time.
    expect((await disk.list(directory)).sort()).toEqual(['LOCK', `LOCK.${takers[2]}.new`, 'LOCK.spare'])
    await lock.release()
  })

  it('is no reason to take what a live one is writing', async () => {
    const disk = freshDisk()
    await leave(disk)
    for (const nonce of takers.slice(0, 2)) await disk.unlink(`${directory}/LOCK.${nonce}.new`)
    disk.setFreeBytes(0)
    expect(await failureOf(acquire(disk.nextProcess()))).toMatchObject({ code: 'DISK_FULL', retriable: true })
    expect(await disk.list(directory)).toEqual([`LOCK.${takers[2]}.new`])
  })
})

describe('the kernel lock on top of it', () => {
  it('is held as long as the lock, and refuses by itself', async () => {
    const first = freshDisk()
    const second = first.nextProcess()
    const lock = await acquire(first, true)
    await first.unlink(`${directory}/LOCK`)
    expect((await failureOf(acquire(second, true))).code).toBe('LOCKED')
    await lock.release()
    const next = await acquire(second, true)
    expect(await second.list(directory)).toContain('LOCK.flock')
    await next.release()
    expect(await second.list(directory)).toContain('LOCK.flock')
  })

  it('does not overrule an owner without one, and is given back', async () => {
    const first = freshDisk()
    const second = first.nextProcess()
    const lock = await acquire(first, false)
    const error = await failureOf(acquire(second, true))
    expect(error.message).toContain(`process ${first.pid}`)
    await lock.release()
    await acquire(second, true)
  })
})

type Taking = (environment: Environment) => Promise<Lock>

/**
 * Several processes go for a lock whose owner died, in an order that the seed decides; some of them die on the way,
 * some release it again. Returns how many held it at once at most, and how many got it.
 */
async function race(seed: number, take: Taking, deaths: boolean): Promise<{ most: number; winners: number }> {
  const random = new Random(seed)
  const disk = freshDisk({ seed, latencyMs: (_, latency) => latency.fraction() ** 4 })
  await take(simEnvironment(disk))
  disk.processCrash()

  const holders = new Set<SimDisk>()
  let most = 0
  let winners = 0
  const takers = Array.from({ length: 4 }, () => disk.nextProcess())
  if (deaths) {
    const deathAt = new Map(takers.slice(0, 3).map((taker) => [random.below(70), taker]))
    const begin = disk.steps
    disk.onStep = (step) => {
      const dying = deathAt.get(step - begin)
      dying?.processCrash(seed)
      if (dying !== undefined) holders.delete(dying)
    }
  }
  const outcomes = takers.map(async (taker) => {
    const environment = simEnvironment(taker, { seed })
    await new Promise<void>((resolve) => disk.clock.after(random.fraction(), resolve))
    const lock = await take(environment).catch((error: unknown) => {
      if (error instanceof TidelogError && error.code === 'LOCKED') return undefined
      throw error
    })
    if (lock === undefined) return
    winners++
    holders.add(taker)
    most = Math.max(most, holders.size)
    await new Promise<void>((resolve) => disk.clock.after(random.fraction() * 5, resolve))
    if (random.chance(0.3)) {
      holders.delete(taker)
      await lock.release()
    }
  })
  // The dead never settle: their promises are not waited for.
  const settled = Promise.all(outcomes)
  const patience = new Promise<void>((resolve) => disk.clock.after(1000, resolve))
  await Promise.race([settled, patience])
  if (deaths) {
    disk.onStep = undefined
    for (const taker of takers) taker.processCrash(seed)
    const lock = await take(simEnvironment(disk.nextProcess()))
    expect(await lock.isHeld()).toBe(true)
    expect((await disk.nextProcess().list(directory)).sort()).toEqual(['LOCK', 'LOCK.spare'])
  }
  disk.clock.stop()
  return { most, winners }
}

/** What the protocol of lock-file.ts avoids: see that the owner is dead, unlink, link. */
const naive: Taking = async (environment) => {
  const { disk, processes } = environment
  const nonce = Buffer.from(environment.randomBytes(8)).toString('hex')
  const own = `${directory}/LOCK.${nonce}.new`
  const file = await disk.create(own)
  await file.write(new TextEncoder().encode(JSON.stringify({ ...processes.self(), nonce })), 0)
  await file.close()
  try {
    const reader = await disk.open(`${directory}/LOCK`, 'read')
    const bytes = new Uint8Array(await reader.size())
    await reader.read(bytes, 0, bytes.length, 0)
    await reader.close()
    if (processes.isAlive(JSON.parse(new TextDecoder().decode(bytes)))) throw new TidelogError('LOCKED', 'held')
    await disk.unlink(`${directory}/LOCK`)
  } catch (error) {
    if (error instanceof TidelogError) throw error
  }
  await disk.link(own, `${directory}/LOCK`).catch(() => {
    throw new TidelogError('LOCKED', 'held')
  })
  return {
    nonce,
    takeNames: () => [],
    isHeld: async () => true,
    release: () => disk.unlink(`${directory}/LOCK`).catch(() => undefined),
  }
}

describe('several takers of a stale lock', () => {
  const real: Taking = (environment) => acquireLock(environment, directory)

  it('are never two at once, and one gets it, in 300 interleavings', async () => {
    for (let seed = 0; seed < 300; seed++) {
      const { most, winners } = await race(seed, real, false)
      expect(most, `seed ${seed}`).toBe(1)
      expect(winners, `seed ${seed}`).toBeGreaterThanOrEqual(1)
    }
  })

  it('are never two at once when some die on the way, and leave nothing that the next one cannot take over', async () => {
    for (let seed = 0; seed < 400; seed++) {
      const { most } = await race(seed, real, true)
      expect(most, `seed ${seed}`).toBeLessThanOrEqual(1)
    }
  })

  it('would be two at once if they unlinked what they saw: the interleavings find it', async () => {
    let found = 0
    for (let seed = 0; seed < 300; seed++) if ((await race(seed, naive, false)).most > 1) found++
    expect(found).toBeGreaterThan(0)
  })
})

describe('a lock after a power loss', () => {
  for (const names of ['strict', 'ext4'] as const) {
    it(`can be taken, whatever was lost at whatever step (${names})`, async () => {
      const disk = freshDisk({ names })
      const found: SimDisk[] = []
      disk.onStep = () => {
        for (let seed = 0; seed < 6; seed++) found.push(disk.reboot(seed))
      }
      for (let round = 0; round < 3; round++) {
        const lock = await acquire(disk)
        if (round !== 1) await disk.syncDirectory(directory)
        await lock.release()
      }
      await acquire(disk)
      disk.onStep = undefined
      expect(found.length).toBeGreaterThan(400)
      for (const rebooted of found) {
        const lock = await acquire(rebooted)
        expect(await lock.isHeld()).toBe(true)
        await lock.release()
        expect(await rebooted.list(directory)).toEqual(['LOCK.spare'])
      }
    })
  }
})

describe('the lock file of a real process', () => {
  it('is held against this process, and against a dead one it is not', async () => {
    const real = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-lock-'))
    try {
      const environment = nodeEnvironment()
      const lock = await acquireLock(environment, real)
      expect(await failureOf(acquireLock(environment, real))).toMatchObject({ code: 'LOCKED' })
      const content = JSON.parse(fs.readFileSync(path.join(real, 'LOCK'), 'utf8'))
      await lock.release()
      fs.writeFileSync(path.join(real, 'LOCK'), JSON.stringify({ ...content, startTime: '1', nonce: 'abcdefabcdef' }))
      const next = await acquireLock(environment, real)
      await next.release()
      expect(fs.readdirSync(real)).toEqual(['LOCK.spare'])
    } finally {
      fs.rmSync(real, { recursive: true })
    }
  })
})
