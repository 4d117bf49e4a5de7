// The load:  node load.mjs CONFIG   (started by epoch.mjs; CONFIG is JSON)
//
// It appends to every lane without a stop, whatever becomes of the daemon, and sends each outcome to the ledger's
// process. A record's number is used once: what fails is not sent again by this program (the client library sends again
// what it knows was not written). It ends when its parent says so, with every append settled.
import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import { connect } from 'tidelog'
import { pause } from '../harness/deadline.mjs'
import { Random } from '../harness/random.mjs'
import { OutcomeWriter } from './acknowledgement-line.mjs'
import { lanes } from './lanes.mjs'
import { RecordGenerator } from './record-generator.mjs'

const CONNECT_LIMIT_MS = 60_000
const SINGLES_IN_FLIGHT = 64
const PIPELINED_IN_FLIGHT = 512
const BATCHES_IN_FLIGHT = 3
const BATCH_RECORDS_MAX = 100

/** @type {{ seed: number, address: string, ledger: string, bytesPerSecond: number }} */
const config = JSON.parse(process.argv[2] ?? '')
const generator = new RecordGenerator(config.seed)

let stopping = false
process.on('message', () => {
  stopping = true
})
// Its parent is gone.
const orphaned = () => process.exit(1)
process.once('disconnect', orphaned)

const socket = connectSocket(config.ledger)
await once(socket, 'connect')
const outcomes = new OutcomeWriter(socket)
const client = await connect(config.address, {
  name: 'kill-loop-load',
  // It may be killed before this process has come so far.
  waitForServerMs: CONNECT_LIMIT_MS,
  backoffMs: 10,
  backoffMaxMs: 100,
})

const startedMs = performance.now()
let bytes = 0

await Promise.all(lanes.map((_, lane) => runLane(lane)))
await client.close()
await outcomes.end()
process.off('disconnect', orphaned)
process.disconnect()

/** @param {number} lane */
async function runLane(lane) {
  const { vchannel, kind } = /** @type {(typeof lanes)[number]} */ (lanes[lane])
  const random = new Random(config.seed + lane)
  const producer = kind === 'pipelined' ? await client.producer(vchannel) : null
  const limit = { single: SINGLES_IN_FLIGHT, pipelined: PIPELINED_IN_FLIGHT, batch: BATCHES_IN_FLIGHT }[kind]
  /** @type {Set<Promise<void>>} */
  const inFlight = new Set()
  for (let first = 0; !stopping; ) {
    await outcomes.room()
    await keepPace()
    while (inFlight.size >= limit) await Promise.race(inFlight)
    const count = kind === 'batch' ? random.between(1, BATCH_RECORDS_MAX) : 1
    const records = Array.from({ length: count }, (_, index) => generator.record(lane, first + index))
    for (const { payload } of records) bytes += payload?.length ?? 0
    const [record] = /** @type {[import('./record-generator.mjs').GeneratedRecord]} */ (records)
    if (kind === 'batch') track(inFlight, lane, first, count, client.appendBatch(vchannel, records))
    else if (producer === null) track(inFlight, lane, first, count, client.append(vchannel, record))
    else track(inFlight, lane, first, count, (await producer.submit(record)).acknowledged)
    first += count
  }
  await Promise.all(inFlight)
}

/**
 * @param {Set<Promise<void>>} inFlight @param {number} lane @param {number} first @param {number} count
 * @param {Promise<import('tidelog').Appended | import('tidelog').AppendedBatch>} acknowledged
 */
function track(inFlight, lane, first, count, acknowledged) {
  const settled = acknowledged.then(
    (range) => {
      const [lsn, tick] = 'lsn' in range ? [range.lsn, range.timeTick] : [range.firstLsn, range.firstTimeTick]
      outcomes.write({ what: 'a', lane, first, count, lsn, tick, code: '' })
      inFlight.delete(settled)
    },
    (error) => {
      const what = error.outcome === 'not-written' ? 'n' : 'u'
      outcomes.write({ what, lane, first, count, lsn: 0, tick: 0n, code: error.code ?? String(error) })
      inFlight.delete(settled)
    },
  )
  inFlight.add(settled)
}

/** So that the disk use of a round is bounded. */
async function keepPace() {
  const aheadMs = (bytes / config.bytesPerSecond) * 1000 - (performance.now() - startedMs)
  if (aheadMs > 1) await pause(Math.min(aheadMs, 100))
}
