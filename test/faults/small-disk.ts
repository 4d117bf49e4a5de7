/** A small ext4 file system of its own, in an image that is mounted through a loop device. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MIB = 1024 * 1024
/** The smallest that is tried, to see whether it works at all. */
const TRIAL_BYTES = 4 * MIB

export class SmallDisk {
  /** Where it is mounted. */
  readonly path: string
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
    this.path = join(folder, 'mounted')
  }

  /** Throws with what the system said when it cannot be mounted. */
  static mount(bytes: number): SmallDisk {
    const folder = mkdtempSync(join(tmpdir(), 'tidelog-small-'))
    const disk = new SmallDisk(folder)
    try {
      const image = join(folder, 'image')
      writeFileSync(image, '')
      truncateSync(image, bytes)
      mkdirSync(disk.path)
      // Nothing held back for the superuser, as whom these tests run.
      run('mkfs.ext4', '-q', '-F', '-m', '0', image)
      run('mount', '-o', 'loop', image, disk.path)
      return disk
    } catch (error) {
      disk.remove()
      throw error
    }
  }

  freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path)
    return bavail * bsize
  }

  usedPart(): number {
    const { blocks, bavail } = statfsSync(this.path)
    return 1 - bavail / blocks
  }

  /** Unmounts and deletes it, also while a process has it open. Idempotent. */
  remove(): void {
    if (spawnSync('umount', [this.path], { stdio: 'ignore' }).status !== 0) {
      spawnSync('umount', ['-l', this.path], { stdio: 'ignore' })
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Null, or why there can be no small disk. */
export function whyNoSmallDisk(): string | null {
  if (process.getuid?.() !== 0) return 'mounting an image needs root'
  try {
    SmallDisk.mount(TRIAL_BYTES).remove()
    return null
  } catch (error) {
    return `an image cannot be mounted: ${(error as Error).message.split('\n').slice(0, 2).join(' ')}`
  }
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
