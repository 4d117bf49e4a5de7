/** What a lock file says: JSON text, padded with blanks to one sector. */
import type { Environment, ProcessIdentity } from '../environment.ts'
import { type Disk, isDiskError } from './disk.ts'

/** File name in the directory that is locked. */
export const lockName = 'LOCK'
export const lockFileBytes = 512

export interface LockOwner extends ProcessIdentity {
  /** 8 to 64 lower-case hex digits, which never come again. */
  nonce: string
}

/** `unreadable`: it does not say whose it is. */
export type SeenLock = { kind: 'absent' } | { kind: 'unreadable' } | { kind: 'owned'; owner: LockOwner }

/**
 * Who holds the lock of `directory`, for those who only look: null where nobody does. `unreadable`: it does not say.
 * Throws a DiskError when it cannot be read.
 */
export async function lockHolder(
  environment: Environment,
  directory: string,
): Promise<{ pid: number; isAlive: boolean } | 'unreadable' | null> {
  const seen = await lookAtLock(environment.disk, `${directory}/${lockName}`)
  if (seen.kind === 'absent') return null
  if (seen.kind === 'unreadable') return 'unreadable'
  return { pid: seen.owner.pid, isAlive: environment.processes.isAlive(seen.owner) }
}

export function encodeLockOwner(owner: LockOwner): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(owner)}\n`.padEnd(lockFileBytes))
}

/** Throws a DiskError. */
export async function lookAtLock(disk: Disk, path: string): Promise<SeenLock> {
  let bytes: Uint8Array
  try {
    const file = await disk.open(path, 'read')
    try {
      const target = new Uint8Array(lockFileBytes + 1)
      bytes = target.subarray(0, await file.read(target, 0, target.length, 0))
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isDiskError(error, 'ENOENT')) return { kind: 'absent' }
    throw error
  }
  const owner = parseOwner(bytes)
  return owner === undefined ? { kind: 'unreadable' } : { kind: 'owned', owner }
}

function parseOwner(bytes: Uint8Array): LockOwner | undefined {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { pid, bootId, startTime, nonce } = value as Record<string, unknown>
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return undefined
  if (typeof bootId !== 'string' || typeof startTime !== 'string') return undefined
  if (typeof nonce !== 'string' || !/^[0-9a-f]{8,64}$/.test(nonce)) return undefined
  return { pid, bootId, startTime, nonce }
}
