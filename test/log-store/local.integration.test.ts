import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Environment, nodeEnvironment, type WriteMode } from '../../native-free-storage/index.ts'
import { LocalLogs, type LocalLogsOptions } from '../../src/log-store/local.ts'
import { logStoreConformance } from '../conformance/log-store.ts'
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
