import { describe, expect, it } from 'vitest'
import type { LogStore } from '../../../src/log-store/log-store.ts'
import { encodeHeader } from '../../../src/message/message-header.ts'
import { MessageType } from '../../../src/message/message-type.ts'
import { createScanner } from '../../../src/wal/scan/scanner.ts'
import type { ScanItem, ScanOptions } from '../../../src/wal/types.ts'
import { turn } from '../manual-clock.ts'
import { type ExpectedUnit, expectedUnits, LogScript } from './log-script.ts'
import { collect, unitsOf } from './scanned-units.ts'

const lsnOf = (item: IteratorResult<ScanItem, undefined>) => {
  if (item.done === true || item.value.kind === 'tick') throw new Error('no message')
  return item.value.lsn
}

async function numbered(count: number): Promise<LogScript> {
  const script = await LogScript.inMemory()
  for (let n = 0; n < count; n++) await script.rows([{ vchannel: 'a' }])
  return script
}

describe('where a scan starts', () => {
  const lsns = async (script: LogScript, options: ScanOptions) =>
    unitsOf(await collect(createScanner(script.store, options))).map(({ lsn }) => lsn)

  it('at the earliest, the latest, an LSN, behind one, at a tick', async () => {
    const script = await numbered(4)
    expect(await lsns(script, {})).toEqual([0, 1, 2, 3])
    expect(await lsns(script, { from: 'latest' })).toEqual([])
    expect(await lsns(script, { from: { lsn: 2 } })).toEqual([2, 3])
    expect(await lsns(script, { from: { after: 2 } })).toEqual([3])
    expect(await lsns(script, { from: { timeTick: script.ticks[1]! } })).toEqual([1, 2, 3])
    expect(await lsns(script, { from: { timeTick: script.ticks[1]! + 1n } })).toEqual([2, 3])
    expect(await lsns(script, { from: { lsn: 9 } })).toEqual([])
  })

  it('behind some of the messages of a transaction', async () => {
    const script = await LogScript.inMemory()
    const [begin] = await script.begin(['a'])
    await script.rows(Array.from({ length: 3 }, () => ({ vchannel: 'a', transaction: begin! })))
    const { firstLsn } = await script.end([{ begin: begin!, commit: true }])
    for (const [skip, left] of [
      [1, [2, 3]],
      [2, [3]],
      [3, []],
      [4, []],
    ] as const) {
      const [item] = await collect(createScanner(script.store, { from: { lsn: firstLsn, skip } }))
      expect(item?.kind === 'txn' ? item.messages.map(({ lsn }) => lsn) : []).toEqual(left)
    }
  })

  it('one that was truncated away is an error with the first LSN that is left', async () => {
    const script = await numbered(5)
    await script.store.truncateBefore(3)
    for (const from of [{ lsn: 2 }, { after: 1 }, { lsn: 0, skip: 1 }]) {
      const scan = createScanner(script.store, { from })
      await expect(scan.next()).rejects.toMatchObject({ code: 'POSITION_TRUNCATED', lsnFrom: 3 })
      expect(await scan.next()).toEqual({ done: true, value: undefined })
    }
    expect(await lsns(script, {})).toEqual([3, 4])
    expect(await lsns(script, { from: { lsn: 3 } })).toEqual([3, 4])
    expect(await lsns(script, { afterTick: script.ticks[0]! })).toEqual([3, 4])
  })

  it.each([
    [{ from: 'first' }],
    [{ from: { lsn: -1 } }],
    [{ from: { lsn: 1.5 } }],
    [{ from: { lsn: 1, skip: -1 } }],
    [{ from: { timeTick: 5 } }],
    [{ from: null }],
    [{ afterTick: -1n }],
    [{ fromTick: 2n ** 64n }],
    [{ ticks: { everyMs: 0 } }],
    [{ transactionBytes: -1 }],
  ])('%o is refused', async (options) => {
    const script = await numbered(1)
    expect(() => createScanner(script.store, options as ScanOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    )
  })
})

describe('what is given', () => {
  it('bodies on another vchannel than their begin count for nothing, from any start', async () => {
    const script = await LogScript.inMemory()
    const [of, other] = await script.begin(['a', 'b'])
    for (const vchannel of ['b', 'a', 'c', 'a']) {
      await script.rows([
        { vchannel, transaction: of! },
        { vchannel: 'a', transaction: of! },
      ])
      await script.rows([{ vchannel, transaction: other! }])
    }
    // Ends what is of that vchannel, which is not told by where bodies stand.
    await script.exclusive(MessageType.createCollection, 'b')
    await script.rows([{ vchannel: 'a', transaction: of! }])
    await script.end([
      { begin: of!, commit: true },
      { begin: other!, commit: true },
    ])
    const [, unit] = script.units
    expect(unit).toMatchObject({ kind: 'txn', messages: { length: 7 } })
    for (let lsn = 0; lsn <= unit!.lsn; lsn++) {
      for (const transactionBytes of [0, 1_000_000]) {
        const scan = createScanner(script.store, { from: { lsn }, transactionBytes })
        expect(unitsOf(await collect(scan))).toEqual(script.units.filter((one) => one.lsn >= lsn))
      }
    }
  })

  it('a message with its header, its properties without the node’s, its id and its positions', async () => {
    const script = await LogScript.inMemory()
    const header = { collection_id: 7 }
    const { firstLsn, firstTimeTick } = await script.store.appendRecords([
      {
        vchannel: 'a',
        type: MessageType.manualFlush,
        properties: { own: 'x', _h: encodeHeader(MessageType.manualFlush, header), _ik: 'key' },
        payload: Buffer.from('p'),
      },
    ])
    await script.store.appendRecords([{ vchannel: 'a', payload: null }])
    const [message, empty] = await collect(createScanner(script.store))
    if (message?.kind !== 'message' || empty?.kind !== 'message') throw new Error('they are no messages')
    expect({ ...message.properties }).toEqual({ own: 'x' })
    expect(message.header).toMatchObject({ collection_id: 7 })
    expect([message.lsn, message.timeTick, message.type]).toEqual([firstLsn, firstTimeTick, MessageType.manualFlush])
    expect([message.isNull, Buffer.from(message.payload).toString()]).toEqual([false, 'p'])
    expect([empty.isNull, empty.payload.length, empty.header]).toEqual([true, 0, undefined])
    expect(message.id).toBe('00000000000000')
    expect([message.position, message.lastConfirmed]).toEqual([{ lsn: 1 }, { lsn: 1 }])
  })

  it('what was met on the way to an error is given first; then the scan is over', async () => {
    const script = await numbered(2)
    const [begin] = await script.begin(['a'])
    await script.end([{ begin: begin!, commit: true }], { bodies: 1 })
    await script.rows([{ vchannel: 'a' }])
    const scan = createScanner(script.store)
    expect([lsnOf(await scan.next()), lsnOf(await scan.next())]).toEqual([0, 1])
    await expect(scan.next()).rejects.toMatchObject({ code: 'TICK_ORDER' })
    expect(await scan.next()).toEqual({ done: true, value: undefined })
  })

  it('calls that do not wait for one another are answered in their order', async () => {
    const script = await numbered(5)
    const scan = createScanner(script.store)
    const items = await Promise.all(Array.from({ length: 6 }, () => scan.next()))
    expect(items.slice(0, 5).map(lsnOf)).toEqual([0, 1, 2, 3, 4])
    expect(items[5]).toEqual({ done: true, value: undefined })
  })

  it('a scan that does not follow ends where the log ended when it began', async () => {
    const script = await numbered(2)
    const scan = createScanner(script.store)
    await script.rows([{ vchannel: 'a' }])
    expect(unitsOf(await collect(scan)).map(({ lsn }) => lsn)).toEqual([0, 1])
  })
})

describe('a scan that follows', () => {
  it('has each unit once, in order, while it is written, from any start', async () => {
    const script = await LogScript.inMemory()
    const whole = new AbortController()
    const given: ExpectedUnit[] = []
    const follow = async (options: ScanOptions, into: ExpectedUnit[]) => {
      const scan = createScanner(script.store, { ...options, follow: true, signal: whole.signal })
      try {
        for await (const item of scan) into.push(...unitsOf([item]))
      } catch (error) {
        if (!whole.signal.aborted) throw error
      }
    }
    const runs = [follow({}, given)]
    const late: { from: number; into: ExpectedUnit[] }[] = []
    for (let n = 0; n < 60; n++) {
      const [begin] = await script.begin(['a'])
      await script.rows([{ vchannel: 'a', transaction: begin! }, { vchannel: 'b' }])
      if (n % 10 === 5) {
        const into: ExpectedUnit[] = []
        late.push({ from: script.store.nextLsn, into })
        runs.push(follow({ from: 'latest', transactionBytes: n * 10 }, into))
      }
      await script.end([{ begin: begin!, commit: n % 4 !== 0 }])
    }
    const lastLsn = script.units.at(-1)!.lsn
    while (given.at(-1)?.lsn !== lastLsn || late.some(({ into }) => into.at(-1)?.lsn !== lastLsn)) await turn()
    whole.abort()
    await Promise.all(runs)
    expect(given).toEqual(script.units)
    for (const { from, into } of late) expect(into).toEqual(expectedUnits(script.units, { lsn: from }, {}))
  })

  it('ends with the log', async () => {
    const script = await numbered(1)
    const scan = createScanner(script.store, { follow: true })
    expect(lsnOf(await scan.next())).toBe(0)
    const waits = scan.next()
    await script.store.close()
    expect(await waits).toEqual({ done: true, value: undefined })
  })

  it('is ended by its signal, also while it waits, with the reason', async () => {
    const script = await numbered(1)
    const abort = new AbortController()
    const scan = createScanner(script.store, { follow: true, signal: abort.signal })
    expect(lsnOf(await scan.next())).toBe(0)
    const waits = scan.next()
    const reason = new Error('enough')
    abort.abort(reason)
    await expect(waits).rejects.toMatchObject({ code: 'ABORTED', cause: reason })
    expect(await scan.next()).toEqual({ done: true, value: undefined })
    const never = createScanner(script.store, { signal: abort.signal })
    await expect(never.next()).rejects.toMatchObject({ code: 'ABORTED', cause: reason })
  })

  it('is ended by `return`, also while it waits', async () => {
    const script = await numbered(1)
    for (const ticks of [false, true]) {
      const scan = createScanner(script.store, { from: 'latest', follow: true, ticks }, { clock: script.clock! })
      let next = scan.next()
      if (ticks) {
        await script.clock!.advance(1)
        expect((await next).value).toMatchObject({ kind: 'tick' })
        next = scan.next()
      }
      await scan.return()
      expect(await next).toEqual({ done: true, value: undefined })
    }
  })

  it('gives nothing while it is paused, and everything afterwards', async () => {
    const script = await numbered(3)
    const scan = createScanner(script.store, { follow: true })
    expect(lsnOf(await scan.next())).toBe(0)
    scan.pause()
    const held: number[] = []
    const run = (async () => {
      for (let n = 0; n < 3; n++) held.push(lsnOf(await scan.next()))
    })()
    await turn()
    expect(held).toEqual([])
    scan.resume()
    while (held.length < 2) await turn()
    // The third call waits in the store; what comes while the scan is paused is not given either.
    scan.pause()
    await script.rows([{ vchannel: 'a' }])
    await turn()
    expect(held).toEqual([1, 2])
    scan.resume()
    await run
    expect(held).toEqual([1, 2, 3])
    scan.pause()
    const last = scan.next()
    await scan.return()
    expect(await last).toEqual({ done: true, value: undefined })
  })
})

describe('ticks', () => {
  it('one at the end says up to where everything was given', async () => {
    const script = await numbered(3)
    const items = await collect(createScanner(script.store, { ticks: true }, { clock: script.clock! }))
    expect(items.at(-1)).toMatchObject({ kind: 'tick' })
    const tick = items.at(-1)!.timeTick
    expect(tick).toBeGreaterThanOrEqual(script.ticks[2]!)
    const { firstTimeTick } = await script.rows([{ vchannel: 'a' }])
    expect(firstTimeTick).toBeGreaterThan(tick)
  })

  it('while nothing comes they come at their interval, and a filter does not hold them back', async () => {
    const script = await numbered(2)
    const clock = script.clock!
    const options = { follow: true, vchannels: ['b'], ticks: { everyMs: 50 } }
    const scan = createScanner(script.store, options, { clock })
    const items: ScanItem[] = []
    const run = (async () => {
      for await (const item of scan) items.push(item)
    })()
    await clock.advance(0)
    expect(items).toHaveLength(1)
    await clock.advance(49)
    await script.rows([{ vchannel: 'a' }])
    expect(items).toHaveLength(1)
    await clock.advance(200)
    expect(items.length).toBe(5)
    await script.rows([{ vchannel: 'b' }])
    await turn()
    expect(items.at(-1)).toMatchObject({ kind: 'message', lsn: 3 })
    for (const [index, { timeTick }] of items.entries()) {
      if (index > 0) expect(timeTick).toBeGreaterThan(items[index - 1]!.timeTick)
    }
    await scan.return()
    await run
    expect(clock.timers).toBe(0)
  })

  it('none overtakes what the store has and the scan has not given', async () => {
    const script = await numbered(1)
    const clock = script.clock!
    const gate = { open: () => {}, isShut: Promise.resolve() }
    const slow = { ...slowly(script.store, () => gate.isShut) } as LogStore
    Object.defineProperty(slow, 'nextLsn', { get: () => script.store.nextLsn })
    const scan = createScanner(slow, { follow: true, ticks: { everyMs: 1 } }, { clock })
    const items: ScanItem[] = []
    const run = (async () => {
      for await (const item of scan) items.push(item)
    })()
    await clock.advance(2)
    gate.isShut = new Promise((resolve) => {
      gate.open = resolve
    })
    const { firstTimeTick } = await script.rows([{ vchannel: 'a' }])
    await clock.advance(20)
    const before = items.length
    expect(items.filter(({ timeTick }) => timeTick >= firstTimeTick)).toEqual([])
    gate.open()
    await clock.advance(20)
    expect(items[before]).toMatchObject({ kind: 'message', timeTick: firstTimeTick })
    expect(items.at(-1)!.kind).toBe('tick')
    await scan.return()
    await run
  })
})

/** A store whose followers get each frame only when `gate` has settled; other reads do not wait. */
function slowly(store: LogStore, gate: () => Promise<void>): Partial<LogStore> {
  return {
    firstLsn: store.firstLsn,
    watermark: () => store.watermark(),
    async *read(options) {
      for await (const frame of store.read(options)) {
        if (options.follow === true) await gate()
        yield frame
      }
    },
  }
}
