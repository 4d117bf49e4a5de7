// A consumer that keeps its place beside its own result, so that it can be stopped anywhere, even together with the
// daemon, and goes on without missing or doubling a record.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, startDaemon } from 'tidelog'

const folder = await mkdtemp(join(tmpdir(), 'tidelog-example-'))
const stateFile = join(folder, 'state.json')
const settings = { data: join(folder, 'data'), listen: { host: '127.0.0.1', port: 0 }, http: null }
let daemon = await startDaemon(settings)
const addressOf = ({ addresses }) => `tcp://${addresses.tcp.host}:${addresses.tcp.port}`

/** Result and place in one file, replaced as a whole: they never disagree. */
async function saveState(state) {
  await writeFile(`${stateFile}.new`, JSON.stringify(state))
  await rename(`${stateFile}.new`, stateFile)
}

async function loadState() {
  try {
    return JSON.parse(await readFile(stateFile, 'utf8'))
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
    return { sum: 0, nextLsn: null }
  }
}

/** Adds up what is in `numbers` until it has seen `count` records more, or the daemon goes away for good. */
async function tail(count) {
  const client = await connect(addressOf(daemon))
  const state = await loadState()
  try {
    const from = state.nextLsn === null ? 'earliest' : { lsn: state.nextLsn }
    for await (const record of client.consume('numbers', { from, limit: count })) {
      state.sum += Number(Buffer.from(record.payload).toString())
      state.nextLsn = record.lsn + 1
      // Every record here; a real consumer saves its place with each batch of its results.
      await saveState(state)
    }
  } finally {
    await client.close()
  }
}

async function produce(numbers) {
  const client = await connect(addressOf(daemon))
  try {
    await client.appendBatch(
      'numbers',
      numbers.map((number) => ({ payload: Buffer.from(String(number)) })),
    )
  } finally {
    await client.close()
  }
}

const range = (from, to) => Array.from({ length: to - from }, (_, index) => from + index)

try {
  await produce(range(0, 50))
  await tail(20)
  assert.equal((await loadState()).sum, (19 * 20) / 2)

  // The consumer was stopped in the middle of a batch; now the daemon goes and comes, too.
  await daemon.stop()
  daemon = await startDaemon(settings)

  // It follows: the rest of the first batch is there, the second one comes while it waits.
  const tailing = tail(80)
  await produce(range(50, 100))
  await tailing
  const { sum } = await loadState()
  assert.equal(sum, (99 * 100) / 2)
  console.log(`a tail that was stopped and resumed added up ${sum}: no record missed, none doubled`)
} finally {
  await daemon.stop()
  await rm(folder, { recursive: true, force: true })
}
