/** Commands: appends of records, with keys, and of producers with an identity. */
import { expect } from 'vitest'
import { tickOf } from '../../native-free-storage/index.ts'
import { demand } from './log-ledger.ts'
import { type Drawn, messageOf, pick, WalStep, withCode } from './wal-command.ts'
import { KEY_WINDOW_MS, type WalModel } from './wal-model.ts'

export class Append extends WalStep {
  readonly #drawn: readonly Drawn[]
  readonly #how: 'singles' | 'batch'
  readonly #barrierMs: number
  constructor(drawn: readonly Drawn[], how: 'singles' | 'batch', barrierMs: number) {
    super()
    this.#how = how
    // A batch that may become a transaction is of one vchannel.
    this.#drawn = how === 'batch' ? drawn.map((each) => ({ ...each, vchannel: drawn[0]!.vchannel })) : drawn
    this.#barrierMs = barrierMs
  }

  async act(model: WalModel): Promise<void> {
    const { wal, choices } = model
    const made = this.#drawn.map((drawn) => messageOf(model, drawn))
    const messages = made.map(({ message }) => message)
    const barrierTick = this.#barrierMs === 0 ? undefined : wal.watermark() + tickOf(this.#barrierMs)
    if (this.#how === 'singles') {
      const answers = await Promise.all(messages.map((message) => wal.append(message, { barrierTick })))
      for (const [index, answer] of answers.entries()) {
        expect(answer.duplicate).toBe(false)
        demand(answer.timeTick >= (barrierTick ?? 0n), () => 'a tick below its barrier')
        model.addMessage(made[index]!.expected, answer)
      }
      return
    }
    const { firstLsn, lastLsn, firstTimeTick, lastTimeTick } = await wal.append(messages, { barrierTick })
    demand(firstTimeTick >= (barrierTick ?? 0n), () => 'a tick below its barrier')
    if (lastLsn - firstLsn === made.length - 1) {
      for (const [index, { expected }] of made.entries()) {
        model.addMessage(expected, { lsn: firstLsn + index, timeTick: firstTimeTick + BigInt(index) })
      }
      return
    }
    // It did not fit a frame: a transaction by itself, whose last LSN is that of the commit.
    const bytes = made.reduce((sum, { expected }) => sum + expected.text.length, 0)
    demand(bytes > choices.frameBytesMax / 2, () => `a batch of ${bytes} bytes became a transaction`)
    const vchannel = this.#drawn[0]!.vchannel
    const bodies = made.map(({ expected }, index) => ({ ...expected, lsn: index === 0 ? firstLsn : -1 }))
    model.add({ kind: 'txn', lsn: lastLsn, timeTick: lastTimeTick, vchannel, transaction: -1, messages: bodies })
  }

  override toString = () =>
    `${this.#how}(${this.#drawn.map(({ vchannel, type, bytes }) => `${vchannel}/${type}/${bytes}`)}; ${this.#barrierMs})`
}

export class AppendKeyed extends WalStep {
  readonly #drawn: Drawn
  readonly #key: string
  readonly #triedAt: 'unsaid' | 'now' | 'first'
  constructor(drawn: Drawn, key: string, triedAt: 'unsaid' | 'now' | 'first') {
    super()
    this.#drawn = drawn
    this.#key = key
    this.#triedAt = triedAt
  }

  override get looks(): boolean {
    return true
  }

  async act(model: WalModel): Promise<void> {
    const { expected, message } = messageOf(model, this.#drawn)
    const name = `${this.#drawn.vchannel} ${this.#key}`
    const first = model.keys.get(name)
    const now = model.wal.watermark()
    // What a caller knew before its first try.
    const known = first === undefined ? now : first.timeTick - 1n
    const firstTriedAt = this.#triedAt === 'unsaid' ? undefined : this.#triedAt === 'now' ? now : known
    const answer = await model.wal
      .append(message, { idempotencyKey: this.#key, firstTriedAt })
      .catch((error: unknown) => {
        expect(error).toEqual(withCode('KEY_FORGOTTEN'))
        return null
      })
    const isYoung = first !== undefined && now - first.timeTick < tickOf(KEY_WINDOW_MS)
    if (answer === null) {
      // Only of what may have been written so long ago that nobody knows.
      demand(this.#triedAt === 'first' && first !== undefined && !isYoung, () => 'a key is forgotten too early')
      return
    }
    if (answer.duplicate) {
      expect(answer).toEqual({ ...first, duplicate: true })
      return
    }
    demand(!isYoung, () => `key ${name} is written twice, at LSN ${first?.lsn} and ${answer.lsn}`)
    demand(
      first === undefined || this.#triedAt !== 'first',
      () => `key ${name} counts as new though it was tried before`,
    )
    model.addMessage(expected, answer)
    model.keys.set(name, { lsn: answer.lsn, timeTick: answer.timeTick })
  }

  override toString = () => `keyed(${this.#drawn.vchannel}, ${this.#key}, ${this.#triedAt})`
}

export class OpenProducer extends WalStep {
  readonly #vchannel: string
  readonly #id: string
  constructor(vchannel: string, id: string) {
    super()
    this.#vchannel = vchannel
    this.#id = id
  }

  async act(model: WalModel): Promise<void> {
    const handle = await model.wal.producer(this.#vchannel, { id: this.#id })
    const producer = model.producer(this.#vchannel, this.#id)
    demand(handle.epoch > producer.epoch, () => `epoch ${handle.epoch} after ${producer.epoch}`)
    expect(handle.lastSequence).toBe(producer.written.length)
    producer.epoch = handle.epoch
    producer.handles.push(handle)
  }

  override toString = () => `producer(${this.#vchannel}, ${this.#id})`
}

type Sequenced = 'next' | 'repeat' | 'gap' | 'stale' | 'aborted'

export class AppendSequenced extends WalStep {
  readonly #share: number
  readonly #what: Sequenced
  readonly #bytes: number
  constructor(share: number, what: Sequenced, bytes: number) {
    super()
    this.#share = share
    this.#what = what
    this.#bytes = bytes
  }

  override check(model: Readonly<WalModel>): boolean {
    return [...model.producers.values()].some(({ handles }) => handles.length > (this.#what === 'stale' ? 1 : 0))
  }

  async act(model: WalModel): Promise<void> {
    const minimum = this.#what === 'stale' ? 2 : 1
    const able = [...model.producers.values()].filter(({ handles }) => handles.length >= minimum)
    const producer = pick(able, this.#share)!
    const { vchannel, written } = producer
    const handle = this.#what === 'stale' ? producer.handles[0]! : producer.handles.at(-1)!
    const { expected, message } = messageOf(model, { vchannel, type: 0, bytes: this.#bytes })
    const next = written.length + 1
    if (this.#what === 'next') {
      const answer = await handle.append(message)
      expect(answer).toMatchObject({ sequence: next, duplicate: false })
      written.push({ lsn: answer.lsn, timeTick: answer.timeTick })
      model.addMessage(expected, answer)
      expect(handle.lastSequence).toBe(next)
    } else if (this.#what === 'stale') {
      await expect(handle.append(message, { sequence: next })).rejects.toEqual(withCode('PRODUCER_FENCED'))
    } else if (this.#what === 'aborted') {
      // Not written: the next one has its sequence.
      await expect(handle.append(message, { signal: AbortSignal.abort() })).rejects.toEqual(withCode('ABORTED'))
    } else if (this.#what === 'gap') {
      await expect(handle.append(message, { sequence: next + 1 })).rejects.toEqual(withCode('SEQUENCE_GAP'))
    } else if (written.length > 0) {
      const sequence = 1 + Math.floor((this.#share * written.length) / 1_000)
      const answer = await handle.append(message, { sequence })
      expect(answer).toEqual({ ...written[sequence - 1]!, sequence, duplicate: true })
    }
  }

  override toString = () => `sequenced(${this.#what}, ${this.#share})`
}
