// A process with a WAL that appends until it is killed, and says on its standard output what was acknowledged, one line
// of JSON each. Run with the directory, the entry of the build, the options of openWal in JSON, and `all` for
// transactions too, or `truncating` for a log that is kept short instead.
import { writeSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [directory, entry, options, kinds] = process.argv.slice(2)
const { openWal } = await import(pathToFileURL(entry).href)

/** Written at once: what stands in a pipe outlives the process. */
const say = (line) =>
  writeSync(1, `${JSON.stringify(line, (_, value) => (typeof value === 'bigint' ? `${value}` : value))}\n`)

const wal = await openWal(directory, JSON.parse(options))
say({ opened: wal.nextLsn })

let sent = 0
const payload = () => Buffer.from(`${process.pid}/${sent++}`.padEnd(64, '.'))

/** One caller: each of its appends waits for the one before. */
async function plain(vchannel) {
  while (true) {
    const body = payload()
    const { lsn, timeTick } = await wal.append({ vchannel, payload: body })
    say({ lsn, timeTick, payload: `${body}` })
  }
}

async function batches(vchannel) {
  while (true) {
    const bodies = [payload(), payload(), payload()]
    const range = await wal.append(bodies.map((body) => ({ vchannel, payload: body })))
    for (const [index, body] of bodies.entries()) {
      say({ lsn: range.firstLsn + index, timeTick: range.firstTimeTick + BigInt(index), payload: `${body}` })
    }
  }
}

/** The key of the last one that may not have been answered is known to whoever starts the next life. */
async function keyed(vchannel) {
  while (true) {
    const body = payload()
    const idempotencyKey = `key of ${body}`
    say({ trying: idempotencyKey, vchannel, payload: `${body}` })
    const { lsn, timeTick } = await wal.append({ vchannel, payload: body }, { idempotencyKey })
    say({ lsn, timeTick, payload: `${body}`, key: idempotencyKey })
  }
}

async function transactions(vchannel) {
  while (true) {
    const transaction = await wal.begin(vchannel)
    const bodies = [payload(), payload(), payload()]
    say({ begun: transaction.id, bodies: bodies.map(String) })
    for (const body of bodies) await transaction.append({ payload: body })
    const { lsn, timeTick } = await transaction.commit()
    say({ transaction: transaction.id, lsn, timeTick, bodies: bodies.map(String) })
  }
}

/** Goes on with the sequence behind the last one that is in the log. */
async function producer(vchannel) {
  const loader = await wal.producer(vchannel, { id: 'loader' })
  say({ epoch: loader.epoch, lastSequence: loader.lastSequence })
  while (true) {
    const sequence = loader.lastSequence + 1
    const body = Buffer.from(`sequence ${sequence}`)
    const { lsn, timeTick } = await loader.append({ payload: body })
    say({ lsn, timeTick, payload: `${body}`, sequence })
  }
}

/** Never far behind the end, so that the state is in snapshots alone. */
async function truncating(everyMs) {
  while (true) {
    await new Promise((resolve) => setTimeout(resolve, everyMs))
    const truncating = wal.nextLsn - 100
    if (truncating < 50) continue
    say({ truncating })
    await wal.truncateBefore(truncating)
    say({ truncated: wal.firstLsn })
  }
}

const callers = [plain('a'), plain('b'), batches('a'), batches('c'), keyed('k'), keyed('k'), producer('p')]
if (kinds === 'all') callers.push(transactions('t'), transactions('t'))
if (kinds === 'truncating') callers.push(truncating(5))
await Promise.all(callers)
