// Transactions: several records become visible together, or not at all; a reader can be stopped in the middle of one.
// The daemon runs in this process; `tidelog serve` starts the same one on its own.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, startDaemon } from 'tidelog'

const data = await mkdtemp(join(tmpdir(), 'tidelog-example-'))
const daemon = await startDaemon({ data, listen: { host: '127.0.0.1', port: 0 }, http: null })
try {
  const { host, port } = daemon.addresses.tcp
  const client = await connect(`tcp://${host}:${port}`)
  const read = async (from = 'earliest') => {
    const records = []
    for await (const record of client.consume('accounts', { from, untilCaughtUp: true })) records.push(record)
    return records
  }
  const book = (account, amount) => ({ properties: { account }, payload: Buffer.from(String(amount)) })

  // Durable one by one, visible by the commit, all with its time tick.
  const transfer = await client.begin('accounts')
  await transfer.append(book('alice', -10))
  await client.append('accounts', book('carol', 1))
  await transfer.append(book('bob', 10))
  assert.deepEqual(
    (await read()).map(({ properties }) => properties.account),
    ['carol'],
  )
  const { timeTick } = await transfer.commit()
  const records = await read()
  assert.deepEqual(
    records.map(({ properties }) => properties.account),
    ['carol', 'alice', 'bob'],
  )
  assert.ok(records.slice(1).every((record) => record.timeTick === timeTick))

  // A position stands behind each record, also in the middle of a transaction.
  const rest = await read(records[1].position)
  assert.deepEqual(
    rest.map(({ properties }) => properties.account),
    ['bob'],
  )

  // Nothing of it is left when it is rolled back, when its process dies, or when one of its records fails.
  const cancelled = await client.begin('accounts')
  await cancelled.append(book('alice', -1000))
  await cancelled.rollback()
  assert.equal((await read()).length, 3)

  await client.close()
  console.log(`a transfer became visible as one at time tick ${timeTick}; a cancelled one never did`)
} finally {
  await daemon.stop()
  await rm(data, { recursive: true, force: true })
}
