import { describe, expect, it } from 'vitest'
import { DiskError, type DiskSpace } from '../../../native-free-storage/disk/disk.ts'
import {
  openSpaceWatch,
  type SpaceLimits,
  type SpaceState,
  type SpaceWatch,
} from '../../../native-free-storage/disk/space-watch.ts'
import { budget } from '../../budget.ts'
import { Random } from '../../simulation/random.ts'
import { SimClock } from '../../simulation/sim-clock.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

const MB = 1e6
const limits: SpaceLimits = { warn: { usedPercent: 80 }, refuse: { usedPercent: 90 } }

/** A file system of 1,000 MB that says what the test wants. */
class Scene {
  readonly clock = new SimClock({ auto: false })
  readonly changes: string[] = []
  usedBytes: number
  asked = 0
  /** How it answers; null: never. */
  answer: (() => DiskSpace | Promise<DiskSpace>) | null = () => this.space()
  watch!: SpaceWatch

  private constructor(usedBytes: number) {
    this.usedBytes = usedBytes
  }

  static async open(usedBytes: number, some: SpaceLimits = limits): Promise<Scene> {
    const scene = new Scene(usedBytes)
    scene.watch = await scene.start(some)
    return scene
  }

  space(): DiskSpace {
    // 5 % are kept for root: in the total, neither used nor free.
    return { totalBytes: 1050 * MB, usedBytes: this.usedBytes, freeBytes: 1000 * MB - this.usedBytes }
  }

  get state(): SpaceState {
    return this.watch.state
  }

  /** Used as it is then; the next look has come and gone. */
  async becomes(usedBytes: number): Promise<SpaceState> {
    this.usedBytes = usedBytes
    await this.clock.advance(5_000)
    return this.state
  }

  async start(some: SpaceLimits): Promise<SpaceWatch> {
    const environment = { ...simEnvironment(new SimDisk({ clock: this.clock })), clock: this.clock }
    const opening = openSpaceWatch(environment, '/data', some, {
      measure: async () => {
        this.asked++
        if (this.answer === null) return await new Promise<DiskSpace>(() => {})
        return this.answer()
      },
      onChange: ({ state }, before) => this.changes.push(`${before} ${state}`),
    })
    await this.clock.advance(1_000)
    return await opening
  }
}

describe('the watch over the room on the disk', () => {
  it('warns at 80 % used, refuses at 90 %, and takes appends again by itself, with a tenth of the room to spare', async () => {
    const scene = await Scene.open(500 * MB)
    expect(scene.state).toBe('ok')
    expect(scene.watch.admit(1000)).toBeNull()
    expect(await scene.becomes(799 * MB)).toBe('ok')
    expect(await scene.becomes(800 * MB)).toBe('warning')
    expect(scene.watch.admit(1000)).toBeNull()
    expect(await scene.becomes(899 * MB)).toBe('warning')
    expect(await scene.becomes(900 * MB)).toBe('refusing')
    expect(scene.watch.admit(1)).toMatchObject({
      code: 'DISK_NEARLY_FULL',
      retriable: true,
      outcome: 'not-written',
      message: expect.stringContaining(
        '/data is 90.0 % full, 100 MB are free: appends are refused until more than 110',
      ),
    })
    expect(await scene.becomes(890 * MB)).toBe('refusing')
    expect(await scene.becomes(889 * MB)).toBe('warning')
    expect(scene.watch.admit(1000)).toBeNull()
    expect(await scene.becomes(780 * MB)).toBe('warning')
    expect(await scene.becomes(779 * MB)).toBe('ok')
    expect(scene.watch.status()).toMatchObject({ usedBytes: 779 * MB, freeBytes: 221 * MB, refusals: 1, message: '' })
    expect(scene.changes).toEqual(['unknown ok', 'ok warning', 'warning refusing', 'refusing warning', 'warning ok'])
  })

  it('looks again within a second while it refuses', async () => {
    const scene = await Scene.open(950 * MB)
    expect(scene.state).toBe('refusing')
    scene.usedBytes = 500 * MB
    await scene.clock.advance(1_000)
    expect(scene.watch.admit(1000)).toBeNull()
  })

  it('goes by free bytes where they are given, and never refuses at 100 % or 0 bytes', async () => {
    const byBytes = { warn: { usedPercent: 80, freeBytes: 20 * MB }, refuse: { usedPercent: 90, freeBytes: 10 * MB } }
    const scene = await Scene.open(979 * MB, byBytes)
    expect(scene.state).toBe('ok')
    expect(await scene.becomes(980 * MB)).toBe('warning')
    expect(await scene.becomes(990 * MB)).toBe('refusing')
    expect(await scene.becomes(988 * MB)).toBe('warning')
    const never = { warn: { usedPercent: 100 }, refuse: { usedPercent: 1, freeBytes: 0 } }
    const off = await Scene.open(1000 * MB, never)
    expect(off.state).toBe('ok')
    expect(off.watch.admit(50 * MB)).toBeNull()
  })

  it('leaves a limit that takes nearly all of the disk again too', async () => {
    const scene = await Scene.open(60 * MB, { warn: { usedPercent: 1 }, refuse: { usedPercent: 5 } })
    expect(scene.state).toBe('refusing')
    expect(await scene.becomes(0)).toBe('ok')
  })

  it('does not ask for each append, and asks sooner while much is written', async () => {
    const scene = await Scene.open(500 * MB)
    for (let index = 0; index < 10_000; index++) {
      expect(scene.watch.admit(100)).toBeNull()
      scene.watch.settled(100)
    }
    expect(scene.asked).toBe(1)
    for (let index = 0; index < 100; index++) {
      expect(scene.watch.admit(4 * MB)).toBeNull()
      scene.watch.settled(4 * MB)
      await scene.clock.advance(1)
    }
    expect(scene.asked).toBeGreaterThan(3)
    expect(scene.asked).toBeLessThan(30)
  })

  it.each([
    ['fails', () => Promise.reject(new DiskError('EIO', 'space', '/data'))],
    ['hangs', null],
  ] as const)('stops nothing when the file system %s: said once, and over when it answers', async (_what, answer) => {
    const scene = await Scene.open(950 * MB)
    expect(scene.state).toBe('refusing')
    const askedBefore = scene.asked
    let release: ((space: DiskSpace) => void) | null = null
    scene.answer = answer === null ? null : answer
    if (answer === null) {
      scene.answer = () =>
        new Promise<DiskSpace>((resolve) => {
          release = resolve
        })
    }
    await scene.clock.advance(20_000)
    expect(scene.state).toBe('unknown')
    expect(scene.watch.admit(500 * MB)).toBeNull()
    scene.watch.settled(500 * MB)
    expect(scene.watch.status().message).toContain('does not say how full it is')
    expect(scene.changes).toEqual(['unknown refusing', 'refusing unknown'])
    // One that hangs is not asked again and again.
    if (answer === null) expect(scene.asked - askedBefore).toBe(1)
    scene.answer = () => scene.space()
    ;(release as ((space: DiskSpace) => void) | null)?.(scene.space())
    await scene.clock.advance(1_000)
    expect(scene.state).toBe('refusing')
  })

  it('opens without an answer too', async () => {
    const scene = await Scene.open(0)
    scene.answer = null
    const other = await scene.start(limits)
    expect(other.state).toBe('unknown')
    expect(other.admit(1)).toBeNull()
  })

  // Appends wait, are written at any time later, and the answer tells of any moment between question and answer.
  it('never lets appends fill the disk between two answers, however they come', async () => {
    const seed = process.env.TIDELOG_SEED ?? String(Date.now())
    const rounds = budget({ small: 60, ci: 1_000, soak: 100_000 })
    for (let round = 0; round < rounds; round++) {
      const random = new Random(`${seed}/${round}`)
      const scene = await Scene.open(random.below(899) * MB)
      scene.answer = () =>
        new Promise<DiskSpace>((resolve) => {
          const snapshotMs = random.below(300)
          scene.clock.after(snapshotMs, () => {
            const space = scene.space()
            scene.clock.after(random.below(300), () => resolve(space))
          })
        })
      let refused = 0
      for (let step = 0; step < 300; step++) {
        const bytes = random.below(random.below(4) === 0 ? 40 * MB : 1 * MB)
        if (scene.watch.admit(bytes) !== null) refused++
        else {
          scene.clock.after(random.below(3_000), () => {
            scene.usedBytes += bytes
            scene.watch.settled(bytes)
          })
        }
        if (random.below(3) === 0) await scene.clock.advance(random.below(500))
        expect(scene.usedBytes, `seed ${seed}, round ${round}, step ${step}`).toBeLessThan(1000 * MB)
      }
      await scene.clock.advance(10_000)
      expect(scene.usedBytes, `seed ${seed}, round ${round}`).toBeLessThan(1000 * MB)
      expect(refused, `seed ${seed}, round ${round}`).toBeGreaterThan(0)
      scene.watch.close()
    }
  })
})
