/** The options of a client with their defaults, and the one way to wait: with a deadline and an abort. */
import { TidelogError } from '../errors.ts'
import { type ConnectionClock, systemClock } from '../protocol/clock.ts'
import { NAME_BYTES_MAX } from '../protocol/limits.ts'
import { onAbort } from './abort-listeners.ts'
import type { ClientOptions, ConnectionEvent, ThrottleEvent } from './types.ts'

const MiB = 1024 * 1024

export interface Settings {
  name: string
  connectTimeoutMs: number
  waitForServerMs: number
  reconnectTimeoutMs: number
  appendTimeoutMs: number
  requestTimeoutMs: number
  closeTimeoutMs: number
  backoffMs: number
  backoffMaxMs: number
  submitBytes: number
  queueBytes: number
  consumeBytes: number
  pingIntervalMs: number
  random: () => number
  clock: ConnectionClock
  onConnection: (event: ConnectionEvent) => void
  onThrottle: (event: ThrottleEvent) => void
}

const numbers = {
  connectTimeoutMs: 5_000,
  waitForServerMs: 0,
  reconnectTimeoutMs: 60_000,
  appendTimeoutMs: 30_000,
  requestTimeoutMs: 30_000,
  closeTimeoutMs: 10_000,
  backoffMs: 50,
  backoffMaxMs: 5_000,
  submitBytes: 16 * MiB,
  queueBytes: 256 * MiB,
  consumeBytes: 8 * MiB,
  pingIntervalMs: 15_000,
} as const

/** Throws INVALID_ARGUMENT. */
export function settingsOf(options: ClientOptions): Settings {
  const settings: Settings = {
    ...numbers,
    name: options.name ?? 'tidelog-client',
    random: options.random ?? Math.random,
    clock: options.clock ?? systemClock,
    onConnection: options.onConnection ?? (() => {}),
    onThrottle: options.onThrottle ?? (() => {}),
  }
  if (typeof settings.name !== 'string' || Buffer.byteLength(settings.name) > NAME_BYTES_MAX) {
    throw new TidelogError('INVALID_ARGUMENT', `the name of a client is a string of at most ${NAME_BYTES_MAX} bytes`)
  }
  for (const key of Object.keys(numbers) as (keyof typeof numbers)[]) {
    const value = options[key]
    if (value === undefined) continue
    if (typeof value !== 'number' || !(value >= 0)) {
      throw new TidelogError('INVALID_ARGUMENT', `${key} is a number from 0 on, not ${String(value)}`)
    }
    settings[key] = value
  }
  return settings
}

export interface Deadline {
  clock: ConnectionClock
  timeoutMs: number
  signal?: AbortSignal | undefined
  /** For the message. */
  what: string
}

export function abortedError(signal: AbortSignal): TidelogError<string> {
  return new TidelogError<string>('ABORTED', 'aborted by the caller', { cause: signal.reason })
}

/** The promise, or TIMEOUT, or ABORTED: what comes first. */
export function abortable<T>(promise: Promise<T>, { clock, timeoutMs, signal, what }: Deadline): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      promise.catch(() => {})
      reject(abortedError(signal))
      return
    }
    const stopListening =
      signal === undefined
        ? undefined
        : onAbort(signal, () => {
            timer.cancel()
            reject(abortedError(signal))
          })
    const settle = () => {
      timer.cancel()
      stopListening?.()
    }
    const timer = clock.after(Math.min(timeoutMs, 0x7fff_ffff), () => {
      settle()
      reject(
        new TidelogError<string>('TIMEOUT', `${what} was not answered within ${timeoutMs} ms`, { retriable: true }),
      )
    })
    promise.then(
      (value) => {
        settle()
        resolve(value)
      },
      (error: unknown) => {
        settle()
        reject(error)
      },
    )
  })
}
