// The fresh consumer that judges:  node read-back.mjs ADDRESS ACKNOWLEDGED_FILE   (started by demo.mjs)
//
// It reads the source again by itself, then everything in the log, and compares word, id, type, LSN, time tick, and the
// vector bit by bit.
import { connect } from 'tidelog'
import { hash64, loadChecksum } from 'tidelog/storage'
import { AcknowledgedWords } from './acknowledged-words.mjs'
import { VECTOR_BYTES, wordVectors } from './word-vectors.mjs'
import { INSERT, RecordSum, vchannelOf, vchannels } from './words.mjs'

const LIMIT_MS = 600_000
const EXAMPLES_MAX = 10

const [address, acknowledgedPath = ''] = process.argv.slice(2)
// Its parent is gone.
const orphaned = () => process.exit(1)
process.once('disconnect', orphaned)

const acknowledged = await AcknowledgedWords.load(acknowledgedPath)
/** @type {string[]} */
const words = []
const vectors = Buffer.allocUnsafe(acknowledged.words * VECTOR_BYTES)
for await (const { id, word, vector } of wordVectors(acknowledged.words)) {
  words.push(word)
  vector.copy(vectors, id * VECTOR_BYTES)
}

const copies = new Uint8Array(acknowledged.words)
const atItsPlace = new Uint8Array(acknowledged.words)
const counts = { records: 0, payloadBytes: 0, missing: 0, changed: 0, repeated: 0, outOfOrder: 0, foreign: 0 }
/** @type {string[]} */
const examples = []
/** @type {Map<string, number>} */
const lastIds = new Map()
const sum = new RecordSum(hash64)

await loadChecksum()
const client = await connect(address, { name: 'demo-read-back' })
const startedMs = performance.now()
const all = client.consume(vchannels, { from: 'earliest', untilCaughtUp: true, signal: AbortSignal.timeout(LIMIT_MS) })
for await (const record of all) {
  counts.records++
  counts.payloadBytes += record.payload.length
  sum.add(record)
  const id = Number(record.properties.id)
  if (!(id in copies)) {
    counts.foreign++
    tell(`a record that nobody produced: ${record.vchannel} LSN ${record.lsn}`)
    continue
  }
  const copy = (copies[id] ?? 0) + 1
  copies[id] = copy
  if (copy > 1) {
    counts.repeated++
    tell(`double: id ${id}, ${record.vchannel} LSN ${record.lsn}`)
  } else if (id <= (lastIds.get(record.vchannel) ?? -1)) counts.outOfOrder++
  lastIds.set(record.vchannel, Math.max(id, lastIds.get(record.vchannel) ?? -1))
  const difference = differenceOf(record, id)
  if (difference !== null) {
    counts.changed++
    tell(`changed: ${difference}, ${record.vchannel} LSN ${record.lsn}, id ${id}`)
  }
  if (acknowledged.isAt(id, record.lsn, record.timeTick)) atItsPlace[id] = 1
}
const tookMs = performance.now() - startedMs

for (let id = 0; id < acknowledged.words; id++) {
  // The place of some is not known: their producer was killed before it could tell.
  if (acknowledged.has(id) ? atItsPlace[id] === 1 : copies[id] === 1) continue
  counts.missing++
  tell(`missing: id ${id}, ${JSON.stringify(words[id])}${copies[id] ? ', there only under another LSN or tick' : ''}`)
}

process.send?.({ ...counts, examples, tookMs, sum: String(sum) })
await client.close()
process.off('disconnect', orphaned)
process.disconnect()

/** @param {import('tidelog').ConsumedRecord} record @param {number} id @returns {string | null} */
function differenceOf(record, id) {
  if (record.type !== INSERT) return `type ${record.type}`
  if (record.vchannel !== vchannelOf(id)) return 'another vchannel'
  if (record.properties.word !== words[id]) return `word ${JSON.stringify(record.properties.word)}`
  if (Object.keys(record.properties).length !== 2) return 'other properties'
  const source = vectors.subarray(id * VECTOR_BYTES, (id + 1) * VECTOR_BYTES)
  return source.equals(record.payload) ? null : 'vector'
}

/** @param {string} line */
function tell(line) {
  if (examples.length < EXAMPLES_MAX) examples.push(line)
}
