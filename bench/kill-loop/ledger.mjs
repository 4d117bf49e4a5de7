// The ledger:  node ledger.mjs CONFIG   (started by epoch.mjs; CONFIG is JSON)
//
// A process of its own: an acknowledgement counts when it has arrived here. It tails the log all the time, and when its
// parent asks for a look it reads everything from the beginning as a new consumer and compares. The rules are in
// ledger-book.mjs.
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { connect } from 'tidelog'
import { parseLine } from './acknowledgement-line.mjs'
import { vchannels } from './lanes.mjs'
import { LedgerBook, Order } from './ledger-book.mjs'
import { RecordGenerator } from './record-generator.mjs'

const LOOK_LIMIT_MS = 120_000
const CATCH_UP_LIMIT_MS = 60_000
/** What a crash or a stop of the daemon may be answered with; another code is a problem. */
const expectedCodes = new Set(['CONNECTION_LOST', 'FAILED_BEFORE', 'DRAINING'])

/** @type {{ seed: number, address: string, ledger: string }} */
const config = JSON.parse(process.argv[2] ?? '')
const options = { name: 'kill-loop-ledger', waitForServerMs: 60_000, backoffMs: 10, backoffMaxMs: 100 }

// Its parent is gone.
const orphaned = () => process.exit(1)
process.once('disconnect', orphaned)

const client = await connect(config.address, options)
/** @type {Map<string, number>} */
const groups = new Map()
for (const vchannel of vchannels) groups.set(vchannel, (await client.createVchannel(vchannel)).group)
const book = new LedgerBook(new RecordGenerator(config.seed), groups)

/** Of each group, and of all. */
/** @type {Map<number, number>} */
const tailedLsns = new Map()
const endTail = new AbortController()
const tail = client.consume(vchannels, { from: 'earliest', signal: endTail.signal })
const tailing = followTail().catch((error) => {
  if (!endTail.signal.aborted) book.problem(`the tail ended: ${error.stack}`)
})

/**
 * Asked for and not answered: sent again after a restart, one may come while everything is read. Each settles with its
 * answer, or at the client's deadline for a request.
 *
 * @type {Set<Promise<void>>}
 */
const truncationsUnderWay = new Set()

const server = createServer((socket) => {
  const lines = createInterface({ input: socket })
  lines.on('line', take)
  lines.once('close', () => {
    server.close()
  })
}).listen(config.ledger)
await once(server, 'listening')

const commands = /** @type {Record<string, (argument: any) => Promise<object>>} */ ({ look, truncate, finish })
process.on('message', (/** @type {{ command: string, argument: unknown }} */ { command, argument }) => {
  const run = /** @type {(argument: unknown) => Promise<object>} */ (commands[command])
  run(argument)
    .catch((error) => {
      book.problem(`${command} failed: ${error.stack}`)
      return {}
    })
    .then((result) => process.send?.({ ...result, ...summary() }))
})
process.send?.(summary())

/** @param {string} line */
function take(line) {
  const { what, lane, first, count, lsn, tick, code } = parseLine(line)
  if (what === 'a') book.acknowledged(lane, first, count, lsn, tick)
  else {
    book.failed(lane, first, count, what === 'u')
    if (!expectedCodes.has(code)) book.problem(`an append was answered ${code} (${what})`)
  }
}

async function followTail() {
  const order = new Order()
  for await (const record of tail) {
    book.tailed(order, record)
    tailedLsns.set(groups.get(record.vchannel) ?? -1, record.lsn)
  }
  throw new Error('it ended by itself')
}

/** Reads everything that is durable now; anew when a truncation that was asked for overtakes it. */
async function look() {
  for (;;) {
    const askedBefore = truncationsUnderWay.size
    try {
      return await lookOnce()
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : null
      if (code !== 'POSITION_TRUNCATED' || askedBefore === 0) throw error
    }
  }
}

async function lookOnce() {
  const startedMs = performance.now()
  const watermark = tail.watermark()
  const current = book.beginLook()
  // A connection of its own, as a new consumer has one.
  const reader = await connect(config.address, options)
  let records = 0
  let lastTick = 0n
  try {
    const signal = AbortSignal.timeout(LOOK_LIMIT_MS)
    for await (const record of reader.consume(vchannels, { from: 'earliest', untilCaughtUp: true, signal })) {
      current.read(record, watermark)
      records++
      if (record.timeTick > lastTick) lastTick = record.timeTick
    }
    current.end()
  } finally {
    await reader.close()
  }
  return { records, tookMs: performance.now() - startedMs, lastTick: String(lastTick) }
}

/** Truncates a group to a place that the tail has passed. */
/** @param {{ vchannel: string, part: number }} argument `part` from 0 to 1 of what the tail was given */
async function truncate({ vchannel, part }) {
  const lsn = Math.floor((tailedLsns.get(groups.get(vchannel) ?? -1) ?? 0) * part)
  book.truncating(vchannel, lsn)
  // The daemon may be killed meanwhile: whether it comes to it is left open.
  const underWay = client
    .truncate(vchannel, lsn)
    .then(() => {})
    .catch((error) => {
      if (!expectedCodes.has(error.code)) book.problem(`truncate was answered ${error.code}: ${error.message}`)
    })
    .finally(() => {
      truncationsUnderWay.delete(underWay)
    })
  truncationsUnderWay.add(underWay)
  return {}
}

/** The load has ended: the tail must have been given everything. */
async function finish() {
  if (server.listening) await once(server, 'close', { signal: AbortSignal.timeout(CATCH_UP_LIMIT_MS) })
  const result = await look()
  await tail.reached(BigInt(result.lastTick), { signal: AbortSignal.timeout(CATCH_UP_LIMIT_MS) })
  book.checkTail()
  endTail.abort()
  await tailing
  await Promise.all(truncationsUnderWay)
  await client.close()
  process.off('disconnect', orphaned)
  // Behind the answer.
  setImmediate(() => process.disconnect())
  return result
}

function summary() {
  const { acknowledgedRecords, unknownRecords, notWrittenRecords, problemCount, problems } = book
  return { acknowledgedRecords, unknownRecords, notWrittenRecords, problemCount, problems }
}
