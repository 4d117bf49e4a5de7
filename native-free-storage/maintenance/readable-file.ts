/** A file of a disk that fails: what cannot be read is zeros, a block at a time, and counted. Reads only. */
import { type DiskFile, isDiskError } from '../disk/disk.ts'
import type { Environment } from '../environment.ts'
import { TidelogError } from '../errors.ts'

const BLOCK_BYTES = 4096

export interface ReadableFile extends DiskFile {
  /** Of the reads so far; a block that was asked for twice counts twice. */
  readonly unreadableBytes: number
}

/** Null: it is not there, or is no file. Throws what the disk throws for another reason. */
export async function openReadable(environment: Environment, path: string): Promise<ReadableFile | null> {
  let file: DiskFile
  try {
    file = await environment.disk.open(path, 'read')
  } catch (error) {
    if (isDiskError(error, 'ENOENT') || isDiskError(error, 'EISDIR')) return null
    throw error
  }
  const refuse = async (): Promise<never> => {
    throw new TidelogError('READ_ONLY', `${path} was opened to be read`)
  }
  const readable = {
    path,
    unreadableBytes: 0,
    async read(target: Uint8Array, offset: number, length: number, position: number): Promise<number> {
      try {
        return await file.read(target, offset, length, position)
      } catch (error) {
        if (!isDiskError(error, 'EIO')) throw error
      }
      const wanted = Math.max(0, Math.min(length, (await file.size()) - position))
      for (let done = 0; done < wanted; ) {
        // To the next whole block: no block is asked for in two reads.
        const part = Math.min(BLOCK_BYTES - ((position + done) % BLOCK_BYTES), wanted - done)
        try {
          await file.read(target, offset + done, part, position + done)
        } catch (error) {
          if (!isDiskError(error, 'EIO')) throw error
          target.fill(0, offset + done, offset + done + part)
          readable.unreadableBytes += part
        }
        done += part
      }
      return wanted
    },
    size: () => file.size(),
    close: () => file.close(),
    write: refuse,
    sync: refuse,
    truncate: refuse,
  }
  return readable
}
