// Exactly once: a producer with an identity is stopped in the middle of its input, together with the daemon, and begun
// again from the start of the input. And idempotency keys, for callers that keep nothing.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, startDaemon } from 'tidelog'

const data = await mkdtemp(join(tmpdir(), 'tidelog-example-'))
const settings = { data, listen: { host: '127.0.0.1', port: 0 }, http: null }
let daemon = await startDaemon(settings)
const addressOf = ({ addresses }) => `tcp://${addresses.tcp.host}:${addresses.tcp.port}`
const input = Array.from({ length: 1000 }, (_, index) => `line ${index}`)

/** Line n of the input, counted from 1, has sequence n: what the log has is not sent again. */
async function load(until) {
  const client = await connect(addressOf(daemon))
  const producer = await client.producer('lines', { id: 'loader-7' })
  const known = producer.lastSequence
  for (const line of input.slice(known, until)) await producer.submit({ payload: Buffer.from(line) })
  await producer.close()
  await client.close()
  return known
}

try {
  assert.equal(await load(400), 0)
  await daemon.stop()
  daemon = await startDaemon(settings)
  assert.equal(await load(), 400)

  const client = await connect(addressOf(daemon))
  const lines = []
  for await (const { payload } of client.consume('lines', { untilCaughtUp: true })) lines.push(payload.toString())
  assert.deepEqual(lines, input)

  // The key decides: a repeat is answered as the first was. An answer that was lost is no doubt any more.
  const payment = { payload: Buffer.from('{"amount":10}') }
  const first = await client.append('payments', payment, { idempotencyKey: 'order-17' })
  const again = await client.append('payments', payment, { idempotencyKey: 'order-17' })
  assert.deepEqual(again, { ...first, duplicate: true })

  await client.close()
  console.log(`${lines.length} lines are there exactly once; a payment that was made twice stands at LSN ${first.lsn}`)
} finally {
  await daemon.stop()
  await rm(data, { recursive: true, force: true })
}
