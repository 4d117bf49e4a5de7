import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Environment, nodeEnvironment, type WriteMode } from '../../native-free-storage/index.ts'
import { LocalLogs, type LocalLogsOptions } from '../../src/log-store/local.ts'
import { logStoreConformance } from '../conformance/log-store.ts'
import { numberedBody } from './encode-body.ts'
import { FaultyDisk } from './faulty-disk.ts'

const MIB = 1024 * 1024

/** Small files and no probe: what is tested here is the port. */
const options: LocalLogsOptions = {
  durability: 'disk',
  segmentBytes: MIB,
  cacheBytes: 4 * MIB,
  poolBytes: 4 * MIB,
  queueBytes: 4 * MIB,
  recordBytesMax: MIB,
  writeDeadlineMs: 30_000,
  recovery: 'tail' as const,
  writeMode: (process.env.TIDELOG_TEST_WRITE_MODE as WriteMode | undefined) ?? 'dsync',
  writeDepth: Number(process.env.TIDELOG_TEST_WRITE_DEPTH ?? 2),
  retentionBytes: null,
  retentionAgeMs: null,
}

for (const durability of ['disk', 'os'] as const) {
  logStoreConformance(`the engine, durability ${durability}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'tidelog-store-'))
    const real = nodeEnvironment()
    const faulty = new FaultyDisk(real.disk)
    const begun: Promise<LocalLogs>[] = []
    return {
      opener() {
        // To each of them all others are dead: so an owner can be overtaken within one process.
        const environment: Environment = {
          ...real,
          disk: faulty.disk,
          processes: { self: () => real.processes.self(), isAlive: () => false },
        }
        const logs = LocalLogs.begin(environment, directory, { ...options, durability })
        begun.push(logs)
        return { open: async (name, ownerTerm) => (await logs).open(name, ownerTerm) }
      },
      holdFlushes: () => faulty.hold(),
      failNextFlush: () => faulty.failNext(),
      async dispose() {
        for (const logs of begun) await (await logs).close().catch(() => {})
        await rm(directory, { recursive: true })
      },
    }
  })
}

test('while appends are refused for want of room no file is prepared, and afterwards they are', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-store-'))
  const logs = await LocalLogs.begin(nodeEnvironment(), directory, options)
  try {
    logs.setRefusing(true)
    const store = await logs.open('0', 0)
    // What was admitted before goes on, and asks the pool for files.
    for (let index = 0; index < 200; index++) await store.append(await numberedBody('orders', `${index}`, 1))
    expect(logs.poolStatistics().preparedBytes).toBe(0)
    logs.setRefusing(false)
    const deadline = performance.now() + 30_000
    while (logs.poolStatistics().preparedBytes === 0) {
      expect(performance.now()).toBeLessThan(deadline)
      await store.append(await numberedBody('orders', 'more', 1))
    }
    await store.close()
  } finally {
    await logs.close()
    await rm(directory, { recursive: true })
  }
})
