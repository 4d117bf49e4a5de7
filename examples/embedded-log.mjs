// A write-ahead log inside your own process: append, crash or close, open again, read everything back.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLog } from 'tidelog/storage'

const directory = await mkdtemp(join(tmpdir(), 'tidelog-example-'))

/** A tiny key-value store whose state is what its log says. */
async function openStore() {
  const log = await openLog(directory, { durability: 'disk' })
  const state = new Map()
  for await (const frame of log.read({ from: 'earliest' })) {
    for (const record of frame) {
      const { key } = record.properties
      if (record.type === DELETE) state.delete(key)
      else state.set(key, Buffer.from(record.payload).toString())
    }
  }
  return {
    state,
    log,
    /** Durable before it is visible. */
    async put(key, value) {
      await log.append([{ vchannel: 'store', type: PUT, properties: { key }, payload: Buffer.from(value) }])
      state.set(key, value)
    },
    async delete(key) {
      await log.append([{ vchannel: 'store', type: DELETE, properties: { key } }])
      state.delete(key)
    },
    close: () => log.close(),
  }
}

// 32,768 and up are free for users.
const PUT = 32_768
const DELETE = 32_769

try {
  const first = await openStore()
  await first.put('colour', 'red')
  await first.put('shape', 'round')
  await first.put('colour', 'blue')
  await first.delete('shape')
  // Many callers at once share one write to the disk.
  await Promise.all(Array.from({ length: 100 }, (_, index) => first.put(`key ${index}`, `value ${index}`)))
  await first.close()

  const second = await openStore()
  assert.equal(second.state.size, 101)
  assert.equal(second.state.get('colour'), 'blue')
  assert.equal(second.state.get('shape'), undefined)
  assert.deepEqual([...second.state], [...first.state])

  // One batch is one frame, with dense LSNs and increasing time ticks, and one promise.
  const { firstLsn, lastLsn, firstTimeTick, lastTimeTick } = await second.log.append([
    { vchannel: 'store', type: PUT, properties: { key: 'a' }, payload: Buffer.from('1') },
    { vchannel: 'store', type: PUT, properties: { key: 'b' }, payload: Buffer.from('2') },
  ])
  assert.equal(lastLsn, firstLsn + 1)
  assert.ok(lastTimeTick > firstTimeTick)

  // What a checkpoint has taken care of can go.
  await second.log.truncateBefore(firstLsn)
  const left = []
  for await (const frame of second.log.read({ from: { lsn: firstLsn } }))
    for (const record of frame) left.push(record.lsn)
  assert.deepEqual(left, [firstLsn, lastLsn])
  await second.close()

  console.log(`embedded log: ${first.state.size} keys came back from the log`)
} finally {
  await rm(directory, { recursive: true, force: true })
}
