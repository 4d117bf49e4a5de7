import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import type { Daemon, StopResult } from '../../src/daemon/daemon.ts'
import { type SignalSource, stopOnSignals } from '../../src/daemon/signals.ts'
import { silentLogger } from '../../src/observability/logger.ts'

class FakeProcess extends EventEmitter implements SignalSource {
  readonly exits: number[] = []

  exit(code: number): void {
    this.exits.push(code)
  }
}

function fakeDaemon() {
  let finish: (result: StopResult) => void = () => {}
  const stopped = new Promise<StopResult>((resolve) => {
    finish = resolve
  })
  let stops = 0
  const daemon = {
    stop() {
      stops++
      return stopped
    },
  } as unknown as Daemon
  return { daemon, finish, stops: () => stops }
}

test.each([
  [true, 0],
  [false, 1],
])('the first signal drains; clean %j ends with %j, and signals are no longer ours', async (clean, code) => {
  const source = new FakeProcess()
  const { daemon, finish, stops } = fakeDaemon()
  const ended = stopOnSignals(daemon, silentLogger, source)
  source.emit('SIGTERM', 'SIGTERM')
  expect(stops()).toBe(1)
  finish({ clean })
  expect(await ended).toBe(code)
  expect([source.listenerCount('SIGTERM'), source.listenerCount('SIGINT'), source.exits]).toEqual([
    0,
    0,
    clean ? [] : [1],
  ])
})

test('the second signal, whichever it is, ends the process at once', () => {
  for (const second of ['SIGTERM', 'SIGINT']) {
    const source = new FakeProcess()
    const { daemon, stops } = fakeDaemon()
    void stopOnSignals(daemon, silentLogger, source)
    source.emit('SIGINT', 'SIGINT')
    expect(source.exits).toEqual([])
    source.emit(second, second)
    expect([stops(), source.exits]).toEqual([1, [130]])
  }
})
