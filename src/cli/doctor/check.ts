/** What `doctor` looks at: a closed list of checks. docs/OPERATIONS.md has a row for each; a test keeps both in step. */
export const checkCodes = [
  'DIRECTORY',
  'DESCRIPTOR',
  'DAEMON',
  'LOCK_LEFTOVERS',
  'QUARANTINE',
  'FILE_SYSTEM',
  'MOUNT_OPTIONS',
  'DEVICE',
  'VIRTUAL_MACHINE',
  'SPACE',
  'INODES',
  'SYNC_LATENCY',
  'SYNC_HONESTY',
  'WRITE_WAY',
  'THREADS',
  'OPEN_FILES',
  'KERNEL_LOCK',
  'NODE_VERSION',
  'CLOCK',
] as const

export type CheckCode = (typeof checkCodes)[number]

export interface Check {
  code: CheckCode
  status: 'ok' | 'warn' | 'fail'
  /** A sentence: what was found. */
  message: string
  /** What to do; only where there is something. */
  next?: string
}

export function ok(code: CheckCode, message: string): Check {
  return { code, status: 'ok', message }
}

export function warn(code: CheckCode, message: string, next: string): Check {
  return { code, status: 'warn', message, next }
}

export function fail(code: CheckCode, message: string, next: string): Check {
  return { code, status: 'fail', message, next }
}
