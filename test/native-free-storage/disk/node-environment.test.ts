import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nodeEnvironment, systemProcesses } from '../../../native-free-storage/disk/node-environment.ts'
import { SimClock } from '../../simulation/sim-clock.ts'

const onLinux = process.platform === 'linux'

function stat(startTime: number, state = 'S', threads = 4): string {
  const between = Array.from({ length: 16 }, (_, index) => index + 4)
  const fields = [state, ...between, threads, 0, startTime, 1, 2]
  return `77 (a) b (c) ${fields.join(' ')}\n`
}

function refuse(code: string): (pid: number) => never {
  return () => {
    throw Object.assign(new Error(code), { code })
  }
}

describe('processes as the system tells them', () => {
  let proc: string
  beforeEach(() => {
    proc = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-proc-'))
    put('sys/kernel/random/boot_id', 'boot-1\n')
    put('self/stat', stat(5))
  })
  afterEach(() => fs.rmSync(proc, { recursive: true }))

  function put(name: string, content: string): void {
    fs.mkdirSync(path.dirname(path.join(proc, name)), { recursive: true })
    fs.writeFileSync(path.join(proc, name), content)
  }
  const processes = (signal: (pid: number) => void = () => undefined) =>
    systemProcesses({ procDirectory: proc, signal })
  const other = { pid: 77, bootId: 'boot-1', startTime: '900' }

  it('tell who this process is', () => {
    expect(processes().self()).toEqual({ pid: process.pid, bootId: 'boot-1', startTime: '5' })
  })

  it('tell a live process from a dead one, from one with its number, and from one before a restart', () => {
    put('77/stat', stat(900))
    expect(processes().isAlive(other)).toBe(true)
    expect(processes().isAlive({ ...other, startTime: '901' })).toBe(false)
    expect(processes().isAlive({ ...other, bootId: 'boot-0' })).toBe(false)
    expect(processes(refuse('ESRCH')).isAlive(other)).toBe(false)
    expect(processes(refuse('EPERM')).isAlive(other)).toBe(true)
  })

  it('take a zombie for dead, unless threads of it go on', () => {
    put('77/stat', stat(900, 'Z', 1))
    expect(processes().isAlive(other)).toBe(false)
    put('77/stat', stat(900, 'Z', 2))
    expect(processes().isAlive(other)).toBe(true)
  })

  it('take a process for alive when /proc hides it, is garbled or absent', () => {
    expect(processes().isAlive(other)).toBe(true)
    put('77/stat', 'nonsense')
    expect(processes().isAlive(other)).toBe(true)
    const without = systemProcesses({ procDirectory: '/nowhere', signal: () => undefined })
    expect(without.self()).toEqual({ pid: process.pid, bootId: '', startTime: '' })
    expect(without.isAlive({ pid: 77, bootId: '', startTime: '' })).toBe(true)
    expect(without.isAlive(other)).toBe(true)
    const signalled = systemProcesses({ procDirectory: '/nowhere', signal: refuse('ESRCH') })
    expect(signalled.isAlive({ pid: 77, bootId: '', startTime: '' })).toBe(false)
  })

  it('never signal a group', () => {
    for (const pid of [0, -1, Number.NaN, 1.5]) expect(processes().isAlive({ ...other, pid })).toBe(false)
  })
})

describe('the environment of a real process', () => {
  it.runIf(onLinux)('tells itself and a child from their past selves', async () => {
    const { processes } = nodeEnvironment()
    const self = processes.self()
    expect(self.bootId).toMatch(/^[0-9a-f-]{36}$/)
    expect(processes.isAlive(self)).toBe(true)
    expect(processes.isAlive({ ...self, startTime: String(Number(self.startTime) - 1) })).toBe(false)
    const child = spawn('sleep', ['60'])
    await once(child, 'spawn')
    const status = fs.readFileSync(`/proc/${child.pid}/stat`, 'utf8')
    const startTime = status.slice(status.lastIndexOf(')') + 2).split(' ')[19]!
    const identity = { pid: child.pid!, bootId: self.bootId, startTime }
    expect(processes.isAlive(identity)).toBe(true)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(processes.isAlive(identity)).toBe(false)
  })

  it('has clocks, timers and random bytes, and takes replacements', async () => {
    const { clock, randomBytes } = nodeEnvironment()
    expect(Math.abs(clock.nowMs() - Date.now())).toBeLessThan(1000)
    const begin = clock.monotonicMs()
    let cancelled = false
    clock
      .after(1, () => {
        cancelled = true
      })
      .cancel()
    await new Promise<void>((resolve) => {
      const alive = setTimeout(() => undefined, 10_000)
      clock.after(20, () => {
        clearTimeout(alive)
        resolve()
      })
    })
    expect(clock.monotonicMs() - begin).toBeGreaterThan(15)
    expect(cancelled).toBe(false)
    expect(randomBytes(16).length).toBe(16)
    expect(randomBytes(16)).not.toEqual(randomBytes(16))
    const replaced = new SimClock()
    expect(nodeEnvironment({ clock: replaced }).clock).toBe(replaced)
  })
})
