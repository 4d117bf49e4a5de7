import fs from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { describe as describeLog } from '../../../native-free-storage/maintenance/describe.ts'
import { type DumpFilter, dump } from '../../../native-free-storage/maintenance/dump.ts'
import { exitCodeOf, type LogVerification } from '../../../native-free-storage/maintenance/findings.ts'
import { verify } from '../../../native-free-storage/maintenance/verify.ts'
import { type TestLog, temporaryDirectory, testLog } from '../segment/build-segment.ts'

/** The name of a segment file that is none of the log's. */
const surplus = (baseLsn: string): string => `${baseLsn.padStart(20, '0')}-${'b'.repeat(16)}.seg`

/** Sealed segments and an active one. */
async function someLog(sealed = 2): Promise<TestLog> {
  const log = await testLog()
  for (let segment = 0; segment <= sealed; segment++) {
    for (let i = 0; i < 4; i++) {
      log.append([
        { vchannel: 'a', payload: Buffer.alloc(300, i), properties: { k: 'v' } },
        { vchannel: 'b', type: i, payload: Buffer.alloc(20, i) },
      ])
    }
    if (segment < sealed) await log.roll()
  }
  return log
}

async function verified(log: TestLog): Promise<LogVerification & { exitCode: number; codes: string[] }> {
  const verification = await verify(log.environment, log.directory)
  const [result] = verification.logs
  const codes = result!.findings.map(({ code }) => code)
  return { ...result!, exitCode: exitCodeOf(verification), codes }
}

describe('verify', () => {
  it('finds nothing in a sound log', async () => {
    const log = await someLog()
    log.publish()
    const result = await verified(log)
    expect(result).toMatchObject({ findings: [], firstLsn: 0, lastLsn: 23, provenLsn: 23, records: 24, exitCode: 0 })
    const parent = await temporaryDirectory()
    fs.cpSync(log.directory, join(parent, 'a', 'log'), { recursive: true })
    const { logs } = await verify(log.environment, parent)
    expect(logs.map(({ path, records }) => [path, records])).toEqual([[join(parent, 'a', 'log'), 24]])
  })

  it('finds nothing in a log that was closed, truncated, or is empty', async () => {
    const log = await someLog()
    log.sealActive()
    log.truncateBefore(10)
    log.publish({}, { closed: true })
    expect(await verified(log)).toMatchObject({ codes: ['INDEX_MISSING'], firstLsn: 10, lastLsn: 23, records: 14 })
    const empty = await testLog()
    empty.publish()
    expect(await verified(empty)).toMatchObject({ findings: [], records: 0, lastLsn: null, provenLsn: null })
  })

  it('tells what is proven from what is not, and a torn tail from damage', async () => {
    const log = await testLog()
    log.append([{ vchannel: 'a' }])
    const synced = { syncedPosition: log.active.position, chain: log.active.chain }
    const { nextLsn } = log
    const lastTimeTick = log.active.lastTick
    log.append([{ vchannel: 'a' }])
    log.append([{ vchannel: 'a' }])
    log.publish({ nextLsn, lastTimeTick }, synced)
    // The third frame says that the second was durable.
    expect(await verified(log)).toMatchObject({ lastLsn: 2, provenLsn: 1, codes: ['TAIL_UNPROVEN'], exitCode: 0 })
    log.damage(log.active.name, log.active.position - 512 + 20)
    expect(await verified(log)).toMatchObject({ lastLsn: 1, codes: ['TAIL_TORN', 'TAIL_UNPROVEN'], exitCode: 0 })
    log.damage(log.active.name, log.active.position - 512 + 20)
    log.damage(log.active.name, log.active.position - 1024 + 20)
    expect(await verified(log)).toMatchObject({ codes: ['TAIL_DAMAGED'], exitCode: 9 })
  })

  it('names file, position and LSNs of a damaged frame, and goes on behind it', async () => {
    const log = await someLog()
    log.publish()
    log.damage(log.segments[1]!.name, 4096 + 1024 + 30)
    const result = await verified(log)
    expect(result).toMatchObject({ codes: ['FRAME_DAMAGED'], exitCode: 9, records: 22 })
    expect(result.findings[0]).toMatchObject({
      file: log.segments[1]!.name,
      position: 4096 + 1024,
      lsnFrom: 10,
      lsnTo: 11,
      acknowledged: 'yes',
    })
  })

  it('takes the newest indexes of a log that was not closed for ones that a crash took, and older ones for lost', async () => {
    const log = await someLog(7)
    log.publish()
    for (const { name } of log.segments.slice(1, 7)) fs.rmSync(join(log.directory, name.replace('.seg', '.idx')))
    const killed = await verified(log)
    // The segment that was being written counts among the newest.
    expect(killed.codes).toEqual(['INDEX_MISSING', 'INDEX_MISSING', ...Array(4).fill('INDEX_PENDING')])
    expect(killed.exitCode).toBe(8)
    log.publish({}, { closed: true })
    expect((await verified(log)).codes).toEqual(Array(6).fill('INDEX_MISSING'))
  })

  it('tells of a missing segment, a missing or damaged manifest, and a lost or wrong index', async () => {
    const log = await someLog()
    log.publish({}, { closed: true })
    const [first, second] = log.segments
    fs.rmSync(join(log.directory, first!.name.replace('.seg', '.idx')))
    log.damage(second!.name.replace('.seg', '.idx'), 4096 + 9)
    expect(await verified(log)).toMatchObject({ codes: ['INDEX_MISSING', 'INDEX_WRONG'], exitCode: 8 })
    fs.rmSync(join(log.directory, second!.name.replace('.seg', '.idx')))
    expect(await verified(log)).toMatchObject({ codes: ['INDEX_MISSING', 'INDEX_MISSING'], exitCode: 8 })
    fs.rmSync(join(log.directory, second!.name))
    expect(await verified(log)).toMatchObject({ exitCode: 9 })
    expect((await verified(log)).findings).toContainEqual(
      expect.objectContaining({ code: 'SEGMENT_MISSING', lsnTo: 15 }),
    )
    log.damage('MANIFEST-00000000000000000001', 90)
    expect((await verified(log)).codes).toContain('MANIFEST_DAMAGED')
    fs.rmSync(join(log.directory, 'MANIFEST-00000000000000000001'))
    expect((await verified(log)).codes).toContain('MANIFEST_MISSING')
  })

  it('takes no offence at a seal that names a segment which was dropped empty before the successor was begun', async () => {
    const log = await testLog()
    log.append([{ vchannel: 'a' }])
    await log.roll({ sealNames: '1234567890abcdef' })
    log.append([{ vchannel: 'a' }])
    log.publish()
    expect(await verified(log)).toMatchObject({ codes: [], records: 2, exitCode: 0 })
  })

  it('does not take what was left behind a cut for a damaged seal', async () => {
    const log = await testLog()
    log.append([{ vchannel: 'a' }])
    await log.roll({ seal: false, index: false })
    log.append([{ vchannel: 'a' }])
    log.publish()
    const [first, second] = log.segments
    // The frame that a recovery copied into the new segment is still there, whole or torn.
    const frame = fs.readFileSync(join(log.directory, second!.name)).subarray(4096, 4096 + 512)
    fs.appendFileSync(join(log.directory, first!.name), frame)
    expect((await verified(log)).codes).toEqual(['BYTES_BEYOND_CUT'])
    fs.appendFileSync(join(log.directory, first!.name), frame.subarray(0, 100))
    expect((await verified(log)).codes).toEqual(['BYTES_BEYOND_CUT'])
  })

  it('takes files that do not belong and bytes behind an end for what they are', async () => {
    const log = await someLog()
    log.publish()
    const [first] = log.segments
    fs.copyFileSync(join(log.directory, first!.name), join(log.directory, surplus('9')))
    fs.copyFileSync(join(log.directory, first!.name), join(log.directory, surplus('2')))
    fs.mkdirSync(join(log.directory, 'quarantine'))
    fs.writeFileSync(join(log.directory, 'quarantine', 'x'), 'x')
    fs.appendFileSync(join(log.directory, first!.name), 'beyond')
    const result = await verified(log)
    expect(result.codes.sort()).toEqual(['BYTES_BEYOND_CUT', 'FILES_QUARANTINED', 'FILE_STRAY', 'SEGMENT_SURPLUS'])
    expect(result.exitCode).toBe(8)
    expect(result.findings.find(({ code }) => code === 'SEGMENT_SURPLUS')).toMatchObject({ file: surplus('2') })
  })
})

describe('dump', () => {
  async function dumped(log: TestLog, filter: DumpFilter = {}): Promise<{ lsns: number[]; kinds: string[] }> {
    const lsns: number[] = []
    const kinds: string[] = []
    for await (const frame of dump(log.environment, log.directory, filter)) {
      kinds.push(frame.kind)
      for (const record of frame.records ?? []) lsns.push(record.lsn)
    }
    return { lsns, kinds }
  }

  it('filters by LSN, tick, time, vchannel and type', async () => {
    const log = await someLog()
    log.publish()
    const all = log.records.map(({ lsn }) => lsn)
    expect((await dumped(log)).lsns).toEqual(all)
    expect((await dumped(log, { lsnFrom: 5, lsnTo: 18 })).lsns).toEqual(all.slice(5, 19))
    const [tickFrom, tickTo] = [log.records[7]!.timeTick, log.records[8]!.timeTick]
    expect((await dumped(log, { tickFrom, tickTo })).lsns).toEqual([7, 8])
    expect((await dumped(log, { timeToMs: 999 })).lsns).toEqual([])
    expect((await dumped(log, { timeFromMs: 1000, timeToMs: 1000 })).lsns).toEqual(all)
    expect((await dumped(log, { vchannels: ['b'], types: [2] })).lsns).toEqual([5, 13, 21])
    const headers = await dumped(log, { headersOnly: true })
    expect(headers.lsns).toEqual([])
    expect(headers.kinds.length).toBe(12)
  })

  it('shows what is damaged and goes on', async () => {
    const log = await someLog()
    log.publish()
    log.damage(log.segments[0]!.name, 4096 + 20)
    const { lsns, kinds } = await dumped(log)
    expect(kinds[0]).toBe('damaged')
    expect(lsns).toEqual(log.records.slice(2).map(({ lsn }) => lsn))
  })
})

describe('describe', () => {
  it('tells what a log consists of', async () => {
    const log = await someLog()
    log.publish()
    const description = await describeLog(log.environment, log.directory)
    expect(description).toMatchObject({ logId: log.logId, firstLsn: 0, nextLsn: 24, provenNextLsn: 24, closed: false })
    expect(description.segments.map(({ baseLsn, nextLsn, hasIndex }) => [baseLsn, nextLsn, hasIndex])).toEqual([
      [0, 8, true],
      [8, 16, true],
      [16, 24, false],
    ])
  })
})
