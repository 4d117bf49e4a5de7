import { describe, expect, test } from 'vitest'
import { TidelogError } from '../../src/errors.ts'
import type { LogStoreOpener } from '../../src/log-store/log-store.ts'
import { MemoryLogs, type MemoryLogsOptions } from '../../src/log-store/memory.ts'
import { type NodeOptions, StreamingNode } from '../../src/streaming-node/node.ts'
import { encodeBody, numberedBody } from '../log-store/encode-body.ts'

function openNode(logs: MemoryLogs, options: Partial<NodeOptions> = {}): Promise<StreamingNode> {
  return StreamingNode.open({ stores: logs.opener(), pchannels: 4, ...options })
}

/** The opener of `logs`, but for the logs whose opening fails. */
function failing(logs: MemoryLogs, names: readonly string[]): LogStoreOpener {
  const opener = logs.opener()
  return {
    async open(name, ownerTerm) {
      if (names.includes(name)) {
        throw new TidelogError('LOG_DAMAGED', `log ${name}: frame at 4096 is damaged`, {
          file: 'a.seg',
          position: 4096,
        })
      }
      return opener.open(name, ownerTerm)
    },
  }
}

async function textsOf(node: StreamingNode, vchannel: string): Promise<string[]> {
  const { group } = await node.resolve(vchannel, false)
  const texts: string[] = []
  const signal = new AbortController().signal
  for await (const frame of node
    .reader(group)
    .read({ from: 'earliest', vchannels: [vchannel], follow: false, signal })) {
    for (const record of frame) texts.push(Buffer.from(record.payload).toString())
  }
  return texts
}

describe('vchannels', () => {
  test('each goes where there are fewest, of several on the lowest number', async () => {
    const node = await openNode(new MemoryLogs())
    const groups: number[] = []
    for (const name of ['zebra', 'ant', 'bee', 'cat', 'dog', 'eel']) groups.push((await node.resolve(name, true)).group)
    expect(groups).toEqual([0, 1, 2, 3, 0, 1])
    expect(node.vchannels().map((info) => info.name)).toEqual(['ant', 'bee', 'cat', 'dog', 'eel', 'zebra'])
    expect(node.status().map((status) => status.vchannels)).toEqual([2, 2, 1, 1])
    await node.close()
  })

  test('their places outlive the node', async () => {
    const logs = new MemoryLogs()
    let node = await openNode(logs)
    for (let index = 0; index < 9; index++) await node.resolve(`v${index}`, true)
    const before = node.vchannels()
    await node.close()
    node = await openNode(logs)
    expect(node.vchannels()).toEqual(before)
    expect((await node.resolve('v9', true)).group).toBe(1)
    await node.close()
  })

  test('a vchannel is used only when its place is durable', async () => {
    let release = () => {}
    let held: Promise<void> | null = null
    const logs = new MemoryLogs({ commit: async (name) => (name === 'catalog' ? (held ?? undefined) : undefined) })
    const node = await openNode(logs)
    held = new Promise((resolve) => {
      release = resolve
    })
    let settled = false
    const creation = node.resolve('orders', true).then((info) => {
      settled = true
      return info
    })
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect([settled, node.vchannels()]).toEqual([false, []])
    await expect(node.append(0, await numberedBody('orders', 'x', 1), {}).settled).rejects.toMatchObject({
      code: 'INVALID_BODY',
    })
    release()
    expect((await creation).name).toBe('orders')
    await node.close()
  })

  test('many who ask for the same one at once get the same one', async () => {
    const node = await openNode(new MemoryLogs())
    const infos = await Promise.all(Array.from({ length: 100 }, () => node.resolve('orders', true)))
    expect(new Set(infos.map((info) => info.group))).toEqual(new Set([0]))
    expect(node.vchannels().length).toBe(1)
    await node.close()
  })

  test('an unknown one is an error unless it may be created', async () => {
    const node = await openNode(new MemoryLogs())
    await expect(node.resolve('orders', false)).rejects.toMatchObject({ code: 'VCHANNEL_UNKNOWN' })
    await expect(node.truncateBefore('orders', 0)).rejects.toMatchObject({ code: 'VCHANNEL_UNKNOWN' })
    await node.close()
  })

  test.each(['', 'a\nb', '\u007f', 'x'.repeat(256), 'ü'.repeat(128), '\ud800'])(
    'the name %j is refused',
    async (name) => {
      const node = await openNode(new MemoryLogs())
      await expect(node.resolve(name, true)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', outcome: 'not-written' })
      expect((await node.resolve('y'.repeat(255), true)).group).toBe(0)
      await node.close()
    },
  )

  test('there is a limit, and what is refused takes no place', async () => {
    const node = await openNode(new MemoryLogs(), { vchannelsMax: 3 })
    const results = await Promise.allSettled(['a', 'b', 'c', 'd', 'e'].map((name) => node.resolve(name, true)))
    expect(results.map((result) => result.status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
    ])
    expect((results[3] as PromiseRejectedResult).reason).toMatchObject({ code: 'LIMIT_EXCEEDED' })
    expect(node.status().map((status) => status.vchannels)).toEqual([1, 1, 1, 0])
    await node.close()
  })

  test('100,000 of them, opened again within a bound', async () => {
    const logs = new MemoryLogs()
    let node = await openNode(logs)
    for (let wave = 0; wave < 4; wave++) {
      await Promise.all(Array.from({ length: 25_000 }, (_, index) => node.resolve(`tenant-${wave}-${index}`, true)))
    }
    await node.close()
    const start = performance.now()
    node = await openNode(logs)
    expect(performance.now() - start).toBeLessThan(5_000)
    expect(node.vchannels().length).toBe(100_000)
    expect(node.status().map((status) => status.vchannels)).toEqual([25_000, 25_000, 25_000, 25_000])
    await node.close()
  })

  test('a catalog of many small frames is rewritten at the next opening, without loss', async () => {
    const logs = new MemoryLogs()
    let node = await openNode(logs)
    for (let index = 0; index < 1_100; index++) await node.resolve(`v${index}`, true)
    const before = node.vchannels()
    await node.close()
    node = await openNode(logs)
    expect(node.vchannels()).toEqual(before)
    await node.close()
    const catalog = await logs.opener().open('catalog', 0)
    let frames = 0
    for await (const _ of catalog.read({ from: 'earliest' })) frames++
    expect(frames).toBe(1)
    await catalog.close()
    node = await openNode(logs)
    expect(node.vchannels()).toEqual(before)
    expect((await node.resolve('new', true)).group).toBe(0)
    await node.close()
  })

  test('a catalog that cannot be is refused: a place that does not exist, damaged text, two places', async () => {
    for (const payloads of [
      ['{"name":"a","pchannel":4,"createdMs":1}'],
      ['no json'],
      ['{"name":"","pchannel":0,"createdMs":1}'],
      ['{"name":"a","pchannel":0,"createdMs":1}', '{"name":"a","pchannel":1,"createdMs":1}'],
    ]) {
      const logs = new MemoryLogs()
      const catalog = await logs.opener().open('catalog', 0)
      await catalog.append(
        await encodeBody(payloads.map((text) => ({ vchannel: 'vchannels', payload: Buffer.from(text) }))),
      )
      await catalog.close()
      await expect(openNode(logs)).rejects.toMatchObject({ code: 'DATA_DIRECTORY_INVALID' })
    }
  })
})

describe('append, read, truncate', () => {
  test('records of a vchannel come back from its group', async () => {
    const node = await openNode(new MemoryLogs())
    for (const name of ['a', 'b']) {
      const { group } = await node.resolve(name, true)
      await node.append(group, await numberedBody(name, name, 2), {}).settled
    }
    expect(await textsOf(node, 'a')).toEqual(['a-0', 'a-1'])
    expect(await textsOf(node, 'b')).toEqual(['b-0', 'b-1'])
    await node.close()
  })

  test('a body of another group, of an unknown vchannel or for all vchannels is refused', async () => {
    const node = await openNode(new MemoryLogs())
    await node.resolve('a', true)
    const body = await numberedBody('a', 'x', 1)
    for (const refused of [
      node.append(1, body, {}).settled,
      node.append(0, await numberedBody('unheard', 'x', 1), {}).settled,
      node.append(0, await numberedBody('', 'x', 1), {}).settled,
    ]) {
      await expect(refused).rejects.toMatchObject({ code: 'INVALID_BODY', outcome: 'not-written' })
    }
    await expect(node.append(9, body, {}).settled).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      outcome: 'not-written',
    })
    expect(node.nextLsn(0)).toBe(0)
    await node.close()
  })

  test('truncation is by the vchannel and takes its whole log; beyond the end is an error', async () => {
    const node = await openNode(new MemoryLogs())
    const { group } = await node.resolve('a', true)
    await node.append(group, await numberedBody('a', 'x', 4), {}).settled
    expect(await node.truncateBefore('a', 2)).toEqual({ firstLsn: 2 })
    expect(await textsOf(node, 'a')).toEqual(['x-2', 'x-3'])
    await expect(node.truncateBefore('a', 5)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await node.truncateBefore('a', 4)).toEqual({ firstLsn: 4 })
    await node.close()
  })

  test('what was appended is told to the observer', async () => {
    const told: unknown[] = []
    const observer = {
      appended: (pchannel: number, records: number, bytes: number) => told.push([pchannel, records, bytes]),
      appendFailed: (pchannel: number, outcome: string) => told.push([pchannel, outcome]),
      repeated: (pchannel: number, records: number) => told.push([pchannel, 'repeated', records]),
    }
    const node = await openNode(new MemoryLogs(), { observer })
    await node.resolve('a', true)
    const body = await numberedBody('a', 'x', 3)
    await node.append(0, body, {}).settled
    await expect(node.append(0, body, { signal: AbortSignal.abort() }).settled).rejects.toMatchObject({
      code: 'ABORTED',
    })
    expect(told).toEqual([
      [0, 3, body.bytes.length],
      [0, 'not-written'],
    ])
    await node.close()
  })
})

describe('failures', () => {
  test('a pchannel that does not open is failed, says why, and the others go on', async () => {
    const logs = new MemoryLogs()
    let node = await openNode(logs)
    for (const name of ['a', 'b', 'c']) await node.resolve(name, true)
    await node.close()
    node = await openNode(logs, { stores: failing(logs, ['1']) })
    expect(node.status().map((status) => status.state)).toEqual(['idle', 'failed', 'idle', 'idle'])
    expect(node.status()[1]!.message).toContain('frame at 4096 is damaged')
    const refused = node.append(1, await numberedBody('b', 'x', 1), {}).settled
    await expect(refused).rejects.toMatchObject({ code: 'LOG_DAMAGED', outcome: 'not-written', position: 4096 })
    expect(() =>
      node.reader(1).read({ from: 'earliest', vchannels: ['b'], follow: true, signal: new AbortController().signal }),
    ).toThrow(expect.objectContaining({ code: 'LOG_DAMAGED' }))
    await node.append(0, await numberedBody('a', 'x', 1), {}).settled
    expect(await textsOf(node, 'a')).toEqual(['x-0'])
    expect(await Promise.all(['d', 'e', 'f'].map(async (name) => (await node.resolve(name, true)).group))).toEqual([
      3, 0, 2,
    ])
    await node.drain()
    await node.close()
  })

  test('one that fails at work is failed, and gets no new vchannels', async () => {
    let fail = ''
    const commit: MemoryLogsOptions['commit'] = async (name) => {
      if (name === fail) throw new Error('EIO')
    }
    const node = await openNode(new MemoryLogs({ commit }))
    await node.resolve('a', true)
    fail = '0'
    await expect(node.append(0, await numberedBody('a', 'x', 1), {}).settled).rejects.toMatchObject({
      outcome: 'unknown',
    })
    expect(node.status().map((status) => status.state)).toEqual(['failed', 'idle', 'idle', 'idle'])
    const groups = await Promise.all(['b', 'c', 'd', 'e'].map(async (name) => (await node.resolve(name, true)).group))
    expect(groups).toEqual([1, 2, 3, 1])
    await node.close()
  })

  test('a creation that fails takes no place and is an error; with all pchannels failed there is none to be had', async () => {
    let fail = true
    const logs = new MemoryLogs({
      commit: async (name) => {
        if (fail && name === 'catalog') throw new Error('EIO')
      },
    })
    let node = await openNode(logs)
    await expect(node.resolve('a', true)).rejects.toMatchObject({ code: 'POISONED' })
    expect(node.vchannels()).toEqual([])
    await node.close()
    fail = false
    node = await openNode(logs, { stores: failing(logs, ['0', '1', '2', '3']) })
    await expect(node.resolve('a', true)).rejects.toMatchObject({ code: 'IO_FAILED', outcome: 'not-written' })
    await node.close()
  })

  test('without its catalog a node does not open, and leaves nothing open', async () => {
    const logs = new MemoryLogs()
    await expect(openNode(logs, { stores: failing(logs, ['catalog']) })).rejects.toMatchObject({ code: 'LOG_DAMAGED' })
  })
})

describe('drain', () => {
  test('nothing new is taken, what was taken is settled, reading goes on', async () => {
    let release = () => {}
    let held: Promise<void> | null = null
    const node = await openNode(new MemoryLogs({ commit: async () => held ?? undefined }))
    await node.resolve('a', true)
    held = new Promise((resolve) => {
      release = resolve
    })
    const body = await numberedBody('a', 'x', 1)
    const taken = node.append(0, body, {}).settled
    const creating = node.resolve('b', true)
    const drained = node.drain()
    expect(node.accepting).toBe(false)
    for (const refused of [node.append(0, body, {}).settled, node.resolve('c', true), node.truncateBefore('a', 0)]) {
      await expect(refused).rejects.toMatchObject({ code: 'DRAINING', retriable: true, outcome: 'not-written' })
    }
    expect((await node.resolve('a', true)).group).toBe(0)
    release()
    await drained
    expect((await taken).range.firstLsn).toBe(0)
    expect((await creating).group).toBe(1)
    expect(await textsOf(node, 'a')).toEqual(['x-0'])
    await node.close()
    await node.close()
    await node.drain()
  })
})
