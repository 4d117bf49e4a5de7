/**
 * A decoder of the state of a WAL, written from FORMAT 12.1 alone: nothing of the code that it is compared with, and no
 * library of msgpack.
 */

/** The fields in the order of the document; ticks and hashes are bigints. */
export interface DocumentedState {
  version: number
  open: {
    transaction: number
    vchannel: string
    keepaliveMs: number
    bodies: number
    bytes: number
    hash: bigint
  }[]
  ended: { transaction: number; outcome: number; lsn: number; timeTick: bigint }[]
  spans: { commit: number; begin: number }[]
  lostBelow: number
  producers: {
    vchannel: string
    name: string
    producer: number
    epoch: number
    lastSequence: number
    lastLsn: number
    lastTimeTick: bigint
    window: { firstSequence: number; count: number; firstLsn: number; firstTimeTick: bigint }[]
  }[]
  keyFloor: bigint
  keys: {
    vchannel: string
    horizon: bigint
    places: { key: string; lsn: number; timeTick: bigint }[]
  }[]
}

const KEYS = ['version', 'transactions', 'lostBelow', 'producers', 'keyFloor', 'keys']

/** Throws an Error for bytes that are not as the document has them: also for a form that is not the one it names. */
export function readDocumentedState(bytes: Buffer): DocumentedState {
  const reader = new Reader(bytes)
  reader.map(KEYS.length)
  const field = (name: string): void => {
    const key = reader.text()
    if (key !== name) throw new Error(`the key "${key}" stands where "${name}" should`)
  }
  field('version')
  const version = reader.integer()
  field('transactions')
  reader.arrayOf(3)
  const open = reader.items(() => {
    reader.arrayOf(6)
    return {
      transaction: reader.integer(),
      vchannel: reader.text(),
      keepaliveMs: reader.integer(),
      bodies: reader.integer(),
      bytes: reader.integer(),
      hash: reader.wide(),
    }
  })
  const ended = reader.items(() => {
    reader.arrayOf(4)
    return {
      transaction: reader.integer(),
      outcome: reader.integer(),
      lsn: reader.integer(),
      timeTick: reader.wide(),
    }
  })
  const spans = reader.flat(2, () => ({ commit: reader.integer(), begin: reader.integer() }))
  field('lostBelow')
  const lostBelow = reader.integer()
  field('producers')
  const producers = reader.items(() => {
    reader.arrayOf(8)
    return {
      vchannel: reader.text(),
      name: reader.text(),
      producer: reader.integer(),
      epoch: reader.integer(),
      lastSequence: reader.integerOrMinusOne(),
      lastLsn: reader.integer(),
      lastTimeTick: reader.wide(),
      window: reader.flat(4, () => ({
        firstSequence: reader.integer(),
        count: reader.integer(),
        firstLsn: reader.integer(),
        firstTimeTick: reader.wide(),
      })),
    }
  })
  field('keyFloor')
  const keyFloor = reader.wide()
  field('keys')
  const keys = reader.items(() => {
    reader.arrayOf(3)
    return {
      vchannel: reader.text(),
      horizon: reader.wide(),
      places: reader.flat(3, () => ({ key: reader.text(), lsn: reader.integer(), timeTick: reader.wide() })),
    }
  })
  reader.end()
  return { version, open, ended, spans, lostBelow, producers, keyFloor, keys }
}

/** The forms of msgpack that the document names, each only where no shorter one would do. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw this.#unexpected('the end')
  }

  map(count: number): void {
    if (this.#take(1).readUInt8() !== 0x80 + count) throw this.#unexpected(`a map of ${count}`)
  }

  arrayOf(count: number): void {
    if (this.#array() !== count) throw this.#unexpected(`an array of ${count}`)
  }

  items<T>(item: () => T): T[] {
    return Array.from({ length: this.#array() }, item)
  }

  /** Items whose fields stand one after the other in one array. */
  flat<T>(fields: number, item: () => T): T[] {
    const count = this.#array()
    if (count % fields !== 0) throw this.#unexpected(`an array of a multiple of ${fields}`)
    return Array.from({ length: count / fields }, item)
  }

  text(): string {
    const lead = this.#take(1).readUInt8()
    if (lead >= 0xa0 && lead <= 0xbf) return this.#utf8(lead - 0xa0)
    if (lead === 0xd9) return this.#utf8(this.#above(31, this.#take(1).readUInt8()))
    if (lead === 0xda) return this.#utf8(this.#above(255, this.#take(2).readUInt16BE()))
    throw this.#unexpected('text')
  }

  integer(): number {
    const lead = this.#take(1).readUInt8()
    if (lead <= 0x7f) return lead
    if (lead === 0xcc) return this.#above(0x7f, this.#take(1).readUInt8())
    if (lead === 0xcd) return this.#above(0xff, this.#take(2).readUInt16BE())
    if (lead === 0xce) return this.#above(0xffff, this.#take(4).readUInt32BE())
    if (lead === 0xcb) return this.#above(0xffffffff, this.#take(8).readDoubleBE())
    throw this.#unexpected('an integer')
  }

  integerOrMinusOne(): number {
    if (this.#bytes[this.#at] !== 0xff) return this.integer()
    this.#at++
    return -1
  }

  /** A tick or a hash. */
  wide(): bigint {
    const lead = this.#take(1).readUInt8()
    if (lead === 0xd3) {
      const value = this.#take(8).readBigInt64BE()
      if (value >= 0n) return value
    }
    if (lead === 0xcf) {
      const value = this.#take(8).readBigUInt64BE()
      if (value >= 2n ** 63n) return value
    }
    throw this.#unexpected('an integer of 64 bits')
  }

  #array(): number {
    const lead = this.#take(1).readUInt8()
    if (lead >= 0x90 && lead <= 0x9f) return lead - 0x90
    if (lead === 0xdc) return this.#above(15, this.#take(2).readUInt16BE())
    if (lead === 0xdd) return this.#above(0xffff, this.#take(4).readUInt32BE())
    throw this.#unexpected('an array')
  }

  #above(bound: number, value: number): number {
    if (!Number.isSafeInteger(value) || value <= bound) throw this.#unexpected('a shorter form')
    return value
  }

  #utf8(length: number): string {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.#take(length))
  }

  #take(length: number): Buffer {
    const from = this.#at
    this.#at += length
    if (this.#at > this.#bytes.length) throw this.#unexpected('more bytes')
    return this.#bytes.subarray(from, this.#at)
  }

  #unexpected(wanted: string): Error {
    return new Error(`${wanted} does not stand before offset ${this.#at}`)
  }
}
