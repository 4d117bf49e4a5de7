/** Keeps a connection: at most one at a time, opened again with backoff when it is lost and somebody needs it. */
import { TidelogError } from '../errors.ts'
import type { Address } from '../protocol/address.ts'
import type { TickMessage } from '../protocol/consume-messages.ts'
import { BODY_BYTES_MAX, RECORD_BYTES_MAX } from '../protocol/limits.ts'
import type { Message, MessageType } from '../protocol/message.ts'
import type { Throttle } from '../protocol/wal-messages.ts'
import { Backoff } from './backoff.ts'
import { ClientConnection } from './connection.ts'
import { KnownTicks } from './known-ticks.ts'
import { abortable, type Settings } from './settings.ts'

/** Hears of connections that come and go. */
export interface SessionListener {
  onConnected?(connection: ClientConnection): void
  onTick?(tick: TickMessage): void
  onThrottle?(throttle: Throttle): void
}

/** These say that trying again is of no use. */
const hopeless: ReadonlySet<string> = new Set(['PROTOCOL_VERSION'])

interface Waiter {
  resolve(connection: ClientConnection): void
  reject(error: TidelogError<string>): void
}

export class Session {
  readonly address: Address
  readonly settings: Settings
  readonly ticks = new KnownTicks()
  readonly #listeners = new Set<SessionListener>()
  readonly #backoff: Backoff
  #connection: ClientConnection | null = null
  #limits = { recordBytesMax: RECORD_BYTES_MAX, bodyBytesMax: BODY_BYTES_MAX }
  #serverName = ''
  #waiters: Waiter[] = []
  #trying = false
  /** When the connection came: one that does not last long is not opened again at once. */
  #sinceMs = 0
  #retryTimer: { cancel(): void } | null = null
  #closed: TidelogError<string> | null = null

  constructor(address: Address, settings: Settings) {
    this.address = address
    this.settings = settings
    this.#backoff = new Backoff(settings.backoffMs, settings.backoffMaxMs, settings.random)
  }

  /** Null while there is none. */
  get connection(): ClientConnection | null {
    return this.#connection
  }

  get closed(): TidelogError<string> | null {
    return this.#closed
  }

  /** What the node takes at most, as the last WELCOME said. */
  get limits(): { recordBytesMax: number; bodyBytesMax: number } {
    return this.#limits
  }

  /** What the node calls itself. */
  get serverName(): string {
    return this.#serverName
  }

  add(listener: SessionListener): void {
    this.#listeners.add(listener)
  }

  remove(listener: SessionListener): void {
    this.#listeners.delete(listener)
  }

  /** The first connection; tries again for `waitForServerMs`. */
  async open(): Promise<void> {
    await this.#try(this.settings.waitForServerMs)
  }

  /** The connection, opened again if need be. Rejects with SERVER_UNREACHABLE after `reconnectTimeoutMs`, or CLOSED. */
  connected(): Promise<ClientConnection> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    if (this.#connection !== null) return Promise.resolve(this.#connection)
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      this.#retry()
    })
  }

  /**
   * Sends a request, again after a lost connection when `repeat` allows it, until `requestTimeoutMs` is over (TIMEOUT).
   */
  async request(
    type: MessageType,
    wanted: MessageType,
    meta: Buffer,
    options: { signal?: AbortSignal | undefined; repeat: boolean },
  ): Promise<Message> {
    const { clock, requestTimeoutMs } = this.settings
    const untilMs = clock.monotonicMs() + requestTimeoutMs
    const deadline = { clock, timeoutMs: requestTimeoutMs, signal: options.signal, what: 'the request' }
    return await abortable(this.#requestUntil(type, wanted, meta, options.repeat, untilMs), deadline)
  }

  async #requestUntil(
    type: MessageType,
    wanted: MessageType,
    meta: Buffer,
    repeat: boolean,
    untilMs: number,
  ): Promise<Message> {
    for (;;) {
      const connection = await this.connected()
      try {
        return await connection.request(type, wanted, meta)
      } catch (error) {
        const lost = error instanceof TidelogError && (error as TidelogError<string>).code === 'CONNECTION_LOST'
        if (!lost || !repeat || this.settings.clock.monotonicMs() >= untilMs) throw error
      }
    }
  }

  /** Ends the connection; everything that waits for one is refused. */
  async close(): Promise<void> {
    const closed = new TidelogError<string>('CLOSED', 'the client is closed', { outcome: 'not-written' })
    this.#closed ??= closed
    this.#retryTimer?.cancel()
    this.#refuse(closed)
    const connection = this.#connection
    this.#connection = null
    await connection?.close()
  }

  #retry(): void {
    if (this.#trying) return
    this.#tryAgain().catch((error: TidelogError<string>) => this.#refuse(error))
  }

  /** Not at once where connections are lost as soon as they come. */
  async #tryAgain(): Promise<void> {
    this.#trying = true
    await this.#sleep(this.#backoff.nextMs())
    await this.#try(this.settings.reconnectTimeoutMs)
  }

  async #try(timeoutMs: number): Promise<void> {
    this.#trying = true
    const { clock } = this.settings
    const untilMs = clock.monotonicMs() + timeoutMs
    try {
      for (;;) {
        if (this.#closed !== null) throw this.#closed
        try {
          const connection = await this.#open()
          if (this.#closed !== null) {
            connection.destroy(this.#closed)
            throw this.#closed
          }
          this.#adopt(connection)
          return
        } catch (error) {
          const known = error as TidelogError<string>
          const leftMs = untilMs - clock.monotonicMs()
          if (this.#closed !== null || hopeless.has(known.code) || leftMs <= 0) throw known
          await this.#sleep(Math.min(leftMs, this.#backoff.nextMs()))
        }
      }
    } finally {
      this.#trying = false
    }
  }

  async #open(): Promise<ClientConnection> {
    const { clock, name, connectTimeoutMs, pingIntervalMs } = this.settings
    const connection: ClientConnection = await ClientConnection.open(
      this.address,
      { clock, name, connectTimeoutMs, pingIntervalMs },
      {
        onLost: (error) => this.#onLost(connection, error),
        onTick: (tick) => {
          for (const { group, timeTick } of tick.groups) this.ticks.raise(group, timeTick)
          for (const listener of this.#listeners) listener.onTick?.(tick)
        },
        onThrottle: (throttle) => {
          for (const listener of this.#listeners) listener.onThrottle?.(throttle)
        },
      },
    )
    return connection
  }

  #adopt(connection: ClientConnection): void {
    this.#sinceMs = this.settings.clock.monotonicMs()
    this.#connection = connection
    const { recordBytesMax, bodyBytesMax, name } = connection.welcome
    this.#limits = { recordBytesMax, bodyBytesMax: Math.min(bodyBytesMax, BODY_BYTES_MAX) }
    this.#serverName = name
    this.settings.onConnection({ state: 'connected' })
    for (const listener of [...this.#listeners]) listener.onConnected?.(connection)
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.resolve(connection)
  }

  #onLost(connection: ClientConnection, error: TidelogError<string>): void {
    if (this.#connection !== connection) return
    this.#connection = null
    const { clock, backoffMaxMs } = this.settings
    if (clock.monotonicMs() - this.#sinceMs >= backoffMaxMs) this.#backoff.reset()
    this.settings.onConnection(this.#closed === null ? { state: 'lost', error } : { state: 'closed' })
    // Those who need it ask again.
  }

  #refuse(error: TidelogError<string>): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.reject(error)
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#retryTimer = null
        resolve()
      }
      const timer = this.settings.clock.after(delayMs, done, true)
      this.#retryTimer = {
        cancel: () => {
          timer.cancel()
          done()
        },
      }
    })
  }
}
