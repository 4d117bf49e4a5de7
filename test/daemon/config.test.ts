import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ConfigSources, loadConfig } from '../../src/daemon/config.ts'
import { environmentName, settings } from '../../src/daemon/settings.ts'

describe('configuration', () => {
  let directory: string
  let file: string

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidelog-config-'))
    file = join(directory, 'tidelog.yaml')
  })

  afterEach(() => rm(directory, { recursive: true }))

  const load = (sources: ConfigSources) => loadConfig({ environment: {}, ...sources })
  const value = async (name: string, sources: ConfigSources) =>
    (await load(sources)).entries.find((entry) => entry.name === name)!

  test('the defaults', async () => {
    const { config } = await load({})
    expect(config).toEqual({
      data: './data',
      listen: { host: '127.0.0.1', port: 7420 },
      socket: null,
      http: { host: '127.0.0.1', port: 7421 },
      pchannels: null,
      writeMode: null,
      writeDepth: null,
      durability: 'disk',
      segmentBytes: 64 * 1024 ** 2,
      cacheBytes: 64 * 1024 ** 2,
      poolBytes: 256 * 1024 ** 2,
      queueBytes: 64 * 1024 ** 2,
      recordBytesMax: 16 * 1024 ** 2,
      retentionBytes: null,
      retentionAgeMs: null,
      writeDeadlineMs: 30_000,
      recovery: 'tail',
      diskWarnPercent: 80,
      diskRefusePercent: 90,
      diskWarnFreeBytes: null,
      diskRefuseFreeBytes: null,
      timeTickIntervalMs: 10,
      persistTicksMs: null,
      compaction: 'on',
      txnKeepaliveMs: 10_000,
      txnLifetimeMs: 3_600_000,
      txnBytesMax: 64 * 1024 * 1024,
      txnRecordsMax: 1_048_576,
      txnOpenMax: 65_536,
      keyWindowMs: 600_000,
      keyWindowBytes: 16 * 1024 * 1024,
      rateBytes: null,
      memoryBytes: null,
      nodeRateBytes: null,
      nodeMemoryBytes: null,
      vchannelsMax: 100_000,
      connectionsMax: 1024,
      drainTimeoutMs: 10_000,
      logLevel: 'info',
      logFormat: 'text',
    })
  })

  test('a flag wins over the environment, that over the file, that over the default, and each says where it is from', async () => {
    await writeFile(file, 'pchannels: 8\nlog-level: warn\nretention-age: 7d\n')
    const environment = { TIDELOG_PCHANNELS: '16', TIDELOG_LOG_LEVEL: 'debug', TIDELOG_DATA: '' }
    const { entries, config } = await load({ file, environment, flags: { pchannels: '32', data: undefined } })
    const of = (name: string) => entries.find((entry) => entry.name === name)!
    expect(of('pchannels')).toMatchObject({ value: '32', origin: { source: 'flag', name: '--pchannels' } })
    expect(of('log-level')).toMatchObject({
      value: 'debug',
      origin: { source: 'environment', name: 'TIDELOG_LOG_LEVEL' },
    })
    expect(of('retention-age')).toMatchObject({
      value: '7d',
      origin: { source: 'file', name: `${file}: retention-age` },
    })
    expect(of('data')).toMatchObject({ value: './data', origin: { source: 'default', name: '' } })
    expect(config.retentionAgeMs).toBe(7 * 86_400_000)
  })

  test('TIDELOG_CONFIG names the file', async () => {
    await writeFile(file, 'pchannels: 2\n')
    expect((await load({ environment: { TIDELOG_CONFIG: file } })).config.pchannels).toBe(2)
  })

  test('what is printed for a setting is read back as the same value', async () => {
    const flags = {
      'retention-bytes': '1.5GB',
      'retention-age': '90m',
      'cache-bytes': '0',
      http: '[::1]:0',
      socket: '/s',
    }
    const { config, entries } = await load({ flags })
    const again = await load({ flags: Object.fromEntries(entries.map((entry) => [entry.name, entry.value])) })
    expect(again.config).toEqual(config)
  })

  test.each([
    ['--pchanels is not a setting. Did you mean --pchannels?', { flags: { pchanels: '4' } }],
    ['TIDELOG_LISTENS is not a setting. Did you mean TIDELOG_LISTEN?', { environment: { TIDELOG_LISTENS: 'x' } }],
    ['--zzzzzz is not a setting. Known: --data', { flags: { zzzzzz: '4' } }],
    ['--pchannels is "four": it has to be a whole number, from 1 to 1024', { flags: { pchannels: 'four' } }],
    ['--pchannels is "0": it has to be from 1 to 1024', { flags: { pchannels: '0' } }],
    ['--drain-timeout is "10": it has to be a duration with a unit', { flags: { 'drain-timeout': '10' } }],
    ['--cache-bytes is "64 parsec": it has to be an amount of bytes', { flags: { 'cache-bytes': '64 parsec' } }],
    ['--write-mode is "directly": it has to be dsync or fdatasync, or auto', { flags: { 'write-mode': 'directly' } }],
    ['--listen is "7420": it has to be HOST:PORT', { flags: { listen: '7420' } }],
    ['--listen is "127.0.0.1:70000"', { flags: { listen: '127.0.0.1:70000' } }],
  ])('%s', async (message, sources: ConfigSources) => {
    await expect(load(sources)).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(message),
    })
  })

  test.each(['0.0.0.0:7420', '192.168.1.5:7420', '[::]:7420', 'example.com:7420', '[fe80::1]:1', '127.example.com:80'])(
    '%s is refused: it is not loopback',
    async (address) => {
      for (const name of ['listen', 'http']) {
        await expect(load({ flags: { [name]: address } })).rejects.toMatchObject({ code: 'HOST_NOT_LOOPBACK' })
      }
    },
  )

  test.each(['127.0.0.1:0', '127.8.9.10:1', 'localhost:7420', 'LOCALHOST:1', '[::1]:7420', '[::ffff:127.0.0.1]:1'])(
    '%s is loopback',
    async (address) => {
      await load({ flags: { listen: address } })
    },
  )

  test.each([
    ['pchanels: 4', 'pchanels (in '],
    ['pchannels: [4]', 'pchannels is a list'],
    ['pchannels: true', 'pchannels is a boolean'],
    ['- pchannels', 'has to hold keys and values'],
    ['pchannels: 4\npchannels: 5', 'line 2'],
    ['a: &a [1]\nb: *a', ''],
    ['pchannels: {', 'line 1'],
  ])('the file %j is an error that says where', async (content, message) => {
    await writeFile(file, content)
    await expect(load({ file })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(message),
    })
  })

  test('a file that is missing is an error; an empty one is none', async () => {
    await expect(load({ file })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('ENOENT'),
    })
    await writeFile(file, '# nothing yet\n')
    expect((await load({ file })).config.pchannels).toBe(null)
  })

  test('names that others set are no settings: those of the client, of tests, and of container orchestrators', async () => {
    await load({
      environment: {
        TIDELOG_SERVER: 'tcp://127.0.0.1:1',
        TIDELOG_TEST_NO_FLOCK: '1',
        TIDELOG_BUDGET: 'ci',
        TIDELOG_SERVICE_HOST: '10.0.0.1',
        TIDELOG_SERVICE_PORT_TCP: '7420',
        TIDELOG_PORT: 'tcp://10.0.0.1:7420',
        TIDELOG_PORT_7420_TCP_ADDR: '10.0.0.1',
      },
    })
  })

  test('every default is valid and printed as it is written', async () => {
    for (const setting of settings) {
      expect(environmentName(setting)).toMatch(/^TIDELOG_[A-Z_]+$/)
      expect((await value(setting.name, {})).value).toBe(setting.byDefault)
    }
  })
})
