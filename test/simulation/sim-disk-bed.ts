/** What the tests of the simulated disk share: a disk with a directory, durable files, a fault that comes once. */
import { expect } from 'vitest'
import { DiskError } from '../../native-free-storage/disk/disk.ts'
import { type Fault, type OperationKind, SimDisk, type SimDiskOptions } from './sim-disk.ts'

/** With the directory `/d`. */
export function freshDisk(options: SimDiskOptions = {}): SimDisk {
  const disk = new SimDisk({ seed: 1, ...options })
  disk.prepareDirectory('/d')
  return disk
}

export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** A file that is durable with its name. */
export async function durableFile(disk: SimDisk, path: string, content: Uint8Array, sync: 'none' | 'dsync' = 'none') {
  const file = await disk.create(path, sync)
  await file.write(content, 0)
  await file.sync()
  await disk.syncDirectory('/d')
  return file
}

export async function codeOf(attempt: Promise<unknown>): Promise<string> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(DiskError)
  return (error as DiskError).code
}

/** Fails the first operation of a kind. */
export function once(kind: OperationKind, fault: Fault) {
  let used = false
  return (operation: { kind: OperationKind }) => {
    if (used || operation.kind !== kind) return undefined
    used = true
    return fault
  }
}

export async function readAll(disk: SimDisk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read')
  const bytes = new Uint8Array(await file.size())
  await file.read(bytes, 0, bytes.length, 0)
  return bytes
}
