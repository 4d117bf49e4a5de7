/** Files of a log, found by a part of their name, and damaged. */
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'

/** The path of the first one, in the order of names, whose name holds `part`. */
export async function fileIn(directory: string, part: string): Promise<string> {
  return join(directory, (await readdir(directory)).sort().find((name) => name.includes(part))!)
}

/** Flips one bit of the byte at `position`. */
export async function flip(path: string, position: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, position)
    byte[0]! ^= 4
    await file.write(byte, 0, 1, position)
  } finally {
    await file.close()
  }
}
