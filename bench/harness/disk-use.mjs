// What a directory takes on the disk.
import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

const BLOCK_BYTES = 512

/**
 * Allocated bytes of everything in it; files that go away meanwhile count as nothing.
 * @param {string} directory
 * @returns {Promise<number>}
 */
export async function diskBytes(directory) {
  let bytes = 0
  const entries = await readdir(directory, { recursive: true }).catch(() => [])
  for (const entry of entries) {
    const found = await lstat(join(directory, entry)).catch(() => null)
    if (found?.isFile()) bytes += found.blocks * BLOCK_BYTES
  }
  return bytes
}

/** Looks at a directory now and then and keeps the most that it saw. */
export class DiskWatch {
  #directory
  #timer
  #looking = false
  peakBytes = 0

  /** @param {string} directory @param {number} intervalMs */
  constructor(directory, intervalMs) {
    this.#directory = directory
    this.#timer = setInterval(() => void this.look(), intervalMs)
    this.#timer.unref()
  }

  async look() {
    if (this.#looking) return
    this.#looking = true
    this.peakBytes = Math.max(this.peakBytes, await diskBytes(this.#directory))
    this.#looking = false
  }

  stop() {
    clearInterval(this.#timer)
  }
}

/** @param {number} bytes @returns {string} */
export function mebibytes(bytes) {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
