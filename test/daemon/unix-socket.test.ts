import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { listenOnUnixSocket } from '../../src/daemon/unix-socket.ts'

describe('unix socket', () => {
  let directory: string
  let path: string
  let servers: Server[]

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'tidelog-sock-'))
    path = join(directory, 'tidelog.sock')
    servers = []
  })

  afterEach(async () => {
    for (const server of servers) if (server.listening) await new Promise((resolve) => server.close(resolve))
    await rm(directory, { recursive: true })
  })

  const newServer = () => {
    const server = createServer((socket) => socket.on('error', () => {}).end('hello'))
    servers.push(server)
    return server
  }

  const greeting = () =>
    new Promise<string>((resolve, reject) => {
      let text = ''
      const socket = connect({ path })
      socket.on('data', (chunk) => {
        text += chunk.toString()
      })
      socket.on('end', () => resolve(text))
      socket.on('error', reject)
    })

  /** A socket file whose process is gone. */
  const leaveStale = async () => {
    const script = join(directory, 'stale.mjs')
    await writeFile(
      script,
      `import { createServer } from 'node:net'
       createServer().listen(process.argv[2], () => { process.send('up') })`,
    )
    const child = fork(script, [path], { execArgv: [] })
    await once(child, 'message')
    child.kill('SIGKILL')
    await once(child, 'exit')
    await rm(script)
  }

  test('only its owner may use it, it answers, and nothing else lies beside it', async () => {
    const release = await listenOnUnixSocket(newServer(), path)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await greeting()).toBe('hello')
    expect(await readdir(directory)).toEqual(['tidelog.sock'])
    await release()
    await release()
    expect(await readdir(directory)).toEqual([])
  })

  test('one that a dead process has left is replaced', async () => {
    await leaveStale()
    expect(await readdir(directory)).toEqual(['tidelog.sock'])
    await listenOnUnixSocket(newServer(), path)
    expect(await greeting()).toBe('hello')
    expect(await readdir(directory)).toEqual(['tidelog.sock'])
  })

  test('one that is alive is left alone', async () => {
    await listenOnUnixSocket(newServer(), path)
    await expect(listenOnUnixSocket(newServer(), path)).rejects.toMatchObject({ code: 'ADDRESS_IN_USE' })
    expect(await greeting()).toBe('hello')
  })

  test('of many who find the same stale one, one gets it, and keeps it', async () => {
    for (let round = 0; round < 5; round++) {
      await leaveStale()
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => listenOnUnixSocket(newServer(), path)))
      const won = results.filter((result) => result.status === 'fulfilled')
      for (const result of results) {
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ADDRESS_IN_USE' })
      }
      expect(won.length).toBe(1)
      expect(await greeting()).toBe('hello')
      await won[0]!.value()
      expect(await readdir(directory)).toEqual([])
    }
  })

  test('a file that is no socket is not touched', async () => {
    await writeFile(path, 'precious')
    await expect(listenOnUnixSocket(newServer(), path)).rejects.toMatchObject({ code: 'ADDRESS_IN_USE', file: path })
    expect((await stat(path)).size).toBe(8)
  })

  test('the name of a successor is not taken away', async () => {
    const release = await listenOnUnixSocket(newServer(), path)
    await rm(path)
    await listenOnUnixSocket(newServer(), path)
    await release()
    expect(await greeting()).toBe('hello')
  })

  test('a path that the system cannot take, or without a directory, is an error that says so', async () => {
    const long = join(directory, 'x'.repeat(120))
    await expect(listenOnUnixSocket(newServer(), long)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
    const nowhere = join(directory, 'none', 's.sock')
    await expect(listenOnUnixSocket(newServer(), nowhere)).rejects.toMatchObject({ code: 'IO_FAILED' })
  })
})
