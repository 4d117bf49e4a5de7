import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { connect } from '../../src/client/connect.ts'
import { budget } from '../budget.ts'
import { DaemonProcess } from './daemon-process.ts'
import { httpGet, text, textsOf, until } from './open-test-daemon.ts'

describe('daemon process', () => {
  let directory: string
  let data: string
  let running: DaemonProcess[]

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidelog-process-'))
    data = join(directory, 'data')
    running = []
  })

  afterEach(async () => {
    await Promise.all(running.map((daemon) => daemon.end('SIGKILL')))
    await rm(directory, { recursive: true, force: true })
  })

  const start = async (...flags: string[]): Promise<DaemonProcess> => {
    const daemon = await DaemonProcess.start(data, ...flags)
    running.push(daemon)
    return daemon
  }

  test.each(['SIGTERM', 'SIGINT'] as const)('%s: drained, sealed, exit 0, and a start afterwards', async (signal) => {
    let daemon = await start('--socket', join(directory, 's.sock'))
    expect((await httpGet(daemon.httpPort, '/readyz')).status).toBe(200)
    let client = await connect(daemon.listen)
    await client.append('a', text('x'))
    expect(await daemon.end(signal)).toEqual({ code: 0, signal: null })
    await client.close()
    expect(await readdir(directory)).toEqual(['data'])
    daemon = await start()
    client = await connect(daemon.listen)
    expect(await textsOf(client, 'a')).toEqual(['x'])
    await client.close()
  })

  test('SIGTERM under load: whatever was acknowledged is there, whatever was refused is not, and it ends in time', async () => {
    let daemon = await start('--drain-timeout', '5s')
    const client = await connect(daemon.listen, { reconnectTimeoutMs: 0, appendTimeoutMs: 5_000 })
    const acknowledged = new Set<string>()
    const notWritten = new Set<string>()
    let failed = false
    const producers = Array.from({ length: 16 }, async (_, producer) => {
      for (let index = 0; !failed; index++) {
        const name = `${producer}-${index}`
        try {
          await client.append(`v${producer % 4}`, text(name))
          acknowledged.add(name)
        } catch (error) {
          failed = true
          if ((error as { outcome?: string }).outcome === 'not-written') notWritten.add(name)
        }
      }
    })
    await until(
      async () => acknowledged.size,
      (size) => size > 200,
    )
    const started = performance.now()
    expect(await daemon.end('SIGTERM')).toEqual({ code: 0, signal: null })
    expect(performance.now() - started).toBeLessThan(6_500)
    await Promise.all(producers)
    await client.close()
    daemon = await start()
    const reader = await connect(daemon.listen)
    const read: string[] = []
    for (const name of ['v0', 'v1', 'v2', 'v3']) read.push(...(await textsOf(reader, name)))
    await reader.close()
    expect(new Set(read).size).toBe(read.length)
    for (const name of acknowledged) expect(read).toContain(name)
    for (const name of notWritten) expect(read).not.toContain(name)
  })

  test('a second signal stops at once', async () => {
    const daemon = await start()
    const { hostname, port } = new URL(daemon.listen)
    // One that takes no goodbye keeps the first one waiting.
    const stubborn = connectSocket({ host: hostname, port: Number(port), allowHalfOpen: true })
    stubborn.on('error', () => {})
    await once(stubborn, 'connect')
    stubborn.pause()
    daemon.child.kill('SIGTERM')
    await until(
      async () => daemon.stderr,
      (lines) => lines.includes('draining; a second signal stops at once'),
    )
    expect(await daemon.end('SIGINT')).toEqual({ code: 130, signal: null })
    stubborn.destroy()
  })

  test('SIGKILL under load, again and again: everything acknowledged is there, once', async () => {
    const rounds = budget({ small: 3, ci: 15 })
    const acknowledged = new Set<string>()
    for (let round = 0; round < rounds; round++) {
      const daemon = await start()
      const client = await connect(daemon.listen, { reconnectTimeoutMs: 0, appendTimeoutMs: 5_000 })
      const before = acknowledged.size
      let killed = false
      const producers = Array.from({ length: 8 }, async (_, producer) => {
        for (let index = 0; !killed; index++) {
          const name = `${round}-${producer}-${index}`
          const appended = await client.append(`v${producer}`, text(name)).then(
            () => true,
            () => false,
          )
          if (!appended) return
          acknowledged.add(name)
        }
      })
      await until(
        async () => acknowledged.size,
        (size) => size - before > 100 * (round + 1),
      )
      expect(await daemon.end('SIGKILL')).toEqual({ code: null, signal: 'SIGKILL' })
      killed = true
      await Promise.all(producers)
      await client.close()
    }
    const daemon = await start()
    const client = await connect(daemon.listen)
    const read: string[] = []
    for (let producer = 0; producer < 8; producer++) read.push(...(await textsOf(client, `v${producer}`)))
    await client.close()
    const readSet = new Set(read)
    expect(readSet.size).toBe(read.length)
    expect([...acknowledged].filter((name) => !readSet.has(name))).toEqual([])
  })

  test('two on one directory: the second is told who has it, and the first goes on', async () => {
    const daemon = await start()
    await expect(start()).rejects.toThrow(`is open for writing in process ${daemon.child.pid}`)
    const client = await connect(daemon.listen)
    await client.append('a', text('x'))
    await client.close()
  })

  test('without the kernel lock too, and the lock of a killed one is taken over', async () => {
    process.env.TIDELOG_TEST_NO_FLOCK = '1'
    try {
      const daemon = await start()
      await expect(start()).rejects.toThrow(/is open for writing/)
      await daemon.end('SIGKILL')
      const next = await start()
      expect((await httpGet(next.httpPort, '/readyz')).status).toBe(200)
    } finally {
      delete process.env.TIDELOG_TEST_NO_FLOCK
    }
  })

  test.each([
    [['--listen', '0.0.0.0:0'], 'HOST_NOT_LOOPBACK'],
    [['--http', '192.168.0.1:0'], 'HOST_NOT_LOOPBACK'],
    [['--pchannels', 'four'], 'CONFIG_INVALID'],
  ])('%j is refused with %s before anything is made', async (flags, code) => {
    await expect(start(...flags)).rejects.toThrow(code)
    expect(await readdir(directory)).toEqual([])
  })
})
