/**
 * Tail latency: from the call of `append` to the acknowledgement, and to a follower in the same process that holds the
 * record; one record at a time, and at a steady rate.
 */
import { rmSync } from 'node:fs'
import { prepareFile, rawModes, rawPrepared, wholeSectors } from './harness/raw.mjs'
import { Samples } from './harness/statistics.mjs'
import { MIB, openBenchLog, warmUp } from './harness/warm-log.mjs'

const RECORD_BYTES = 1024
const RAW_FILE_BYTES = 64 * MIB

const cases = [
  { load: 'one at a time', perSecond: 0, followers: 1 },
  { load: '1,000/s', perSecond: 1_000, followers: 1 },
  { load: '20,000/s', perSecond: 20_000, followers: 1 },
  { load: '1,000/s', perSecond: 1_000, followers: 64 },
]

export const tail = {
  name: 'tail',
  summary: 'from append to acknowledgement, and to a follower in the same process',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(1024 * MIB)
    const roundMs = context.roundMs(1) * context.rounds
    const opened = await openBenchLog(context, context.folder('log'), { retention: { bytes: 256 * MIB } })
    const rawPath = `${context.directory}/raw`
    prepareFile(rawPath, RAW_FILE_BYTES)
    await warmUp(opened)
    const rows = []
    for (const { load, perSecond, followers } of cases) {
      await opened.settled()
      const raw = rawModes
        .map((mode) =>
          rawPrepared({
            paths: [rawPath],
            fileBytes: RAW_FILE_BYTES,
            writeBytes: wholeSectors(RECORD_BYTES + 200),
            mode,
            forMs: roundMs * 0.25,
          }),
        )
        .reduce((a, b) => (a.bytesPerSecond >= b.bytesPerSecond ? a : b))
      const run = new TailRun(opened.log, followers)
      await run.appendFor(roundMs, perSecond)
      rows.push({
        load,
        followers,
        records: run.appended,
        ackP50Ms: run.acknowledged.percentile(0.5),
        ackP99Ms: run.acknowledged.percentile(0.99),
        p50Ms: run.delivered.percentile(0.5),
        p99Ms: run.delivered.percentile(0.99),
        rawP50Ms: raw.latencies.percentile(0.5),
        rawP99Ms: raw.latencies.percentile(0.99),
      })
    }
    context.noteDisk()
    await opened.close()
    rmSync(rawPath)
    context.show({
      title: `Tail latency of records of ${RECORD_BYTES} B (${roundMs / 1000} s a row)`,
      columns,
      rows,
      notes: [
        'acknowledged, delivered: from the call of append, p50 and p99. Delivered counts each follower.',
        'raw: one synced write of as many bytes on a prepared file, the faster way. Rates come in steps of a millisecond.',
      ],
    })
  },
}

const columns = [
  { key: 'load', title: 'load', format: 'text' },
  { key: 'followers', title: 'followers', format: 'count' },
  { key: 'records', title: 'records', format: 'count' },
  { key: 'ackP50Ms', title: 'acknowledged p50 ms', format: 'milliseconds' },
  { key: 'ackP99Ms', title: 'p99', format: 'milliseconds' },
  { key: 'p50Ms', title: 'delivered p50 ms', format: 'milliseconds' },
  { key: 'p99Ms', title: 'p99', format: 'milliseconds' },
  { key: 'rawP50Ms', title: 'raw p50 ms', format: 'milliseconds' },
  { key: 'rawP99Ms', title: 'p99', format: 'milliseconds' },
]

class TailRun {
  appended = 0
  acknowledged = new Samples()
  delivered = new Samples()
  #log
  #followers
  /** One each: a signal that many listen to warns. */
  #aborts = []
  /** When the record was given to append; the record carries the index. */
  #beganAt = new Float64Array(1_000_000)
  #deliveries = 0
  #onDelivery = () => {}

  constructor(log, followers) {
    this.#log = log
    this.#followers = followers
  }

  /** One at a time (`perSecond` 0: the next when the last was delivered), or so many a second, whatever settles. */
  async appendFor(forMs, perSecond) {
    const following = Promise.all(Array.from({ length: this.#followers }, () => this.#follow()))
    // A follower ends before it is told to only by an error.
    await Promise.race([following, this.#appendAndWait(forMs, perSecond)])
    for (const abort of this.#aborts) abort.abort()
    await following
  }

  async #appendAndWait(forMs, perSecond) {
    // The followers wait at the end of the log before the first append.
    await new Promise((resolve) => setTimeout(resolve, 20))
    if (perSecond === 0) await this.#oneAtATime(forMs)
    else await this.#steadily(forMs, perSecond)
    await this.#allDelivered()
  }

  async #oneAtATime(forMs) {
    const end = performance.now() + forMs
    while (performance.now() < end) {
      await this.#append()
      await this.#allDelivered()
    }
  }

  async #steadily(forMs, perSecond) {
    const began = performance.now()
    const appends = []
    for (let now = began; now - began < forMs; now = performance.now()) {
      const due = Math.floor(((now - began) / 1000) * perSecond)
      while (this.appended < due) appends.push(this.#append())
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await Promise.all(appends)
  }

  async #append() {
    const number = this.appended++
    const payload = Buffer.allocUnsafe(RECORD_BYTES)
    payload.writeUInt32LE(number)
    const began = performance.now()
    this.#beganAt[number] = began
    await this.#log.append([{ vchannel: 'tail', payload }])
    this.acknowledged.add(performance.now() - began)
  }

  async #allDelivered() {
    while (this.#deliveries < this.appended * this.#followers) {
      await new Promise((resolve) => {
        this.#onDelivery = resolve
      })
    }
  }

  async #follow() {
    const abort = new AbortController()
    this.#aborts.push(abort)
    const { signal } = abort
    try {
      for await (const frame of this.#log.read({ from: 'latest', follow: true, signal })) {
        for (const record of frame) {
          const { payload } = record
          const number = payload[0] + payload[1] * 256 + payload[2] * 65_536
          this.delivered.add(performance.now() - this.#beganAt[number])
          this.#deliveries++
        }
        this.#onDelivery()
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}
