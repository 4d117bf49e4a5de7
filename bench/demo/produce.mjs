// The process that produces the words:  node produce.mjs ADDRESS WORDS   (started by demo.mjs, and killed by it)
//
// It keeps nothing: when it is started again it opens its producers by their id, and goes on behind what the log has.
import { connect } from 'tidelog'
import { WordLane } from './word-lane.mjs'
import { wordVectors } from './word-vectors.mjs'
import { recordOf, vchannels } from './words.mjs'

const PRODUCER_ID = 'demo-loader'
const WAIT_FOR_DAEMON_MS = 60_000
/** Acknowledgements that are told at a time. */
const REPORT_WORDS = 512

const [address, words] = process.argv.slice(2)
const send = (/** @type {object} */ message) => process.send?.(message)
// Its parent is gone.
const orphaned = () => process.exit(1)
process.once('disconnect', orphaned)

/** @type {{ ids: number[], lsns: number[], ticks: string[] }} */
let acknowledged = { ids: [], lsns: [], ticks: [] }

function report() {
  if (acknowledged.ids.length === 0) return
  send({ acknowledged })
  acknowledged = { ids: [], lsns: [], ticks: [] }
}

/** @param {number} id @param {number} lsn @param {bigint} timeTick */
function onAcknowledged(id, lsn, timeTick) {
  acknowledged.ids.push(id)
  acknowledged.lsns.push(lsn)
  acknowledged.ticks.push(String(timeTick))
  if (acknowledged.ids.length >= REPORT_WORDS) report()
}

const client = await connect(address, {
  name: 'demo-producer',
  waitForServerMs: WAIT_FOR_DAEMON_MS,
  onConnection: ({ state }) => {
    if (state === 'connected') send({ connected: true })
  },
})
const producers = await Promise.all(vchannels.map((vchannel) => client.producer(vchannel, { id: PRODUCER_ID })))
send({ resumed: producers.map(({ lastSequence }) => lastSequence) })
const lanes = producers.map((producer) => new WordLane(producer, recordOf, onAcknowledged))
for await (const word of wordVectors(Number(words))) {
  const lane = /** @type {WordLane} */ (lanes[word.id % lanes.length])
  await lane.push(word)
}
await Promise.all(lanes.map((lane) => lane.finish()))
report()
await client.close()
send({ done: true })
process.off('disconnect', orphaned)
process.disconnect()
