// Produce to a daemon and consume from it: single records, batches, a pipelined producer, and several vchannels at once.
// The daemon runs in this process; `tidelog serve` starts the same one on its own.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, startDaemon } from 'tidelog'

const data = await mkdtemp(join(tmpdir(), 'tidelog-example-'))
// Port 0: any free one.
const daemon = await startDaemon({ data, listen: { host: '127.0.0.1', port: 0 }, http: null })
try {
  const { host, port } = daemon.addresses.tcp
  const client = await connect(`tcp://${host}:${port}`)

  // Settles when the record is durable. The vchannel is created on first use.
  const { lsn, timeTick } = await client.append('orders', {
    properties: { customer: 'c-17' },
    payload: Buffer.from('{"item":"book","count":1}'),
  })
  console.log(`one record: LSN ${lsn}, time tick ${timeTick}`)

  // A batch is one frame: all of it or nothing.
  const batch = await client.appendBatch(
    'orders',
    Array.from({ length: 100 }, (_, index) => ({ payload: Buffer.from(`order ${index}`) })),
  )
  assert.equal(batch.lastLsn - batch.firstLsn, 99)

  // Pipelined: `submit` settles as soon as there is room, `acknowledged` when the record is durable.
  const producer = await client.producer('payments')
  const acknowledgements = []
  for (let index = 0; index < 10_000; index++) {
    const ticket = await producer.submit({ type: 32_768, payload: Buffer.from(`payment ${index}`) })
    acknowledgements.push(ticket.acknowledged)
  }
  const acknowledged = await Promise.all(acknowledgements)
  for (let index = 1; index < acknowledged.length; index++) {
    assert.ok(acknowledged[index].lsn > acknowledged[index - 1].lsn)
    assert.ok(acknowledged[index].timeTick > acknowledged[index - 1].timeTick)
  }
  await producer.close()

  // Everything that is durable by now, from both, then the end. Without `untilCaughtUp` it would follow.
  const counts = { orders: 0, payments: 0 }
  for await (const record of client.consume(['orders', 'payments'], { from: 'earliest', untilCaughtUp: true })) {
    if (record.vchannel === 'payments') {
      assert.equal(Buffer.from(record.payload).toString(), `payment ${counts.payments}`)
      assert.equal(record.type, 32_768)
    }
    counts[record.vchannel]++
  }
  assert.deepEqual(counts, { orders: 101, payments: 10_000 })

  // From a position on: an LSN, or a time tick, which can be compared between vchannels.
  const last = []
  for await (const record of client.consume('orders', { from: { lsn: batch.lastLsn }, limit: 1 })) last.push(record.lsn)
  assert.deepEqual(last, [batch.lastLsn])

  await client.close()
  console.log(`consumed ${counts.orders} orders and ${counts.payments} payments, in order`)
} finally {
  await daemon.stop()
  await rm(data, { recursive: true, force: true })
}
