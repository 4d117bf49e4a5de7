// A write-ahead log with meaning inside your own process: a secondary index, a check, idempotent appends, a transaction.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openWal } from 'tidelog/wal'

const directory = await mkdtemp(join(tmpdir(), 'tidelog-example-'))

/** Where each order stands: kept up by the log itself, in LSN order. */
const lsnOf = new Map()

const interceptors = [
  {
    name: 'orders',
    beforeAppend(message) {
      if (message.properties?.order === undefined) throw new Error('an order has a number')
    },
    afterAppend(message, { lsn }) {
      lsnOf.set(message.properties.order, lsn)
    },
  },
]

const order = (number, text) => ({ vchannel: 'orders', properties: { order: number }, payload: Buffer.from(text) })

try {
  const wal = await openWal(directory, { interceptors })
  const { lsn, timeTick } = await wal.append(order('1', 'two apples'))
  await wal.append([order('2', 'a pear'), order('3', 'plums')])
  assert.equal(lsnOf.get('1'), lsn)
  assert.equal(lsnOf.size, 3)

  // Whoever is not sure whether it got through asks again with the same key.
  const first = await wal.append(order('4', 'figs'), { idempotencyKey: 'order 4' })
  const again = await wal.append(order('4', 'figs'), { idempotencyKey: 'order 4' })
  assert.deepEqual(again, { ...first, duplicate: true })

  // Several messages that are read as one, or not at all.
  const transaction = await wal.begin('orders')
  await transaction.append(order('5', 'grapes'))
  await transaction.append(order('6', 'melons'))
  await transaction.commit()

  await assert.rejects(wal.append({ vchannel: 'orders' }), /an order has a number/)
  await wal.close()

  const opened = await openWal(directory)
  assert.equal((await opened.append(order('4', 'figs'), { idempotencyKey: 'order 4' })).lsn, first.lsn)
  const read = []
  for await (const item of opened.scan({ vchannels: ['orders'] })) {
    const messages = item.kind === 'txn' ? item.messages : [item]
    read.push(messages.map(({ properties }) => properties.order).join('+'))
  }
  assert.deepEqual(read, ['1', '2', '3', '4', '5+6'])

  // Only what came behind the first one.
  const later = []
  for await (const item of opened.scan({ afterTick: timeTick })) later.push(item.lsn)
  assert.equal(later.length, 4)
  await opened.close()

  console.log(`embedded WAL: ${read.join(', ')}`)
} finally {
  await rm(directory, { recursive: true, force: true })
}
