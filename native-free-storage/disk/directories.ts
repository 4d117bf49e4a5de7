/** Directories made so that a power loss does not take them away. */
import { type Disk, isDiskError } from './disk.ts'

/** Creates what is missing of the path, each name durable. */
export async function makeDirectories(disk: Disk, directory: string): Promise<void> {
  if (disk.existsSync(directory)) return
  const parent = parentOf(directory)
  await makeDirectories(disk, parent)
  await disk.makeDirectory(directory)
  await disk.syncDirectory(parent)
}

/** A process that died may have made the directory: whoever has begun a log in it has made its name durable. */
export async function makeNameDurable(disk: Disk, directory: string): Promise<void> {
  await disk.syncDirectory(parentOf(directory)).catch((error: unknown) => {
    if (!isDiskError(error, 'EACCES') && !isDiskError(error, 'EPERM')) throw error
  })
}

function parentOf(directory: string): string {
  const slash = directory.lastIndexOf('/')
  return slash < 0 ? '.' : slash === 0 ? '/' : directory.slice(0, slash)
}
