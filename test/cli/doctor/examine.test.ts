import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { probeWriteWay, type SyncMeasurement } from '../../../native-free-storage/index.ts'
import { type Check, type CheckCode, checkCodes } from '../../../src/cli/doctor/check.ts'
import { type DoctorReport, examine } from '../../../src/cli/doctor/examine.ts'
import type { PathFacts, SystemFacts } from '../../../src/cli/doctor/system-facts.ts'
import { type DaemonConfig, defaultConfig } from '../../../src/daemon/settings.ts'
import { openDataDirectory } from '../../../src/log-store/data-directory.ts'
import { SimDisk, type SimDiskOptions } from '../../simulation/sim-disk.ts'
import { simEnvironment } from '../../simulation/sim-environment.ts'

const DATA = '/data'
const MOUNTS =
  '27 1 254:0 / / rw,relatime - ext4 /dev/sda rw,errors=remount-ro\n28 27 0:22 / /run rw - tmpfs tmpfs rw\n'
const LIMITS =
  'Limit   Soft Limit   Hard Limit   Units\nMax open files            20000                20000                files\n'

/** A machine on which nothing is wrong; a test changes one thing. */
class Machine {
  readonly disk: SimDisk
  readonly texts = new Map<string, string>([
    ['/proc/self/mountinfo', MOUNTS],
    ['/proc/self/limits', LIMITS],
    ['/sys/dev/block/254:0/uevent', 'MAJOR=254\nMINOR=0\nDEVNAME=sda\n'],
    ['/sys/dev/block/254:0/queue/write_cache', 'write back\n'],
    ['/sys/dev/block/254:0/queue/rotational', '0\n'],
  ])
  readonly paths = new Map<string, PathFacts>([
    ['/', { isDirectory: true, mode: 0o755, uid: 0 }],
    [DATA, { isDirectory: true, mode: 0o700, uid: 1000 }],
  ])
  readonly config: DaemonConfig = { ...defaultConfig(), data: DATA, writeMode: 'dsync', writeDepth: 2 }
  readonly facts: SystemFacts
  readonly environment: ReturnType<typeof simEnvironment>
  hasFlock = true
  whileMeasuring: (() => void) | null = null
  refusal: string | null = null
  inodes: { total: number; free: number } | null = { total: 1_000_000, free: 900_000 }

  constructor(options: SimDiskOptions = {}) {
    this.disk = new SimDisk({ seed: 1, fileSystem: 'ext4', ...options })
    this.disk.prepareDirectory(DATA)
    this.environment = simEnvironment(this.disk)
    const { clock } = this.disk
    this.facts = {
      platform: 'linux',
      nodeVersion: '20.20.2',
      uid: 1000,
      environment: {},
      nowMs: () => clock.nowMs(),
      monotonicMs: () => clock.monotonicMs(),
      readText: async (path) => this.texts.get(path) ?? null,
      realPath: async (path) => path,
      pathFacts: async (path) => this.paths.get(path) ?? null,
      refusesWriting: async () => this.refusal,
      inodes: async () => this.inodes,
    }
  }

  async examine(sync: SyncMeasurement = measured(0.2)): Promise<DoctorReport> {
    const { environment, facts, config, hasFlock } = this
    const measure = async (): Promise<SyncMeasurement> => {
      await this.whileMeasuring?.()
      return sync
    }
    return await examine({ environment, facts, config, hasFlock, measure })
  }
}

/** Every synced write takes so long. */
function measured(ms: number): SyncMeasurement {
  const latencies = [512, 4096, 65_536, 1_048_576].flatMap((bytes) =>
    (['dsync', 'fdatasync'] as const).map((mode) => ({ mode, bytes, samples: 10, p50Ms: ms, p99Ms: ms, maxMs: ms })),
  )
  return { latencies, parallel: [{ depth: 1, bytesPerSecond: 1e6 }], fault: null }
}

function checkOf(report: DoctorReport, code: CheckCode): Check {
  return report.checks.find((check) => check.code === code)!
}

describe('doctor', () => {
  it('finds nothing wrong where nothing is wrong: every check once, figures, the way to write; and leaves no file', async () => {
    const machine = new Machine()
    const report = await machine.examine()
    expect(report.checks.map(({ code }) => code)).toEqual([...checkCodes])
    expect(report.checks.filter(({ status }) => status !== 'ok')).toEqual([])
    expect(report.healthy).toBe(true)
    const { latencies, parallel } = measured(0.2)
    expect(report).toMatchObject({ latencies, parallel, writeWay: { mode: 'dsync', depth: 2 } })
    expect(checkOf(report, 'DEVICE').message).toContain('sda, not rotating, a write cache that is lost with the power')
    expect(await machine.disk.list(DATA)).toEqual([])
  })

  it('looks at a data directory in use: kept figures of the probe, an override, who has it open; and changes nothing', async () => {
    // Slow, so that the probe makes few writes.
    const machine = new Machine({ latencyMs: ({ kind, dsync }) => (kind === 'sync' || dsync ? 10 : 0.1) })
    Object.assign(machine.config, { writeMode: null, writeDepth: null })
    await openDataDirectory(machine.environment, DATA, { pchannels: 7, durability: 'disk' })
    await machine.disk.makeDirectory(`${DATA}/pool`)
    machine.paths.set(`${DATA}/pool`, { isDirectory: true, mode: 0o700, uid: 1000 })
    const before = (await machine.disk.list(DATA)).sort()
    const report = await machine.examine()
    expect(report.checks.filter(({ status }) => status !== 'ok')).toEqual([])
    expect(checkOf(report, 'DESCRIPTOR').message).toBe('7 pchannels, durability disk')
    expect(checkOf(report, 'DAEMON').message).toBe(`process ${machine.disk.pid} has it open`)
    expect((await machine.disk.list(DATA)).sort()).toEqual(before)
    expect(await machine.disk.list(`${DATA}/pool`)).toEqual([])
    expect(checkOf(report, 'WRITE_WAY').message).toMatch(/^dsync at depth \d: measured: /)
    await probeWriteWay(machine.environment, `${DATA}/pool`)
    const kept = checkOf(await machine.examine(), 'WRITE_WAY').message
    expect(kept).toMatch(/^dsync at depth \d: kept from an earlier start: /)
    Object.assign(machine.config, { writeMode: 'fdatasync', writeDepth: 3 })
    const given = checkOf(await machine.examine(), 'WRITE_WAY').message
    expect(given).toBe('fdatasync at depth 3: mode and depth were given')
  })

  it.each<[string, CheckCode, Check['status'], string, (machine: Machine) => void | Promise<void>]>([
    ['no directory yet', 'DIRECTORY', 'ok', 'serve creates it in /', (m) => void m.paths.delete(DATA)],
    [
      'a file',
      'DIRECTORY',
      'fail',
      'is no directory',
      (m) => void Object.assign(m.paths.get(DATA)!, { isDirectory: false }),
    ],
    [
      'a directory that is open to others',
      'DIRECTORY',
      'warn',
      '0755',
      (m) => void Object.assign(m.paths.get(DATA)!, { mode: 0o755 }),
    ],
    ['a read-only file system', 'DIRECTORY', 'fail', 'read-only', (m) => void Object.assign(m, { refusal: 'EROFS' })],
    [
      'a directory without permission',
      'DIRECTORY',
      'fail',
      'EACCES',
      (m) => void Object.assign(m, { refusal: 'EACCES' }),
    ],
    [
      'no permission to measure',
      'SYNC_LATENCY',
      'warn',
      'not measured',
      (m) => void Object.assign(m, { refusal: 'EACCES' }),
    ],
    [
      'the directory of another user',
      'DIRECTORY',
      'warn',
      'belongs to user 7',
      (m) => void Object.assign(m.paths.get(DATA)!, { uid: 7 }),
    ],
    [
      'a directory of something else',
      'DESCRIPTOR',
      'fail',
      'thesis.tex',
      async (m) => (await m.disk.create(`${DATA}/thesis.tex`)).close(),
    ],
    [
      'a descriptor that is damaged',
      'DESCRIPTOR',
      'fail',
      'DATA_DIRECTORY_INVALID',
      async (m) => (await m.disk.create(`${DATA}/tidelog.json`)).close(),
    ],
    [
      'a configuration that does not fit the directory',
      'DESCRIPTOR',
      'fail',
      'the configuration says 9 pchannels',
      async (m) => {
        await (await openDataDirectory(m.environment, DATA, { pchannels: 2, durability: 'disk' })).release()
        m.config.pchannels = 9
      },
    ],
    [
      'a lock that nobody understands',
      'DAEMON',
      'fail',
      'does not say whose it is',
      async (m) => (await m.disk.create(`${DATA}/LOCK`)).close(),
    ],
    [
      'what a killed process left of a lock',
      'LOCK_LEFTOVERS',
      'warn',
      '1 files',
      async (m) => (await m.disk.create(`${DATA}/LOCK.0123456789ab.new`)).close(),
    ],
    [
      'much in quarantine',
      'QUARANTINE',
      'warn',
      '1 files, 67.2 MB',
      async (m) => {
        await m.disk.makeDirectory(`${DATA}/pchannels`)
        await m.disk.makeDirectory(`${DATA}/pchannels/0`)
        await m.disk.makeDirectory(`${DATA}/pchannels/0/quarantine`)
        await (await m.disk.create(`${DATA}/pchannels/0/MANIFEST-00000000000000000001`)).close()
        const file = await m.disk.create(`${DATA}/pchannels/0/quarantine/old.seg`)
        await file.truncate(67_200_000)
        await file.close()
      },
    ],
    [
      'a mount without barriers',
      'MOUNT_OPTIONS',
      'warn',
      'nobarrier: a sync does not flush',
      (m) => void m.texts.set('/proc/self/mountinfo', MOUNTS.replace('errors=remount-ro', 'nobarrier')),
    ],
    [
      'a mount that writes data back when it likes',
      'MOUNT_OPTIONS',
      'warn',
      'data=writeback',
      (m) => void m.texts.set('/proc/self/mountinfo', MOUNTS.replace('errors=remount-ro', 'data=writeback')),
    ],
    [
      'another file system right at the path',
      'MOUNT_OPTIONS',
      'fail',
      '/data is mounted read-only',
      (m) => void m.texts.set('/proc/self/mountinfo', `${MOUNTS}29 27 8:1 / /data ro - ext4 /dev/sdb1 ro\n`),
    ],
    [
      'a virtual machine',
      'VIRTUAL_MACHINE',
      'ok',
      'cpu flag hypervisor, container',
      (m) => {
        m.texts.set('/proc/cpuinfo', 'flags\t\t: fpu hypervisor lahf_lm\n')
        m.texts.set('/.dockerenv', '')
      },
    ],
    ['few inodes', 'INODES', 'warn', '900 of', (m) => void Object.assign(m, { inodes: { total: 1e6, free: 900 } })],
    ['no inodes', 'INODES', 'fail', '3 of', (m) => void Object.assign(m, { inodes: { total: 1e6, free: 3 } })],
    [
      'libeatmydata',
      'SYNC_HONESTY',
      'fail',
      'syncs are ignored',
      (m) => void Object.assign(m.facts.environment, { LD_PRELOAD: '/usr/lib/libeatmydata.so' }),
    ],
    [
      'a rotating disk that answers at once',
      'SYNC_HONESTY',
      'warn',
      'says it rotates',
      (m) => void m.texts.set('/sys/dev/block/254:0/queue/rotational', '1\n'),
    ],
    [
      'a depth beyond the threads',
      'THREADS',
      'warn',
      'write depth 16',
      (m) => void Object.assign(m.config, { writeDepth: 16 }),
    ],
    [
      'a low limit of open files',
      'OPEN_FILES',
      'warn',
      '1024 open files for this shell; the daemon may need',
      (m) => void m.texts.set('/proc/self/limits', LIMITS.replaceAll('20000', '1024')),
    ],
    ['no flock', 'KERNEL_LOCK', 'warn', 'the lock file alone', (m) => void Object.assign(m, { hasFlock: false })],
    ['an old Node', 'NODE_VERSION', 'fail', '18.1.0', (m) => void Object.assign(m.facts, { nodeVersion: '18.1.0' })],
    [
      'a clock that steps meanwhile',
      'CLOCK',
      'warn',
      'stepped by 3600',
      (m) => void Object.assign(m, { whileMeasuring: () => m.disk.clock.stepWallClock(3_600_000) }),
    ],
  ])('%s: %s is %s', async (_what, code, status, message, arrange) => {
    const machine = new Machine()
    await arrange(machine)
    const report = await machine.examine()
    const check = checkOf(report, code)
    expect(check).toMatchObject({ status, message: expect.stringContaining(message) })
    if (status !== 'ok') expect(check.next).toMatch(/\S/)
    expect(report.healthy).toBe(report.checks.every((each) => each.status !== 'fail'))
    if (status === 'fail') expect(report.healthy).toBe(false)
  })

  it.each([
    ['nfs', 'fail', 'DIRECTORY_UNFIT'],
    ['tmpfs', 'warn', 'in memory'],
    ['overlayfs', 'warn', 'container'],
    ['fuse', 'warn', 'up to the program'],
    ['btrfs', 'ok', 'not one of the tested'],
  ])('on %s: FILE_SYSTEM is %s', async (fileSystem, status, message) => {
    const report = await new Machine({ fileSystem }).examine()
    expect(checkOf(report, 'FILE_SYSTEM')).toMatchObject({ status, message: expect.stringContaining(message) })
    if (fileSystem === 'tmpfs') expect(checkOf(report, 'SYNC_HONESTY').status).toBe('warn')
  })

  it('tells a disk that is too quick, one that is slow, one that fails, and one that is nearly full', async () => {
    const quick = await new Machine().examine(measured(0.01))
    expect(checkOf(quick, 'SYNC_HONESTY')).toMatchObject({
      status: 'warn',
      message: expect.stringContaining('10 µs, faster than disks are'),
    })
    const slow = await new Machine().examine(measured(80))
    expect(checkOf(slow, 'SYNC_LATENCY')).toMatchObject({
      status: 'warn',
      message: expect.stringContaining('O_DSYNC 80 ms median'),
    })
    const fault = 'write of /data/write-probe-1 failed with EIO'
    const failed = await new Machine().examine({ latencies: [], parallel: [], fault })
    expect(checkOf(failed, 'SYNC_LATENCY')).toMatchObject({ status: 'fail', message: fault })
    const full = new Machine()
    full.disk.setCapacity(100_000_000)
    await (await full.disk.create('/filler')).truncate(95_000_000)
    expect(checkOf(await full.examine(), 'SPACE')).toMatchObject({
      status: 'fail',
      message: expect.stringContaining('95.0 % full'),
    })
  })

  it('docs/OPERATIONS.md has a row for each check, and no other', () => {
    const page = readFileSync(join(import.meta.dirname, '../../../docs/OPERATIONS.md'), 'utf8')
    const section = page.slice(page.indexOf('## doctor'))
    const rows = [...section.matchAll(/^\| `([A-Z_]+)` \| /gm)].map(([, code]) => code)
    expect(rows.slice(0, checkCodes.length)).toEqual([...checkCodes])
  })
})
