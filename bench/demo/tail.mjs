// The process that tails the words while they are produced:  node tail.mjs ADDRESS   (started by demo.mjs)
//
// It follows all vchannels through every crash of the daemon, and checks that the client library delivers each record
// once and in order. It ends at the last LSN of each vchannel, which its parent sends when all is produced.
import { connect } from 'tidelog'
import { hash64, loadChecksum } from 'tidelog/storage'
import { RecordSum, vchannels } from './words.mjs'

const REPORT_INTERVAL_MS = 250
const LATENCY_MAX_MS = 60_000
/** The logical counter of a time tick; above it are milliseconds. */
const LOGICAL_BITS = 18n

const [address] = process.argv.slice(2)
const send = (/** @type {object} */ message) => process.send?.(message)

/** @type {Record<string, number> | null} */
let ends = null
let seen = 0
let outOfOrder = 0
let reconnects = -1
let firstMs = 0
const latencies = new Uint32Array(LATENCY_MAX_MS + 1)
/** @type {Map<string, number>} */
const lastLsns = new Map()
const sum = new RecordSum(hash64)
const stop = new AbortController()

const atEnd = () => ends !== null && vchannels.every((name) => (lastLsns.get(name) ?? -1) >= (ends?.[name] ?? -1))

process.on('message', (/** @type {{ ends: Record<string, number> }} */ message) => {
  ends = message.ends
  if (atEnd()) stop.abort()
})
// Its parent is gone.
const orphaned = () => process.exit(1)
process.once('disconnect', orphaned)

await loadChecksum()
const client = await connect(address, {
  name: 'demo-tail',
  onConnection: ({ state }) => {
    if (state === 'connected') reconnects++
  },
})
for (const vchannel of vchannels) await client.createVchannel(vchannel)
send({ seen })
const report = setInterval(() => send({ seen }), REPORT_INTERVAL_MS)

try {
  for await (const record of client.consume(vchannels, { from: 'earliest', signal: stop.signal })) {
    seen++
    if (seen === 1) firstMs = performance.now()
    const latencyMs = Math.round(Date.now() - Number(record.timeTick >> LOGICAL_BITS))
    const bucket = Math.min(Math.max(latencyMs, 0), LATENCY_MAX_MS)
    latencies[bucket] = (latencies[bucket] ?? 0) + 1
    if (record.lsn <= (lastLsns.get(record.vchannel) ?? -1)) outOfOrder++
    lastLsns.set(record.vchannel, record.lsn)
    sum.add(record)
    if (atEnd()) break
  }
} catch (error) {
  if (!stop.signal.aborted) throw error
}

clearInterval(report)
const tookMs = performance.now() - firstMs
send({ done: { seen, outOfOrder, reconnects, tookMs, sum: String(sum), p50Ms: quantile(0.5), p99Ms: quantile(0.99) } })
await client.close()
process.off('disconnect', orphaned)
process.disconnect()

/** @param {number} part @returns {number} */
function quantile(part) {
  let left = seen * part
  for (const [latencyMs, count] of latencies.entries()) {
    left -= count
    if (left <= 0) return latencyMs
  }
  return LATENCY_MAX_MS
}
