/** Reads a file front to back in large pieces and hands out views of it. */
import type { DiskFile } from '../disk/disk.ts'
import { assert } from '../errors.ts'

const WINDOW_BYTES = 1024 * 1024

export class FileWindow {
  readonly #file: DiskFile
  readonly #fileBytes: number
  #start = 0
  #bytes: Buffer = Buffer.alloc(0)

  constructor(file: DiskFile, fileBytes: number) {
    this.#file = file
    this.#fileBytes = fileBytes
  }

  /** The bytes from `position`, valid until the next call. The range has to lie in the file. */
  async view(position: number, length: number): Promise<Buffer> {
    assert(position + length <= this.#fileBytes, 'a view lies inside the file')
    if (position < this.#start || position + length > this.#start + this.#bytes.length) {
      const wanted = Math.min(Math.max(WINDOW_BYTES, length), this.#fileBytes - position)
      const bytes = Buffer.allocUnsafeSlow(wanted)
      const read = await this.#file.read(bytes, 0, wanted, position)
      // The file shrank meanwhile: what is gone reads as nothing written.
      bytes.fill(0, read)
      this.#start = position
      this.#bytes = bytes
    }
    return this.#bytes.subarray(position - this.#start, position - this.#start + length)
  }
}
