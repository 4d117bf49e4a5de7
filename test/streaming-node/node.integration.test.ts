import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { nodeEnvironment, type WriteMode } from '../../native-free-storage/index.ts'
import { LocalLogs } from '../../src/log-store/local.ts'
import { StreamingNode } from '../../src/streaming-node/node.ts'
import { budget } from '../budget.ts'
import { numberedBody } from '../log-store/encode-body.ts'

const MIB = 1024 * 1024

let directory: string
let logs: LocalLogs

async function openNode(): Promise<StreamingNode> {
  logs = await LocalLogs.begin(nodeEnvironment(), directory, {
    durability: 'disk',
    segmentBytes: MIB,
    cacheBytes: 4 * MIB,
    poolBytes: 8 * MIB,
    queueBytes: 8 * MIB,
    recordBytesMax: MIB,
    writeDeadlineMs: 30_000,
    recovery: 'tail',
    writeMode: (process.env.TIDELOG_TEST_WRITE_MODE as WriteMode | undefined) ?? 'dsync',
    writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
    retentionBytes: null,
    retentionAgeMs: null,
  })
  return await StreamingNode.open({ stores: logs, pchannels: 4 })
}

async function closeNode(node: StreamingNode): Promise<void> {
  await node.close()
  await logs.close()
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'tidelog-node-'))
})

afterEach(() => rm(directory, { recursive: true }))

test('100,000 vchannels on the disk: created, opened again within a bound, in the same places', async () => {
  let node = await openNode()
  for (let wave = 0; wave < 10; wave++) {
    await Promise.all(Array.from({ length: 10_000 }, (_, index) => node.resolve(`tenant-${wave}-${index}`, true)))
  }
  const before = node.vchannels()
  await closeNode(node)
  const start = performance.now()
  node = await openNode()
  expect(performance.now() - start).toBeLessThan(5_000)
  expect(node.vchannels()).toEqual(before)
  expect(node.status().map((status) => status.vchannels)).toEqual([25_000, 25_000, 25_000, 25_000])
  await closeNode(node)
})

test('vchannels created one at a time are written together at the next opening', async () => {
  const count = budget({ small: 1_100, ci: 5_000 })
  let node = await openNode()
  for (let index = 0; index < count; index++) await node.resolve(`v${index}`, true)
  const { group } = await node.resolve('v0', false)
  await node.append(group, await numberedBody('v0', 'x', 3), {}).settled
  const before = node.vchannels()
  await closeNode(node)
  for (const expected of ['rewritten', 'kept']) {
    node = await openNode()
    expect(node.vchannels()).toEqual(before)
    const statistics = logs.logStatistics('catalog')!
    // Two frames at most, for 5,000 entries.
    expect(statistics.appendedFrames).toBe(expected === 'kept' ? 0 : Math.ceil(count / 4096))
    await closeNode(node)
  }
})
