/** Transactions, producers, keys and places, as people use them on the command line. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { budgetName } from '../budget.ts'
import { exitOf, jsonLines, printed, temporaryDirectory } from './cli-process.ts'
import { shareDaemon } from './shared-daemon.ts'

/** Many processes: in the gate. */
const isSmall = budgetName() === 'small'
const { run, start, records, payloads } = shareDaemon()

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => `${from + index}\n`).join('')

describe('produce --transaction', () => {
  test('makes the whole input visible as one', async () => {
    const result = await run(['produce', 'txn', '--transaction', '--json'], { input: 'a\nb\nc\n' })
    expect(result.stderr).toBe('')
    expect(result.status).toBe(0)
    const told = result.json()
    const { transaction, lsn, timeTick } = told[3]!
    expect(told[3]).toEqual({ vchannel: 'txn', transaction, committed: true, records: 3, lsn, timeTick })
    const read = await records('txn')
    expect(read.map(({ payload }) => payload)).toEqual(['a', 'b', 'c'])
    expect(read.map((record) => [record.lsn, record.timeTick, record.transaction])).toEqual(
      told.slice(0, 3).map((line) => [line.lsn, timeTick, transaction]),
    )
    expect(read.map(({ position }) => position)).toEqual([
      { lsn, skip: 1 },
      { lsn, skip: 2 },
      { lsn: (lsn as number) + 1 },
    ])
    expect(await payloads('txn', '--from', 'last:2')).toEqual(['b', 'c'])
    expect(await payloads('txn', '--from', 'last:1')).toEqual(['c'])
    const quiet = await run(['produce', 'txn', '--transaction'], { input: 'd\n' })
    expect(quiet.stderr).toMatch(/^transaction \d+ was committed at LSN \d+, time tick \d+\n$/)
    expect(await payloads('txn', '--from', 'last:3')).toEqual(['b', 'c', 'd'])
  })

  test('leaves nothing when a line is bad, or when it is interrupted; until then it is listed', async () => {
    const bad = await run(['produce', 'broken', '--transaction', '--ndjson'], { input: '1\n{\n' })
    expect(bad.status).toBe(1)
    expect(bad.stderr).toContain('nothing of the transaction is or will be visible')
    const child = start(['produce', 'broken', '--transaction', '--json'])
    child.stdin!.write('one\n')
    await printed(child, (text) => text.includes('\n'))
    const [open] = (await run(['txn', 'list', '--json'])).json()
    expect(open).toMatchObject({ vchannel: 'broken', state: 'open', bodies: 1, keepaliveMs: 60_000 })
    expect((await run(['txn', 'list'])).stdout.toString()).toMatch(/^TRANSACTION +VCHANNEL +STATE/)
    child.kill('SIGINT')
    expect((await exitOf(child))[0]).toBe(130)
    expect(await payloads('broken')).toEqual([])
    const none = await run(['txn', 'list'])
    expect(none.stdout.toString()).toBe('')
    expect(none.stderr).toContain('There is no open transaction')
  })
})

describe('produce --key-property', () => {
  test('writes what has a known key once, and says how many had one', async () => {
    const first = await run(['produce', 'keys', '--ndjson', '--key-property', 'id', '--json'], {
      input: '{"id":1}\n{"id":"two"}\n',
    })
    expect(first.stderr).toBe('')
    expect(first.json().some((line) => 'duplicate' in line)).toBe(false)
    const again = await run(['produce', 'keys', '--envelope', '--key-property', 'id', '--json'], {
      input: '{"payload":"x","properties":{"id":"1"}}\n{"payload":"three","properties":{"id":"3"}}\n',
    })
    const [repeat, fresh] = again.json()
    expect(repeat).toEqual({ ...first.json()[0], duplicate: true })
    expect(fresh).not.toHaveProperty('duplicate')
    expect(await payloads('keys')).toEqual(['{"id":1}', '{"id":"two"}', 'three'])
    const quiet = await run(['produce', 'keys', '--ndjson', '--key-property', 'id'], { input: '{"id":1}\n' })
    expect(quiet.stderr).toBe('1 record durable on keys; 1 of them were in the log before\n')
  })

  test('refuses a record without one, and modes that have no fields', async () => {
    const missing = await run(['produce', 'keys', '--ndjson', '--key-property', 'nope'], { input: '{"id":9}\n' })
    expect(missing.status).toBe(1)
    expect(missing.stderr).toContain('"nope" is not there')
    expect((await run(['produce', 'keys', '--key-property', 'id'])).status).toBe(2)
    expect((await run(['produce', 'keys', '--transaction', '--producer', 'x'])).status).toBe(2)
  })
})

describe('produce --producer', () => {
  test('goes on behind what the log has when it is started again with the same input', async () => {
    const first = await run(['produce', 'once', '--producer', 'loader-7'], { input: lines(0, 500) })
    expect(first.stderr).toMatch(/^500 records durable on once, LSN/)
    const again = await run(['produce', 'once', '--producer', 'loader-7', '--json'], { input: lines(0, 800) })
    expect(again.status).toBe(0)
    const told = again.json()
    expect(told[499]).toEqual({ index: 499, vchannel: 'once', sequence: 500, duplicate: true })
    expect(told[500]).toMatchObject({ index: 500, sequence: 501, lsn: expect.any(Number) })
    expect(await payloads('once')).toEqual(Array.from({ length: 800 }, (_, index) => `${index}`))
    const [producer] = (await run(['producers', 'list', '--json'])).json()
    expect(producer).toMatchObject({ id: 'loader-7', vchannel: 'once', epoch: 2, lastSequence: 800 })
    expect((await run(['producers'])).stdout.toString()).toMatch(/loader-7 +once +2 +800/)
  })

  test.skipIf(isSmall)('writes each line once when it is killed again and again', async () => {
    const file = join(await temporaryDirectory(), 'input')
    await writeFile(file, lines(0, 60_000))
    for (let round = 0; round < 3; round++) {
      const child = start(['produce', 'killed', file, '--producer', 'p', '--json'])
      await printed(child, (text) => text.includes('\n'))
      child.kill('SIGKILL')
      await exitOf(child)
    }
    expect((await run(['produce', 'killed', file, '--producer', 'p'])).status).toBe(0)
    const read = await run(['consume', 'killed', '--until-caught-up'])
    expect(read.stdout.toString() === lines(0, 60_000)).toBe(true)
  })
})

describe('consume', () => {
  test.skipIf(isSmall)('--types and --after-tick', async () => {
    for (const type of ['2', '3', '40000']) await run(['produce', 'typed', '--type', type], { input: `${type}\n` })
    expect(await payloads('typed', '--types', 'Insert,40000')).toEqual(['2', '40000'])
    const [first] = await records('typed')
    expect(await payloads('typed', '--after-tick', first!.timeTick as string)).toEqual(['3', '40000'])
    const unknown = await run(['consume', 'typed', '--types', 'Inser'])
    expect(unknown.status).toBe(2)
    expect(unknown.stderr).toContain('did you mean "Insert"?')
  })

  test.skipIf(isSmall)('--ticks: what has such a tick or a lower one stands before it', async () => {
    await run(['produce', 'ticked'], { input: 'a\nb\n' })
    expect((await run(['consume', 'ticked', '--ticks'])).status).toBe(2)
    const child = start(['consume', 'ticked', '--json', '--ticks', '--ticks-every', '20'])
    const seen = printed(child, (text) => (text.match(/"tick"/g) ?? []).length >= 3 && text.includes('"c"'))
    await run(['produce', 'ticked'], { input: 'c\n' })
    const all = jsonLines(await seen)
    child.kill('SIGINT')
    await exitOf(child)
    let highest = 0n
    for (const line of all) {
      if ('tick' in line) highest = BigInt(line.tick as string)
      else expect(BigInt(line.timeTick as string)).toBeGreaterThan(highest)
    }
  })

  test('--state goes on exactly behind the last printed record, in the middle of a transaction too', async () => {
    const state = join(await temporaryDirectory(), 'state')
    await run(['produce', 'left', '--transaction'], { input: lines(0, 50) })
    await run(['produce', 'right'], { input: lines(0, 5) })
    const read: Record<string, unknown>[] = []
    for (let round = 0; ; round++) {
      const part = await run([
        'consume',
        'left',
        'right',
        '--state',
        state,
        '--json',
        '--until-caught-up',
        '--limit',
        '17',
      ])
      expect(part.stderr).toBe('')
      const some = part.json()
      read.push(...some)
      if (some.length === 0) break
      if (round === 0) await run(['produce', 'left'], { input: lines(50, 60) })
    }
    const of = (name: string) => read.filter(({ vchannel }) => vchannel === name).map(({ payload }) => payload)
    expect(of('left')).toEqual(Array.from({ length: 60 }, (_, index) => `${index}`))
    expect(of('right')).toEqual(['0', '1', '2', '3', '4'])
    expect(JSON.parse(await readFile(state, 'utf8'))).toMatchObject({ version: 1, types: null })
  })

  test.skipIf(isSmall)('--state and SIGKILL: nothing is left out', async () => {
    const state = join(await temporaryDirectory(), 'state')
    await run(['produce', 'many'], { input: lines(0, 20_000) })
    let text = ''
    for (let round = 0; round < 4; round++) {
      const child = start(['consume', 'many', '--state', state])
      child.stdout!.on('data', (chunk: Buffer) => {
        text += chunk
      })
      await printed(child, (some) => some.length > 2000 * (round + 1))
      child.kill('SIGKILL')
      await exitOf(child)
      // What the last write of a killed process cut off is printed again.
      text = text.slice(0, text.lastIndexOf('\n') + 1)
    }
    const rest = await run(['consume', 'many', '--state', state, '--until-caught-up'])
    text += rest.stdout.toString()
    const seen = new Set(text.trimEnd().split('\n').map(Number))
    expect(seen.size).toBe(20_000)
  })
})
