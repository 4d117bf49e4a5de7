import { describe, expect, it } from 'vitest'
import { hash64, type Log, type LogOptions, openLog, type RecordInput } from '../../../native-free-storage/index.ts'
import { openSurveyed, surveyLog } from '../../../native-free-storage/maintenance/log-survey.ts'
import { repairLog } from '../../../native-free-storage/maintenance/repair.ts'
import { type SalvageOptions, salvageLog } from '../../../native-free-storage/maintenance/salvage.ts'
import type { SalvageReport } from '../../../native-free-storage/maintenance/salvage-report.ts'
import { walkSegment } from '../../../native-free-storage/maintenance/segment-walk.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { budget } from '../../budget.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { Random } from '../../simulation/random.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const seed = process.env.TIDELOG_SEED ?? '1'
const from = '/data/log'
const out = '/data/out'

interface KnownRecord {
  lsn: number
  timeTick: bigint
  vchannel: string
  type: number
  properties: Readonly<Record<string, string>>
  payload: string
  isNull: boolean
}

/** A log on a simulated disk, and all that was in it before anything happened to it. */
class Patient {
  readonly disk = new SimDisk({ seed })
  readonly environment = logEnvironment(this.disk, seed)
  known: KnownRecord[] = []

  constructor() {
    this.disk.prepareDirectory('/data')
  }

  open(options: LogOptions = {}, directory = from): Promise<Log> {
    const writeWay = { mode: 'dsync', depth: 4, reason: 'a simulation' } as const
    return openLog(directory, {
      environment: this.environment,
      segmentBytes: 16 * 1024,
      cacheBytes: 0,
      writeWay,
      ...options,
    })
  }

  /** An opening with `batches` appends of two records; about five make a segment. */
  async fill(batches: number): Promise<void> {
    const log = await this.open()
    for (let i = 0; i < batches; i++) await log.append(batchOf(log.nextLsn))
    await log.close()
    this.known = await recordsIn(this, from)
  }

  async salvage(options: SalvageOptions = {}): Promise<SalvageReport> {
    return await salvageLog(this.environment, from, out, options)
  }

  names(part = ''): string[] {
    const paths = this.disk.paths().filter((path) => path.startsWith(`${from}/`) && path.includes(part))
    return paths
      .map((path) => path.slice(from.length + 1))
      .filter((name) => !name.startsWith('pool/'))
      .sort()
  }

  async remove(...names: string[]): Promise<void> {
    for (const name of names) await this.disk.unlink(`${from}/${name}`)
  }

  poke(name: string, position: number, bytes: Uint8Array): void {
    this.disk.poke(`${from}/${name}`, position, bytes)
  }

  async copy(name: string, to: string): Promise<void> {
    const file = await this.disk.create(`${from}/${to}`)
    await file.write(this.disk.contents(`${from}/${name}`), 0)
    await file.close()
  }
}

function batchOf(lsn: number): RecordInput[] {
  return [
    {
      vchannel: `v${lsn % 3}`,
      payload: Buffer.alloc(1500 + (lsn % 7), lsn),
      type: lsn % 5,
      properties: { n: `${lsn}` },
    },
    { vchannel: 'other', payload: lsn % 4 === 0 ? null : Buffer.from(`payload ${lsn}`) },
  ]
}

async function recordsIn(patient: Patient, directory: string): Promise<KnownRecord[]> {
  const log = await openLog(directory, { environment: patient.environment, readOnly: true })
  const records = await recordsOf(log)
  await log.close()
  return records
}

async function recordsOf(log: Log): Promise<KnownRecord[]> {
  const records: KnownRecord[] = []
  for await (const frame of log.read()) {
    for (const { lsn, timeTick, vchannel, type, properties, payload, isNull } of frame) {
      const content = `${payload.length} bytes, ${hash64(payload)}`
      records.push({ lsn, timeTick, vchannel, type, properties: { ...properties }, payload: content, isNull })
    }
  }
  return records
}

/** The new log is sound, and has exactly what was known, but for what is told to be lost. */
async function demandSalvaged(patient: Patient, report: SalvageReport): Promise<void> {
  const isLost = (lsn: number): boolean =>
    report.lost.some(({ lsnFrom, lsnTo }) => lsn >= lsnFrom && (lsnTo === null || lsn <= lsnTo))
  const expected = patient.known.filter(({ lsn }) => !isLost(lsn))
  const verified = await verifyLog(patient.environment, out)
  const codes = verified.findings.map(({ code }) => code).filter((code) => code !== 'GAP_LOST')
  expect(codes).toEqual([])
  expect(verified.findings.map(({ lsnFrom, lsnTo }) => ({ lsnFrom, lsnTo }))).toEqual(
    report.lost.filter(({ lsnTo }) => lsnTo !== null),
  )
  expect(await recordsIn(patient, out)).toEqual(expected)
  expect(report.records).toBe(expected.length)
}

describe('salvage', () => {
  it('makes a sound log of a sound one, with every record as it was, under a new id, and goes on above it', async () => {
    const patient = new Patient()
    await patient.fill(12)
    await patient.fill(3)
    const before = new Map(patient.names().map((name) => [name, Buffer.from(patient.disk.contents(`${from}/${name}`))]))
    const report = await patient.salvage({ segmentBytes: 16 * 1024 })
    expect(report).toMatchObject({ lost: [], lostOmitted: 0, assumptions: [], firstLsn: 0, nextLsn: 30, records: 30 })
    expect(report.logId).not.toBe(report.originLogId)
    expect(
      report.files.every(({ state, header, holes }) => state === 'used' && header === 'sound' && holes === 0),
    ).toBe(true)
    await demandSalvaged(patient, report)
    const after = new Map(patient.names().map((name) => [name, Buffer.from(patient.disk.contents(`${from}/${name}`))]))
    expect(after).toEqual(before)
    const log = await patient.open({}, out)
    const { firstLsn, firstTimeTick } = await log.append([{ vchannel: 'a' }])
    expect(firstLsn).toBe(30)
    expect(firstTimeTick).toBeGreaterThan(patient.known.at(-1)!.timeTick)
    await log.close()
  })

  it('does without any one of the files, and tells exactly what was only in it', async () => {
    const patient = new Patient()
    await patient.fill(12)
    const segments = patient.names('.seg')
    expect(segments.length).toBeGreaterThan(2)
    for (const name of patient.names()) {
      const one = new Patient()
      await one.fill(12)
      const victim = one.names()[patient.names().indexOf(name)]!
      await one.remove(victim)
      const report = await one.salvage()
      await demandSalvaged(one, report)
      const index = segments.indexOf(name)
      const bases = segments.map((each) => Number(each.slice(0, 20)))
      const range = { lsnFrom: bases[index]!, lsnTo: (bases[index + 1] ?? 24) - 1 }
      expect(report.lost, name).toEqual(index < 0 ? [] : [range])
    }
  })

  it('does without the manifest, the indexes and every segment header at once', async () => {
    const patient = new Patient()
    await patient.fill(9)
    await patient.fill(2)
    await patient.remove(...patient.names('.idx'), ...patient.names('MANIFEST'), 'LEASE')
    for (const name of patient.names('.seg')) patient.poke(name, 0, Buffer.alloc(4096))
    const report = await patient.salvage()
    expect(report.lost).toEqual([])
    expect(report.records).toBe(22)
    expect(report.files.map(({ header }) => header)).toEqual(report.files.map(() => 'salt-found'))
    await demandSalvaged(patient, report)
  })

  it('finds a salt in which a bit was flipped, and does without one where nothing tells it', async () => {
    for (const [isFlip, header] of [
      [true, 'salt-found'],
      [false, 'unverified'],
    ] as const) {
      const patient = new Patient()
      const log = await patient.open({ segmentBytes: 1024 * 1024 })
      for (let i = 0; i < 8; i++) await log.append(batchOf(log.nextLsn))
      const [segment] = patient.names('.seg')
      patient.known = await recordsOf(log)
      // Not closed: there is no seal.
      if (isFlip) patient.disk.flipBit(`${from}/${segment}`, 90, 3)
      else patient.poke(segment!, 0, Buffer.alloc(4096))
      const report = await patient.salvage()
      expect(report.files[0]).toMatchObject({ header, records: 16 })
      expect(report.lost).toEqual([])
      await demandSalvaged(patient, report)
      await log.close().catch(() => {})
    }
  })

  it('tells the LSNs of damaged frames, and takes a sound copy in their place, whatever its name', async () => {
    const patient = new Patient()
    await patient.fill(12)
    const [first, second] = patient.names('.seg')
    await patient.copy(first!, 'copied by hand.bak')
    const report = await damagedIn(patient, first!, second!)
    expect(report.lost).toEqual([
      { lsnFrom: Number(second!.slice(0, 20)) + 2, lsnTo: Number(second!.slice(0, 20)) + 3 },
    ])
    await demandSalvaged(patient, report)
  })

  it('leaves out a file of another log, and one of an owner that was overtaken', async () => {
    const patient = new Patient()
    await patient.fill(4)
    const stray = Buffer.from(patient.disk.contents(`${from}/${patient.names('.seg')[0]}`))
    const other = new Patient()
    await other.fill(4)
    await patient.fill(4)
    const foreign = Buffer.from(stray)
    // Another log id, with its hash.
    const { encodeSegmentHeader, decodeSegmentHeader } = await import(
      '../../../native-free-storage/format/segment-header.ts'
    )
    const header = decodeSegmentHeader(stray.subarray(0, 4096))
    const anotherId = { ...header, logId: 'f'.repeat(32), segmentId: '00000000000000ff' }
    encodeSegmentHeader(anotherId).bytes.copy(foreign)
    const rival = Buffer.from(stray)
    encodeSegmentHeader({ ...header, segmentId: '00000000000000ee', baseLsn: 10, previous: null }).bytes.copy(rival)
    for (const [name, bytes] of [
      ['00000000000000000003-00000000000000ff.seg', foreign],
      ['00000000000000000010-00000000000000ee.seg', rival],
    ] as const) {
      const file = await patient.disk.create(`${from}/${name}`)
      await file.write(bytes, 0)
      await file.close()
    }
    const report = await patient.salvage()
    expect(report.files.find(({ file }) => file.includes('ff.seg'))).toMatchObject({ state: 'foreign', records: 0 })
    expect(report.files.find(({ file }) => file.includes('ee.seg'))).toMatchObject({ state: 'superseded', records: 0 })
    expect(report.lost).toEqual([])
    await demandSalvaged(patient, report)
  })

  it('takes from the quarantine what is lost otherwise, when asked', async () => {
    for (const quarantine of [false, true]) {
      const patient = new Patient()
      await patient.fill(12)
      const [, second] = patient.names('.seg')
      await patient.disk.makeDirectory(`${from}/quarantine`)
      await patient.disk.rename(`${from}/${second}`, `${from}/quarantine/${second}.0a1b2c3d`)
      const report = await patient.salvage({ quarantine })
      expect(report.lost.length).toBe(quarantine ? 0 : 1)
      await demandSalvaged(patient, report)
    }
  })

  it('takes what stands behind a segment that a repair wrote anew, with and without a manifest', async () => {
    for (const [damaged, hasManifest] of [
      [[1], true],
      [[1, 2], true],
      [[1], false],
      [[0, 2], false],
    ] as const) {
      const patient = new Patient()
      await patient.fill(24)
      const names = patient.names('.seg')
      for (const index of damaged) {
        const bytes = Buffer.from(patient.disk.contents(`${from}/${names[index]}`))
        patient.disk.flipBit(`${from}/${names[index]}`, bytes.indexOf('TFRM', bytes.indexOf('TFRM') + 1) + 400, 1)
      }
      const { lost } = await repairLog(patient.environment, from, { apply: true, mode: 'tail' })
      expect(lost.length).toBe(damaged.length)
      if (!hasManifest) await patient.remove(...patient.names('MANIFEST'))
      const report = await patient.salvage()
      const isLost = (lsn: number) => lost.some(({ lsnFrom, lsnTo }) => lsn >= lsnFrom && lsn <= lsnTo)
      expect(await recordsIn(patient, out)).toEqual(patient.known.filter(({ lsn }) => !isLost(lsn)))
      expect(report.lost).toEqual([])
    }
  })

  it('takes what stands behind the gap that a repair wrote for a segment that is gone', async () => {
    for (const gone of [[1], [1, 2], [2, 3]]) {
      const patient = new Patient()
      await patient.fill(24)
      const names = patient.names('.seg')
      await patient.remove(...gone.map((index) => names[index]!))
      const { lost } = await repairLog(patient.environment, from, { apply: true, mode: 'tail' })
      expect(lost).toHaveLength(1)
      await patient.salvage()
      const [{ lsnFrom, lsnTo }] = lost as [(typeof lost)[0]]
      expect(await recordsIn(patient, out)).toEqual(patient.known.filter(({ lsn }) => lsn < lsnFrom || lsn > lsnTo))
    }
  })

  it('finds in the quarantine of a repair what the repair cut off', async () => {
    for (const quarantine of [false, true]) {
      const patient = new Patient()
      await patient.fill(12)
      const [, second] = patient.names('.seg')
      const bytes = Buffer.from(patient.disk.contents(`${from}/${second}`))
      patient.disk.flipBit(`${from}/${second}`, bytes.indexOf('TFRM', bytes.indexOf('TFRM') + 1) + 400, 1)
      await repairLog(patient.environment, from, { apply: true, mode: 'point-in-time' })
      expect(patient.names('quarantine').length).toBeGreaterThan(0)
      const report = await patient.salvage({ quarantine })
      const found = await recordsIn(patient, out)
      for (const record of found) expect(patient.known[record.lsn]).toEqual(record)
      // Of 24 records two were damaged; the repair keeps what stands before them.
      expect(found.length).toBe(quarantine ? 22 : Number(second!.slice(0, 20)) + 2)
      expect((await verifyLog(patient.environment, out)).findings.every(({ code }) => code === 'GAP_LOST')).toBe(true)
      expect(report.lost).toEqual([])
      expect(report.assumptions.some((text) => text.includes('quarantine/'))).toBe(quarantine)
    }
  })

  it('keeps what was truncated away, and gaps of the log, as they are', async () => {
    const patient = new Patient()
    await patient.fill(12)
    const log = await patient.open()
    await log.truncateBefore(13)
    await log.append(batchOf(log.nextLsn))
    await log.close()
    patient.known = await recordsIn(patient, from)
    expect(patient.known[0]!.lsn).toBe(13)
    const report = await patient.salvage()
    expect(report).toMatchObject({ firstLsn: 13, nextLsn: 26, lost: [] })
    await demandSalvaged(patient, report)
  })

  it('takes nothing for data that stands behind a hole which was never proven', async () => {
    const patient = new Patient()
    const log = await patient.open({ segmentBytes: 1024 * 1024, durability: 'os' })
    for (let i = 0; i < 5; i++) await log.append(batchOf(log.nextLsn))
    const [segment] = patient.names('.seg')
    patient.known = (await recordsOf(log)).slice(0, 4)
    // At durability `os` no frame says that another was durable: a lost one in the middle ends the log.
    const bytes = Buffer.from(patient.disk.contents(`${from}/${segment}`))
    const third = bytes.indexOf('TFRM', bytes.indexOf('TFRM', bytes.indexOf('TFRM') + 1) + 1) - 8
    patient.poke(segment!, third, Buffer.alloc(96))
    const report = await patient.salvage()
    expect(report).toMatchObject({ records: 4, lost: [], nextLsn: 4 })
    await demandSalvaged(patient, report)
    await log.close().catch(() => {})
  })

  it('goes on where the disk cannot read', async () => {
    const patient = new Patient()
    await patient.fill(9)
    const [segment] = patient.names('.seg')
    // A block that cannot be read, at whatever length it is asked for.
    const at = 8192
    const environment = {
      ...patient.environment,
      disk: badBlock(patient.disk, `${from}/${segment}`, at),
    }
    const report = await salvageLog(environment, from, out)
    expect(report.files[0]!.unreadableBytes).toBeGreaterThanOrEqual(4096)
    expect(report.lost.length).toBe(1)
    await demandSalvaged(patient, report)
  })

  it('refuses a directory that is not empty, and one that holds nothing of a log', async () => {
    const patient = new Patient()
    await patient.fill(2)
    await expect(salvageLog(patient.environment, from, from)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(salvageLog(patient.environment, from, `${from}/x`)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(salvageLog(patient.environment, '/data', out)).rejects.toMatchObject({ code: 'LOG_MISSING' })
    await patient.salvage()
    await expect(patient.salvage()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  it('takes every intact frame, makes nothing up, and tells of all the rest, whatever was damaged', async () => {
    const rounds = budget({ small: 25, ci: 1_000, soak: 100_000 })
    const counts = { records: 0, lost: 0, unproven: 0 }
    for (let round = 0; round < rounds; round++) {
      await demandOfRound(`${seed}/${round}`, counts).catch((error: unknown) => {
        throw new Error(`round ${round}, seed ${seed}: ${error}`, { cause: error })
      })
    }
    const { records, lost, unproven } = counts
    console.log(
      `salvage: ${rounds} damaged logs, ${records} records back, ${lost} told to be lost, ${unproven} behind holes that nothing proves; seed ${seed}`,
    )
    expect(lost).toBeGreaterThan(0)
  })
})

async function demandOfRound(name: string, counts: { records: number; lost: number; unproven: number }): Promise<void> {
  const patient = new Patient()
  await patient.fill(10)
  await patient.fill(4)
  const frames = await framesIn(patient)
  const random = new Random(name)
  for (let i = random.between(1, 6); i > 0; i--) await damageOne(patient, random)
  const report = await patient.salvage()
  const found = new Map((await recordsIn(patient, out)).map((record) => [record.lsn, record]))
  // Nothing is made up, and nothing is changed.
  for (const record of found.values()) expect(patient.known[record.lsn]).toEqual(record)
  expect((await verifyLog(patient.environment, out)).findings.every(({ code }) => code === 'GAP_LOST')).toBe(true)
  // What still stands where it stood was taken, unless nothing says with which salt, or how far the log went.
  const isDoubtful = report.assumptions.some((text) => /there is no manifest|salt is not known/.test(text))
  // Without a manifest nobody knows of a last segment that is gone.
  const isEndDoubtful = isDoubtful || report.assumptions.some((text) => /MANIFEST-\d+ cannot be believed/.test(text))
  for (const { file, bytes, position, lsns } of frames) {
    const now = patient.names().includes(file) ? Buffer.from(patient.disk.contents(`${from}/${file}`)) : Buffer.alloc(0)
    if (isDoubtful || !now.subarray(position, position + bytes.length).equals(bytes)) continue
    for (const lsn of lsns) expect(found.has(lsn), `LSN ${lsn} stands in ${file}`).toBe(true)
  }
  for (const { lsn } of patient.known) {
    const isTold = report.lost.some(({ lsnFrom, lsnTo }) => lsn >= lsnFrom && (lsnTo === null || lsn <= lsnTo))
    if (found.has(lsn)) counts.records++
    else if (isTold) counts.lost++
    else counts.unproven++
    expect(found.has(lsn) && isTold).toBe(false)
    if (!isEndDoubtful) expect(found.has(lsn) || isTold, `LSN ${lsn}`).toBe(true)
  }
}

async function damageOne(patient: Patient, random: Random): Promise<void> {
  const name = random.pick(patient.names())
  const path = `${from}/${name}`
  const size = patient.disk.contents(path).length
  const kind = random.below(4)
  if (kind === 0 && patient.names('.seg').length > 1) await patient.remove(name)
  else if (kind === 1 && size > 0) patient.disk.flipBit(path, random.below(size), random.below(8))
  else if (kind === 2 && size > 0) patient.disk.zeroSector(path, random.below(Math.max(1, size >> 9)))
  else {
    const file = await patient.disk.open(path, 'write')
    await file.truncate(random.below(size + 1))
    await file.close()
  }
}

/** Where each frame with records stands, without its padding. */
async function framesIn(patient: Patient) {
  const frames: { file: string; position: number; bytes: Buffer; lsns: number[] }[] = []
  const { segments } = await surveyLog(patient.environment, from)
  for (const segment of segments) {
    const opened = (await openSurveyed(patient.environment, from, segment))!
    const options = { from: 4096, end: segment.bytes - 512, lsn: undefined, chain: undefined, content: true }
    for await (const { header, bytes, position } of walkSegment(opened, options)) {
      const { headerLength, bodyLength, nodeSectionLength, recordCount, baseLsn } = header!
      const length = headerLength + bodyLength + nodeSectionLength
      const lsns = Array.from({ length: recordCount }, (_, i) => baseLsn + i)
      frames.push({ file: segment.name, position, bytes: Buffer.from(bytes.subarray(0, length)), lsns })
    }
    await opened.release()
  }
  return frames
}

async function damagedIn(patient: Patient, first: string, second: string): Promise<SalvageReport> {
  for (const name of [first, second]) {
    const bytes = Buffer.from(patient.disk.contents(`${from}/${name}`))
    const frame = bytes.indexOf('TFRM', bytes.indexOf('TFRM') + 1)
    patient.disk.flipBit(`${from}/${name}`, frame + 400, 1)
  }
  return await patient.salvage()
}

function badBlock(disk: SimDisk, path: string, at: number): SimDisk {
  disk.inject((operation) => {
    const { kind, position = 0, length = 0 } = operation
    if (kind !== 'read' || operation.path !== path) return undefined
    return position < at + 4096 && position + length > at ? { fail: 'EIO' } : undefined
  })
  return disk
}
