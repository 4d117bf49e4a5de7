/**
 * Throughput of the framed protocol over loopback, without a disk: the client library against the real server side over
 * the log store in memory, node and client in processes of their own.
 *
 *   node --experimental-strip-types bench/micro/protocol.ts
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { connect } from '../../src/client/connect.ts'
import type { Client } from '../../src/client/types.ts'
import { MemoryNode, serve } from '../../test/connection/memory-node.ts'

const MiB = 1024 * 1024

/** The store in memory keeps everything: each case truncates behind itself. */
async function runNode(): Promise<void> {
  const node = await MemoryNode.open(1)
  const served = await serve(node)
  process.send!(served.address)
  process.on('disconnect', () => process.exit(0))
}

function report(name: string, records: number, bytes: number, ms: number): void {
  const rate = Math.round((records / ms) * 1000)
  console.log(
    `${name.padEnd(44)} ${rate.toLocaleString('en').padStart(12)} records/s ${(bytes / MiB / (ms / 1000)).toFixed(0).padStart(6)} MiB/s`,
  )
}

async function timed(name: string, records: number, recordBytes: number, work: () => Promise<unknown>): Promise<void> {
  const start = performance.now()
  await work()
  report(name, records, records * recordBytes, performance.now() - start)
}

async function singles(client: Client, recordBytes: number, count: number): Promise<void> {
  const payload = Buffer.alloc(recordBytes, 'x')
  const producer = await client.producer('bench')
  await timed(`submit ${recordBytes} B, pipelined`, count, recordBytes, async () => {
    for (let index = 0; index < count; index++) await producer.submit({ payload })
    await producer.flush()
  })
  await timed(`append ${recordBytes} B, 1,024 in flight`, count / 2, recordBytes, async () => {
    let left = count / 2
    const worker = async () => {
      while (left-- > 0) await client.append('bench', { payload })
    }
    await Promise.all(Array.from({ length: 1024 }, worker))
  })
}

async function batches(client: Client, recordBytes: number, batch: number, count: number): Promise<void> {
  const payload = Buffer.alloc(recordBytes, 'x')
  const records = Array.from({ length: batch }, () => ({ payload }))
  const producer = await client.producer('bench')
  await timed(`batches of ${batch} x ${recordBytes} B`, count * batch, recordBytes, async () => {
    for (let index = 0; index < count; index++) await producer.submitBatch(records)
    await producer.flush()
  })
}

async function consume(client: Client, recordBytes: number, count: number): Promise<void> {
  let seen = 0
  await timed(`consume ${recordBytes} B`, count, recordBytes, async () => {
    for await (const _ of client.consume('bench', { untilCaughtUp: true })) seen++
  })
  if (seen !== count) throw new Error(`${seen} records of ${count} came`)
}

async function emptied(client: Client): Promise<void> {
  const { groups } = await client.status()
  await client.truncate('bench', groups[0]!.nextLsn)
}

async function main(): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ['node'], { execArgv: process.execArgv })
  const address = await new Promise<string>((resolve) => child.once('message', (message) => resolve(String(message))))
  const client = await connect(address)
  await client.append('bench', {})
  await emptied(client)
  for (const recordBytes of [100, 1024]) {
    const count = 200_000
    await singles(client, recordBytes, count)
    await consume(client, recordBytes, count + count / 2)
    await emptied(client)
  }
  await batches(client, 1024, 1024, 600)
  await consume(client, 1024, 600 * 1024)
  await emptied(client)
  await batches(client, 100, 8192, 100)
  await emptied(client)
  await client.close()
  child.disconnect()
}

if (process.argv[2] === 'node') await runNode()
else await main()
