// The book of the ledger: what became of each record, as the load was told, and what readers saw since. Its rules:
//
// - A record that was acknowledged, or that any reader was given, is there at every later look, with the same LSN, time
//   tick and bytes, unless it was truncated away.
// - One that was answered "not written" is never there. One answered "unknown" may be, once.
// - A batch is there whole or not at all.
// - No record is there twice; in a group, LSNs and time ticks strictly ascend; a lane that promises order keeps it.
// - A watermark W promised to a reader: whatever has a tick up to W was given to it before.

import { laneOf, lanes } from './lanes.mjs'
import { differenceOf } from './record-generator.mjs'

/** What the load was told of a record. */
export const Told = /** @type {const} */ ({ nothing: 0, acknowledged: 1, unknown: 2, notWritten: 3 })

const GROWN_FROM = 1024
const NOT_SEEN = -1
const EXAMPLES_MAX = 20

/** Columns by the record's number, which grow. */
class LaneBook {
  told = new Uint8Array(GROWN_FROM)
  /** Of the last look that saw it. */
  look = new Uint32Array(GROWN_FROM)
  /** Of the last look that had to see it: before that began, it was there. */
  due = new Uint32Array(GROWN_FROM)
  /** Whether the tail was given it. */
  tailed = new Uint8Array(GROWN_FROM)
  /** Where it is, as the acknowledgement or the first reader said. */
  lsn = new Float64Array(GROWN_FROM).fill(NOT_SEEN)
  tick = new BigUint64Array(GROWN_FROM)
  /** Above the highest number that was heard of. */
  end = 0
  /** Batches whose outcome is unknown. */
  /** @type {{ first: number, count: number }[]} */
  unknownBatches = []

  /** @param {number} seq */
  reach(seq) {
    if (seq >= this.end) this.end = seq + 1
    if (seq < this.told.length) return
    const length = Math.max(seq + 1, this.told.length * 2)
    this.told = copied(this.told, new Uint8Array(length))
    this.look = copied(this.look, new Uint32Array(length))
    this.due = copied(this.due, new Uint32Array(length))
    this.tailed = copied(this.tailed, new Uint8Array(length))
    this.lsn = copied(this.lsn, new Float64Array(length).fill(NOT_SEEN))
    this.tick = copied(this.tick, new BigUint64Array(length))
  }
}

export class LedgerBook {
  #generator
  #lanes = lanes.map(() => new LaneBook())
  #lookNumber = 0
  /** Of each group: everything below it may have been truncated. */
  /** @type {Map<number, number>} */
  #floors = new Map()
  #groups
  acknowledgedRecords = 0
  unknownRecords = 0
  notWrittenRecords = 0
  problemCount = 0
  /** The first of them, in words. */
  /** @type {string[]} */
  problems = []

  /** @param {import('./record-generator.mjs').RecordGenerator} generator @param {ReadonlyMap<string, number>} groups */
  constructor(generator, groups) {
    this.#generator = generator
    this.#groups = groups
  }

  /**
   * Records `first` and the `count - 1` behind it were acknowledged with these LSNs and ticks and the ones behind them.
   * @param {number} lane @param {number} first @param {number} count @param {number} lsn @param {bigint} tick
   */
  acknowledged(lane, first, count, lsn, tick) {
    this.acknowledgedRecords += count
    for (let index = 0; index < count; index++) {
      const book = this.#tell(lane, first + index, Told.acknowledged)
      if (book !== null) this.#place(book, lane, first + index, lsn + index, tick + BigInt(index))
    }
  }

  /**
   * @param {number} lane @param {number} first @param {number} count
   * @param {boolean} isUnknown else it was answered "not written"
   */
  failed(lane, first, count, isUnknown) {
    if (isUnknown) this.unknownRecords += count
    else this.notWrittenRecords += count
    const book = /** @type {LaneBook} */ (this.#lanes[lane])
    for (let index = 0; index < count; index++)
      this.#tell(lane, first + index, isUnknown ? Told.unknown : Told.notWritten)
    if (isUnknown && count > 1) book.unknownBatches.push({ first, count })
  }

  /** From now on records below `lsn` in the group of the vchannel may be gone. */
  /** @param {string} vchannel @param {number} lsn */
  truncating(vchannel, lsn) {
    const group = this.#groupOf(vchannel)
    this.#floors.set(group, Math.max(lsn, this.#floors.get(group) ?? 0))
  }

  /** Begins a reading of everything from the beginning. */
  beginLook() {
    this.#lookNumber++
    for (const book of this.#lanes) {
      for (let seq = 0; seq < book.end; seq++) if (book.lsn[seq] !== NOT_SEEN) book.due[seq] = this.#lookNumber
    }
    return new Look(this, this.#lookNumber)
  }

  /** The tail was given a record. */
  /** @param {Order} order of what it was given before @param {import('tidelog').ConsumedRecord} record */
  tailed(order, record) {
    const found = this.#read(order, record, 'the tail')
    if (found === null) return
    if (found.book.tailed[found.seq] === 1) this.problem(`${found.name} was given to the tail twice`)
    found.book.tailed[found.seq] = 1
  }

  /** @param {Look} look @param {Order} order @param {import('tidelog').ConsumedRecord} record @param {bigint} watermark */
  looked(look, order, record, watermark) {
    const found = this.#read(order, record, 'a reader')
    if (found === null) return
    const { book, seq, name } = found
    if (book.look[seq] === look.number) this.problem(`${name} is in the log twice`)
    book.look[seq] = look.number
    if (record.timeTick <= watermark && book.tailed[seq] === 0) {
      this.problem(`${name}, tick ${record.timeTick}, was not given to the tail before its watermark ${watermark}`)
    }
  }

  /** Everything has been read that was durable when the look began: what had to be there and was not seen? */
  /** @param {Look} look */
  endLook(look) {
    for (const [lane, book] of this.#lanes.entries()) {
      const floor = this.#floorOf(lane)
      for (let seq = 0; seq < book.end; seq++) {
        if (book.due[seq] !== look.number || book.look[seq] === look.number) continue
        const lsn = book.lsn[seq] ?? NOT_SEEN
        if (lsn < floor) continue
        const what = book.told[seq] === Told.acknowledged ? 'acknowledged' : 'given to a reader'
        this.problem(`LOST: ${nameOf(lane, seq)}, ${what} with LSN ${lsn}`)
      }
      for (const { first, count } of book.unknownBatches) this.#checkWhole(book, lane, floor, first, count, look.number)
    }
  }

  /** At the very end, when the tail has reached the end as well. */
  checkTail() {
    for (const [lane, book] of this.#lanes.entries()) {
      for (let seq = 0; seq < book.end; seq++) {
        if (book.lsn[seq] === NOT_SEEN || book.tailed[seq] === 1) continue
        this.problem(`${nameOf(lane, seq)}, LSN ${book.lsn[seq]}, was never given to the tail`)
      }
    }
  }

  /** @param {string} line */
  problem(line) {
    this.problemCount++
    if (this.problems.length < EXAMPLES_MAX) this.problems.push(line)
  }

  /** @param {number} lane @param {number} seq @param {number} told @returns {LaneBook | null} */
  #tell(lane, seq, told) {
    const book = /** @type {LaneBook} */ (this.#lanes[lane])
    book.reach(seq)
    if (book.told[seq] !== Told.nothing) {
      this.problem(`${nameOf(lane, seq)} was settled twice`)
      return null
    }
    book.told[seq] = told
    if (told === Told.notWritten && book.lsn[seq] !== NOT_SEEN) this.#notWritten(lane, seq, book.lsn[seq])
    return book
  }

  /** @param {Order} order @param {import('tidelog').ConsumedRecord} record @param {string} who */
  #read(order, record, who) {
    const { vchannel, lsn, timeTick, properties } = record
    const lane = laneOf.get(vchannel)
    const seq = Number(properties.seq)
    if (lane === undefined || !Number.isSafeInteger(seq) || seq < 0) {
      this.problem(`a record that nobody produced: ${vchannel}, LSN ${lsn}`)
      return null
    }
    const name = nameOf(lane, seq)
    const book = /** @type {LaneBook} */ (this.#lanes[lane])
    book.reach(seq)
    const difference = differenceOf(this.#generator.record(lane, seq), record)
    if (difference !== null) this.problem(`CHANGED: ${name}, LSN ${lsn}: ${difference}`)
    const disorder = order.next(this.#groupOf(vchannel), lane, lsn, timeTick, seq)
    if (disorder !== null) this.problem(`${name}, LSN ${lsn}, tick ${timeTick}: ${disorder} (${who})`)
    if (book.told[seq] === Told.notWritten) this.#notWritten(lane, seq, lsn)
    this.#place(book, lane, seq, lsn, timeTick)
    return { book, seq, name }
  }

  /** @param {LaneBook} book @param {number} lane @param {number} seq @param {number} lsn @param {bigint} tick */
  #place(book, lane, seq, lsn, tick) {
    if (book.lsn[seq] === NOT_SEEN) {
      book.lsn[seq] = lsn
      book.tick[seq] = tick
    } else if (book.lsn[seq] !== lsn || book.tick[seq] !== tick) {
      const before = `LSN ${book.lsn[seq]}, tick ${book.tick[seq]}`
      this.problem(`MOVED: ${nameOf(lane, seq)} from ${before} to LSN ${lsn}, tick ${tick}`)
    }
  }

  /** @param {number} lane @param {number} seq @param {number | undefined} lsn */
  #notWritten(lane, seq, lsn) {
    this.problem(`${nameOf(lane, seq)} was answered "not written" and has LSN ${lsn}`)
  }

  /**
   * @param {LaneBook} book @param {number} lane @param {number} floor @param {number} first @param {number} count
   * @param {number} lookNumber
   */
  #checkWhole(book, lane, floor, first, count, lookNumber) {
    let there = 0
    for (let seq = first; seq < first + count; seq++) {
      const lsn = book.lsn[seq] ?? NOT_SEEN
      // Truncation may cut through a batch.
      if (lsn !== NOT_SEEN && lsn < floor) return
      if (book.look[seq] === lookNumber) there++
    }
    if (there > 0 && there < count)
      this.problem(`${there} of the ${count} records of a batch from ${nameOf(lane, first)}`)
  }

  /** @param {string} vchannel @returns {number} */
  #groupOf(vchannel) {
    const group = this.#groups.get(vchannel)
    if (group === undefined) throw new Error(`the group of ${vchannel} is not known`)
    return group
  }

  /** @param {number} lane @returns {number} */
  #floorOf(lane) {
    return this.#floors.get(this.#groupOf(/** @type {{ vchannel: string }} */ (lanes[lane]).vchannel)) ?? 0
  }
}

/** One reading of the whole log. */
export class Look {
  #book
  #order = new Order()
  number

  /** @param {LedgerBook} book @param {number} number */
  constructor(book, number) {
    this.#book = book
    this.number = number
  }

  /** @param {import('tidelog').ConsumedRecord} record @param {bigint} watermark of the tail when the look began */
  read(record, watermark) {
    this.#book.looked(this, this.#order, record, watermark)
  }

  end() {
    this.#book.endLook(this)
  }
}

/** The order in which one reader is given records. */
export class Order {
  /** @type {Map<number, { lsn: number, tick: bigint }>} */
  #groups = new Map()
  #lastSeqs = lanes.map(() => -1)

  /**
   * What is wrong with this one behind the ones before; null: nothing.
   * @param {number} group @param {number} lane @param {number} lsn @param {bigint} tick @param {number} seq
   * @returns {string | null}
   */
  next(group, lane, lsn, tick, seq) {
    const before = this.#groups.get(group)
    this.#groups.set(group, { lsn, tick })
    const lastSeq = this.#lastSeqs[lane] ?? -1
    this.#lastSeqs[lane] = Math.max(lastSeq, seq)
    if (before !== undefined && lsn <= before.lsn) return `its LSN is not above ${before.lsn}`
    if (before !== undefined && tick <= before.tick) return `its tick is not above ${before.tick}`
    if (lanes[lane]?.kind === 'pipelined' && seq < lastSeq) return `it comes behind number ${lastSeq}`
    return null
  }
}

/** @param {number} lane @param {number} seq @returns {string} */
function nameOf(lane, seq) {
  return `${lanes[lane]?.vchannel} number ${seq}`
}

/**
 * @template {Uint8Array | Uint32Array | Float64Array | BigUint64Array} Column
 * @param {Column} from
 * @param {Column} to
 * @returns {Column}
 */
function copied(from, to) {
  to.set(/** @type {any} */ (from))
  return to
}
