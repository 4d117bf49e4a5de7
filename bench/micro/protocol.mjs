#!/usr/bin/env node
// Throughput of the framed protocol over loopback, without a disk: the client library against the server side of a
// connection over the log store in memory, node and client in processes of their own.
//
//   node bench/micro/protocol.mjs [--dist DIR] [--records N]
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { importBuilt } from '../harness/build.mjs'

const MIB = 1024 * 1024
const here = dirname(fileURLToPath(import.meta.url))
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dist: { type: 'string', default: join(here, '..', '..', 'dist') },
    records: { type: 'string', default: '200000' },
  },
})
const dist = resolve(options.dist)

/** What a connection needs of a node, for one log in memory that forgets what was truncated. */
async function runNode() {
  const { MemoryLogs } = await importBuilt(dist, 'src/log-store/memory.js')
  const { serveConnection } = await importBuilt(dist, 'src/streaming-node/connection/serve-connection.js')
  const log = await new MemoryLogs().opener().open('bench', 1)
  const info = { name: 'bench', group: 0, createdMs: 0 }
  const group = () => ({ ...log.status(), group: 0, name: 'bench', ownerTerm: 1, vchannels: 1 })
  const service = {
    accepting: true,
    timeTickIntervalMs: 10,
    resolve: async () => info,
    vchannels: () => [info],
    append: (_, body, appendOptions) => ({
      entered: null,
      settled: log.append(body, appendOptions).then((range) => ({ range, duplicate: false, duplicates: [] })),
    }),
    reader: () => log,
    throttle: () => null,
    onThrottle: () => () => {},
    nextLsn: () => log.nextLsn,
    firstLsn: () => log.firstLsn,
    changed: () => log.changed(),
    watermark: () => log.watermark(),
    sharedTick: () => 0n,
    stirs: () => Number.NaN,
    anyStirs: Number.NaN,
    status: () => [{ ...group(), firstLsn: log.firstLsn, nextLsn: log.nextLsn, watermark: log.watermark() }],
    truncateBefore: async (_, lsn) => {
      await log.truncateBefore(lsn)
      return { firstLsn: log.firstLsn }
    },
  }
  const server = createServer((socket) => serveConnection(socket, service)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send(`tcp://127.0.0.1:${server.address().port}`)
  process.on('disconnect', () => process.exit(0))
}

/** @param {string} name @param {number} records @param {number} recordBytes @param {() => Promise<void>} work */
async function timed(name, records, recordBytes, work) {
  const start = performance.now()
  await work()
  const seconds = (performance.now() - start) / 1000
  const rate = Math.round(records / seconds).toLocaleString('en')
  const mib = ((records * recordBytes) / MIB / seconds).toFixed(0)
  console.log(`${name.padEnd(40)} ${rate.padStart(12)} records/s ${mib.padStart(6)} MiB/s`)
}

async function runClient() {
  const { connect } = await importBuilt(dist, 'src/index.js')
  const child = fork(fileURLToPath(import.meta.url), ['node', '--dist', dist])
  const [address] = await once(child, 'message')
  const client = await connect(address)
  const producer = await client.producer('bench')
  const count = Number(options.records)

  const empty = async () => {
    const { groups } = await client.status()
    await client.truncate('bench', groups[0].nextLsn)
  }
  const batches = async (payload, size, many) => {
    const records = Array.from({ length: size }, () => ({ payload }))
    for (let index = 0; index < many; index++) await producer.submitBatch(records)
    await producer.flush()
  }
  const consume = async (records, recordBytes) => {
    await timed(`consume, ${recordBytes} B`, records, recordBytes, async () => {
      let seen = 0
      for await (const _ of client.consume('bench', { untilCaughtUp: true })) seen++
      if (seen !== records) throw new Error(`${seen} records of ${records} came`)
    })
    await empty()
  }

  await batches(Buffer.alloc(1024), 256, 200)
  await empty()
  for (const recordBytes of [100, 1024]) {
    const payload = Buffer.alloc(recordBytes, 'x')
    await timed(`submit, ${recordBytes} B`, count, recordBytes, async () => {
      for (let index = 0; index < count; index++) await producer.submit({ payload })
      await producer.flush()
    })
    await timed(`append, ${recordBytes} B, 1,024 in flight`, count, recordBytes, async () => {
      let left = count
      const worker = async () => {
        while (left-- > 0) await client.append('bench', { payload })
      }
      await Promise.all(Array.from({ length: 1024 }, worker))
    })
    await consume(2 * count, recordBytes)
  }
  for (const [size, recordBytes] of [
    [1024, 1024],
    [64, 16 * 1024],
    [8192, 100],
  ]) {
    const many = Math.ceil((count * 512) / (size * recordBytes)) + 100
    const payload = Buffer.alloc(recordBytes, 'x')
    await timed(`batches of ${size}, ${recordBytes} B`, size * many, recordBytes, () => batches(payload, size, many))
    await consume(size * many, recordBytes)
  }
  await client.close()
  child.disconnect()
}

if (positionals[0] === 'node') await runNode()
else await runClient()
