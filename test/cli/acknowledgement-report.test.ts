import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { AcknowledgementReport } from '../../src/cli/acknowledgement-report.ts'
import { Output } from '../../src/cli/output.ts'
import { TidelogError } from '../../src/errors.ts'

/** A stream that keeps what it is given, and takes it when it is told to. */
function collector(options: { held?: boolean } = {}) {
  let text = ''
  let release: (() => void) | undefined
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString()
      if (options.held && !release) release = done
      else done()
    },
  })
  return { stream, text: () => text, release: () => release?.() }
}

const notWritten = new TidelogError('QUEUE_FULL', 'full', { outcome: 'not-written', retriable: true })

describe('the report of produce', () => {
  test('lines come in the order of the input, whatever order the records settle in', async () => {
    const sink = collector()
    const out = new Output(sink.stream)
    const report = new AcknowledgementReport('a"b', true, out)
    const late: ((value: { lsn: number; timeTick: bigint }) => void)[] = []
    report.submitted(0, new Promise((resolve) => late.push(resolve)))
    report.submitted(1, Promise.resolve({ lsn: 6, timeTick: 11n }))
    report.refused(2, notWritten)
    report.refused(3, new Error('of no kind'))
    await new Promise(setImmediate)
    expect(sink.text()).toBe('')
    expect(report.anyFailure).toBe(true)
    late[0]!({ lsn: 5, timeTick: 2n ** 63n })
    await report.end()
    await out.flush()
    expect(sink.text().split('\n')).toEqual([
      '{"index":0,"vchannel":"a\\"b","lsn":5,"timeTick":"9223372036854775808"}',
      '{"index":1,"vchannel":"a\\"b","lsn":6,"timeTick":"11"}',
      '{"index":2,"error":{"code":"QUEUE_FULL","retriable":true,"outcome":"not-written"}}',
      '{"index":3,"error":{"code":"INTERNAL","retriable":false,"outcome":"unknown"}}',
      '',
    ])
    expect(report).toMatchObject({ acknowledgedCount: 2, failedCount: 2, firstLsn: 5, lastLsn: 6 })
    expect(report.firstFailure).toEqual({ index: 2, error: notWritten })
  })

  test('an output that does not take its lines makes the reader of the input wait', async () => {
    const sink = collector({ held: true })
    const report = new AcknowledgementReport('orders', true, new Output(sink.stream))
    let index = 0
    for (; !report.isFull; index++) {
      report.submitted(index, Promise.resolve({ lsn: index, timeTick: 1n }))
      if (index % 1000 === 0) await new Promise(setImmediate)
      expect(index).toBeLessThan(200_000)
    }
    let roomCame = false
    const room = report.room().then(() => {
      roomCame = true
    })
    await new Promise(setImmediate)
    expect(roomCame).toBe(false)
    sink.release()
    await room
    await report.end()
    expect(report.acknowledgedCount).toBe(index)
  })

  test('an output that fails is told to the reader of the input, a reader that went away is not', async () => {
    const failing = (code: string) =>
      new Writable({ write: (_chunk, _encoding, done) => done(Object.assign(new Error(code), { code })) })
    const full = new AcknowledgementReport('orders', true, new Output(failing('ENOSPC')))
    full.submitted(0, Promise.resolve({ lsn: 0, timeTick: 1n }))
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    full.submitted(1, Promise.resolve({ lsn: 1, timeTick: 1n }))
    await expect(full.end()).rejects.toMatchObject({ code: 'IO_FAILED' })
    expect(full.isFull).toBe(true)
    await expect(full.room()).rejects.toMatchObject({ code: 'IO_FAILED' })

    const gone = new AcknowledgementReport('orders', true, new Output(failing('EPIPE')))
    gone.submitted(0, Promise.resolve({ lsn: 0, timeTick: 1n }))
    await new Promise(setImmediate)
    gone.submitted(1, Promise.resolve({ lsn: 1, timeTick: 1n }))
    await gone.end()
    expect(gone.acknowledgedCount).toBe(2)
  })
})
