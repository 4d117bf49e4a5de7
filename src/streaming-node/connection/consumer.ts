/**
 * One consumer of a connection: reads a group from its position on, sends what was asked for as credit and the socket
 * allow, a transaction where its commit stands, and knows when it has sent everything that is durable.
 */
import { TidelogError } from '../../errors.ts'
import type { StoreFrame, StorePosition } from '../../log-store/log-store.ts'
import {
  encodeCaughtUp,
  encodeFrame,
  frameMessageBytes,
  type TransactionPart,
} from '../../protocol/consume-messages.ts'
import { encodeControl } from '../../protocol/control-codec.ts'
import type { ConsumeRequest } from '../../protocol/control-messages.ts'
import { SECTIONS_MAX } from '../../protocol/limits.ts'
import { encodeMessage, MessageType } from '../../protocol/message.ts'
import type { Outbox } from '../../protocol/outbox.ts'
import { paddedTo8 } from '../../protocol/u64.ts'
import { errorToWire } from '../../protocol/wire-error.ts'
import { transactionsOf } from '../../wal/scan/row-roles.ts'
import { TransactionAssembler, type TransactionStep } from '../../wal/scan/transaction-assembler.ts'
import type { NodeService } from '../node-service.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { ConnectionMetrics } from './options.ts'

const ZEROS = Buffer.alloc(8)
const CREDIT_MAX = Number.MAX_SAFE_INTEGER
/** What a consumer keeps of open transactions, where there is so much left for all of them. */
const TRANSACTION_BYTES_MAX = 1024 * 1024

export interface ConsumerOptions {
  id: number
  request: ConsumeRequest
  service: NodeService
  outbox: Outbox
  metrics: ConnectionMetrics
  /** The longest body that the client receives. */
  bodyBytesMax: number
  /** What all consumers of the node may keep of open transactions. */
  transactionBudget: ByteBudget
  onEnd: () => void
}

export class ServerConsumer {
  readonly id: number
  readonly group: number
  /** The LSN at which it ends; null: it follows. */
  readonly until: number | null
  /** A tick need not come more often. */
  readonly ticksEveryMs: number
  readonly #options: ConsumerOptions
  readonly #names: ReadonlySet<string>
  readonly #types: ReadonlySet<number> | null
  readonly #fromTick: bigint
  readonly #abort = new AbortController()
  readonly #transactionBytes: number
  #assembler: TransactionAssembler
  /** Everything below it that was asked for has been sent; null while only a tick is known. */
  #position: number | null
  #creditBytes: number
  #creditFrames: number
  #creditWaiter: (() => void) | null = null
  #stopped = false
  #sentAny = false
  /** CAUGHT_UP was sent and not taken back by a TICK. */
  covered = false

  constructor(options: ConsumerOptions) {
    const { id, request, service } = options
    const { group, from, until } = request
    this.#options = options
    this.id = id
    this.group = group
    this.ticksEveryMs = Math.max(service.timeTickIntervalMs, request.ticksEveryMs ?? 0)
    this.#names = new Set([...request.vchannels, ''])
    this.#types = request.types === undefined ? null : new Set(request.types)
    this.#creditBytes = request.bytes
    this.#creditFrames = request.frames
    this.until = until === undefined ? null : until === 'end' ? service.nextLsn(group) : until
    this.#fromTick = typeof from === 'object' && 'timeTick' in from ? from.timeTick : 0n
    if (from === 'earliest') this.#position = service.firstLsn(group)
    else if (from === 'latest') this.#position = service.nextLsn(group)
    else this.#position = 'lsn' in from ? from.lsn : null
    const { bytesMax, heldBytes } = options.transactionBudget
    // The more there are the less each has; the rest is read again at the commit.
    this.#transactionBytes = Math.min(TRANSACTION_BYTES_MAX, Math.max(0, (bytesMax - heldBytes) >> 3))
    this.#assembler = this.#createAssembler()
  }

  get position(): number | null {
    return this.#position
  }

  credit(bytes: number, frames: number): void {
    this.#creditBytes = Math.min(CREDIT_MAX, this.#creditBytes + bytes)
    this.#creditFrames = Math.min(CREDIT_MAX, this.#creditFrames + frames)
    this.#wakeCredit()
  }

  /** CONSUME_STOP, or the end of the connection. */
  stop(): void {
    this.#stopped = true
    this.#abort.abort()
    this.#wakeCredit()
  }

  /** Runs to its end; never rejects. */
  async run(): Promise<void> {
    const { metrics, outbox, onEnd, id, transactionBudget } = this.#options
    metrics.consumerOpened()
    transactionBudget.take(this.#transactionBytes)
    let end: { code: string; wire: Record<string, string | number | boolean | undefined> }
    try {
      end = await this.#send()
    } catch (error) {
      if (this.#stopped) end = { code: 'CLOSED', wire: { code: 'CLOSED' } }
      else {
        const wire = errorToWire(error) as Record<string, string | number | boolean | undefined>
        end = { code: String(wire.code), wire }
      }
    }
    transactionBudget.give(this.#transactionBytes)
    outbox.send(
      encodeMessage(MessageType.consumeEnd, id, encodeControl({ ...end.wire, nextLsn: this.#position ?? undefined })),
    )
    metrics.consumerClosed(end.code)
    onEnd()
  }

  async #send(): Promise<{ code: string; wire: Record<string, string> }> {
    const { service } = this.#options
    const { group, until } = this
    for (;;) {
      if (this.#stopped) return { code: 'CLOSED', wire: { code: 'CLOSED' } }
      if (until !== null && this.#position !== null && this.#position >= until) {
        return { code: 'OK', wire: { code: 'OK' } }
      }
      const nextLsn = service.nextLsn(group)
      if (this.#position !== null && this.#position >= nextLsn) {
        if (!this.covered) this.#tellCaughtUp(nextLsn)
        await this.#changed()
        continue
      }
      try {
        await this.#readTo(nextLsn)
      } catch (error) {
        // What was the earliest was truncated before anything of it was sent: begin at what is the earliest now.
        const firstLsn = service.firstLsn(group)
        const began = this.#sentAny || this.#options.request.from !== 'earliest'
        if (began || !isTruncated(error) || firstLsn <= this.#position!) throw error
        this.#position = firstLsn
        this.#assembler = this.#createAssembler()
      }
    }
  }

  /** Position and watermark are taken in one turn: every record at or below that tick lies below that LSN. */
  #tellCaughtUp(nextLsn: number): void {
    const { service, outbox, id } = this.#options
    outbox.send(encodeCaughtUp(id, { lsn: nextLsn, timeTick: service.watermark(this.group) }))
    this.covered = true
  }

  /** Sends what is durable now, below `end` at least. */
  async #readTo(end: number): Promise<void> {
    const { service, request } = this.#options
    const from: StorePosition = this.#position === null ? { timeTick: this.#fromTick } : { lsn: this.#position }
    const types = this.#assembler.readTypes
    const options = { from, vchannels: request.vchannels, follow: false, signal: this.#abort.signal }
    const frames = service.reader(this.group).read(types === undefined ? options : { ...options, types })
    for await (const frame of frames) {
      const after = frame.gap === null ? frame.lastLsn + 1 : frame.gap.firstLsn + frame.gap.count
      if (this.until !== null && frame.baseLsn >= this.until) break
      if (frame.kind !== 'tick') {
        if (this.#assembler.passes(frame)) await this.#sendFrame(frame)
        else await this.#sendSteps(frame)
      }
      if (this.#stopped) return
      this.#position = Math.max(this.#position ?? 0, after)
    }
    const sentTo = this.until === null ? end : Math.min(end, this.until)
    this.#position = Math.max(this.#position ?? 0, sentTo)
  }

  async #sendSteps(frame: StoreFrame): Promise<void> {
    for await (const step of this.#assembler.steps(frame)) {
      if (step.kind === 'frame') await this.#sendFrame(step.frame)
      else {
        if (this.until !== null && step.lsn >= this.until) return
        await this.#sendTransaction(step)
      }
      if (this.#stopped) return
      if (step.kind === 'transaction') this.#position = Math.max(this.#position ?? 0, step.lsn + 1)
    }
  }

  /** One part behind: the last one says that it is. Of each only the section that the transaction is of. */
  async #sendTransaction(step: TransactionStep): Promise<void> {
    const names = new Set([step.vchannel])
    const part = { transaction: step.transaction, commitLsn: step.lsn, commitTick: step.timeTick, last: false }
    let held: StoreFrame | null = null
    for await (const frame of step.parts) {
      if (this.#stopped) return
      if (!this.#isWantedPart(frame, step)) continue
      if (held !== null) await this.#sendRecords(held, names, part)
      held = frame
    }
    if (held !== null && !this.#stopped) await this.#sendRecords(held, names, { ...part, last: true })
  }

  #createAssembler(): TransactionAssembler {
    const { service, request } = this.#options
    const { vchannels, types } = request
    return new TransactionAssembler(service.reader(this.group), {
      vchannels,
      types,
      memoryBytes: this.#transactionBytes,
      fromLsn: this.#position ?? undefined,
      fromEarliest: request.from === 'earliest',
      fromTick: this.#fromTick,
      signal: this.#abort.signal,
    })
  }

  async #sendFrame(frame: StoreFrame): Promise<void> {
    if (frame.kind === 'records') {
      if (frame.head === null || frame.lastTimeTick < this.#fromTick || !this.#isWanted(frame)) return
    }
    await this.#sendRecords(frame, this.#names, null)
  }

  async #sendRecords(frame: StoreFrame, names: ReadonlySet<string>, part: TransactionPart | null): Promise<void> {
    const { id, outbox, metrics, bodyBytesMax } = this.#options
    const pieces: Buffer[] = []
    const sections: number[] = []
    const { head } = frame
    let bodyLength = 0
    if (head !== null) {
      const nodeSection = asBuffer(frame.nodeSection)
      pieces.push(head.bytes, nodeSection)
      bodyLength = head.headLength + nodeSection.length
      for (let index = 0; index < head.vchannelCount; index++) {
        const bytes = names.has(head.vchannels[index]!) ? frame.section(index) : null
        if (bytes === null) continue
        sections.push(index)
        const padding = paddedTo8(bytes.length) - bytes.length
        pieces.push(asBuffer(bytes))
        if (padding > 0) pieces.push(ZEROS.subarray(0, padding))
        bodyLength += bytes.length + padding
      }
    }
    if (bodyLength > bodyBytesMax || sections.length > SECTIONS_MAX) {
      throw new TidelogError(
        'LIMIT_EXCEEDED',
        `a frame of ${bodyLength} bytes passes the client's limit of ${bodyBytesMax}`,
        {
          lsn: frame.baseLsn,
        },
      )
    }
    const messageBytes = frameMessageBytes(sections.length, bodyLength, part !== null)
    await this.#mayGo()
    if (this.#stopped) return
    this.#sentAny = true
    this.#creditFrames -= 1
    this.#creditBytes -= messageBytes
    outbox.send(
      encodeFrame(
        id,
        {
          kind: frame.kind === 'gap' ? 'gap' : part === null ? 'records' : 'part',
          baseLsn: frame.gap === null ? frame.baseLsn : frame.gap.firstLsn,
          baseTimeTick: frame.baseTimeTick,
          bodyHash: head === null ? 0n : frame.bodyHash,
          nodeHash: head === null ? 0n : frame.nodeHash,
          recordCount: head === null ? 0 : frame.recordCount,
          headLength: head === null ? 0 : head.headLength,
          nodeLength: head === null ? 0 : frame.nodeSection.length,
          bodyLength: head === null ? 0 : frame.bodyLength,
          gap: frame.gap,
          part,
          sections,
        },
        bodyLength,
      ),
    )
    for (const piece of pieces) outbox.send(piece)
    metrics.delivered(this.group, frame.recordCount, messageBytes)
  }

  #isWanted(frame: StoreFrame): boolean {
    const head = frame.head!
    if (this.#types === null) return head.vchannels.some((name) => this.#names.has(name))
    for (let row = 0; row < head.recordCount; row++) {
      if (this.#types.has(head.type(row)) && this.#names.has(head.vchannels[head.vchannelIndex(row)]!)) return true
    }
    return false
  }

  #isWantedPart(frame: StoreFrame, { transaction, vchannel }: TransactionStep): boolean {
    const head = frame.head!
    const transactions = transactionsOf(head)
    if (transactions === null) return false
    for (let row = 0; row < head.recordCount; row++) {
      const context = head.contextIndex(row)
      if (context < 0 || transactions[context] !== transaction) continue
      if (this.#types !== null && !this.#types.has(head.type(row))) continue
      if (head.vchannels[head.vchannelIndex(row)] === vchannel) return true
    }
    return false
  }

  /** Waits for credit and for room on the connection. */
  async #mayGo(): Promise<void> {
    const { outbox } = this.#options
    while (!this.#stopped) {
      if (this.#creditBytes <= 0 || this.#creditFrames <= 0) {
        await new Promise<void>((resolve) => {
          this.#creditWaiter = resolve
        })
      } else if (!outbox.hasRoom) await outbox.room()
      else return
    }
  }

  #wakeCredit(): void {
    const wake = this.#creditWaiter
    this.#creditWaiter = null
    wake?.()
  }

  /** Settles when the group has changed or the consumer was stopped. */
  #changed(): Promise<void> {
    const { service } = this.#options
    const { signal } = this.#abort
    if (signal.aborted) return Promise.resolve()
    const changed = service.changed(this.group)
    return new Promise((resolve, reject) => {
      const onAbort = () => resolve()
      signal.addEventListener('abort', onAbort, { once: true })
      changed.then(
        () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        },
        (error: unknown) => {
          signal.removeEventListener('abort', onAbort)
          reject(error)
        },
      )
    })
  }
}

function isTruncated(error: unknown): boolean {
  return error instanceof TidelogError && error.code === 'POSITION_TRUNCATED'
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
