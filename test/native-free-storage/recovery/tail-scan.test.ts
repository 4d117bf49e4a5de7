import { beforeAll, describe, expect, it } from 'vitest'
import { hash64 } from '../../../native-free-storage/format/checksum.ts'
import { encodeFrameHeader, FRAME_HEADER_BYTES, FrameKind } from '../../../native-free-storage/format/frame-header.ts'
import { encodeSeal, SEAL_BODY_BYTES } from '../../../native-free-storage/format/seal.ts'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { classifyTail } from '../../../native-free-storage/recovery/classify.ts'
import { scanTail, type TailPoint, type TailScan } from '../../../native-free-storage/recovery/tail-scan.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const salt = 0x1234_5678_9abc_def0n
const start: TailPoint = { position: 4096, chain: 77n, nextLsn: 10, lastTimeTick: 500n }
const fileBytes = 32 * 1024
/** Each frame fills one flush of this size. */
const flush = 1024

/** Builds a tail frame by frame; positions, LSNs, ticks and the chain follow one another. */
class Tail {
  readonly bytes = Buffer.alloc(fileBytes)
  position = start.position
  chain = start.chain
  lsn = start.nextLsn
  tick = start.lastTimeTick + 1n

  /** `durable`: what the frame says was durable when it was built. */
  frame(durable: number, salted = salt): this {
    const body = Buffer.alloc(64, this.lsn)
    body.copy(this.bytes, this.position + FRAME_HEADER_BYTES)
    this.chain = this.#header(FrameKind.records, 1, body, durable, flush, salted)
    this.position += flush
    this.lsn++
    this.tick++
    return this
  }

  seal(): this {
    const body = encodeSeal({
      end: this.position,
      frames: 1,
      records: 1,
      firstLsn: 10,
      nextLsn: this.lsn,
      firstTimeTick: 501n,
      lastTimeTick: this.tick - 1n,
      salt,
      nextSegmentId: '00000000000000aa',
      chain: this.chain,
    })
    body.copy(this.bytes, this.position + FRAME_HEADER_BYTES)
    this.#header(FrameKind.seal, 0, body, this.position, 512, salt)
    return this
  }

  #header(kind: FrameKind, count: number, body: Buffer, durable: number, total: number, salted: bigint): bigint {
    const fields = {
      kind,
      flags: 0,
      totalLength: total,
      bodyLength: kind === FrameKind.seal ? SEAL_BODY_BYTES : body.length,
      nodeSectionLength: 0,
      recordCount: count,
      ownerTerm: 1,
      incarnation: 2,
      baseLsn: this.lsn,
      baseTimeTick: this.tick,
      position: this.position,
      durablePosition: durable,
      chain: this.chain,
      bodyHash: hash64(body),
      nodeHash: 0n,
    }
    return encodeFrameHeader(this.bytes, this.position, fields, salted)
  }

  /** Loses the flush at `index`: nothing of it, or other bytes. */
  lose(index: number, with_ = 0): this {
    const at = start.position + index * flush
    this.bytes.fill(with_, at, at + flush)
    return this
  }

  async scan(from = start, length = fileBytes): Promise<TailScan & { verdict: string }> {
    const disk = new SimDisk()
    const file = await disk.create('/tail')
    await file.write(this.bytes.subarray(0, length), 0)
    const scan = await scanTail(file, salt, from)
    return { ...scan, verdict: classifyTail(scan.evidence).verdict }
  }
}

const at = (index: number): number => start.position + index * flush

describe('the scan of a tail', () => {
  beforeAll(async () => {
    await loadChecksum()
  })

  it('of nothing is clean, and proven where it began', async () => {
    const scan = await new Tail().scan()
    expect(scan).toMatchObject({ verdict: 'clean', end: start, proven: start, unproven: [], zeroFrom: 4096 })
  })

  it('ends behind the last frame; proven is what a later frame says', async () => {
    const scan = await new Tail().frame(at(0)).frame(at(1)).frame(at(2)).scan()
    expect(scan).toMatchObject({ verdict: 'clean' })
    expect(scan.end).toMatchObject({ position: at(3), nextLsn: 13, lastTimeTick: 503n })
    expect(scan.proven).toMatchObject({ position: at(2), nextLsn: 12, lastTimeTick: 502n })
    expect(scan.unproven.map(({ header }) => header.baseLsn)).toEqual([12])
    expect(scan.zeroFrom).toBeLessThanOrEqual(at(3))
  })

  it('goes on from the position of the manifest, in the middle', async () => {
    const tail = new Tail().frame(at(0)).frame(at(1))
    const { chain } = tail
    const scan = await tail.frame(at(2)).scan({ position: at(2), chain, nextLsn: 12, lastTimeTick: 502n })
    expect(scan).toMatchObject({ verdict: 'clean', end: { position: at(3), nextLsn: 13 }, proven: { position: at(2) } })
  })

  it('finds a torn last frame', async () => {
    const tail = new Tail().frame(at(0)).frame(at(1))
    tail.bytes[at(1) + 20]! ^= 1
    expect(await tail.scan()).toMatchObject({ verdict: 'torn', end: { position: at(1), nextLsn: 11 } })
  })

  it('finds a hole with frames behind it that were all in flight: torn', async () => {
    const scan = await new Tail().frame(at(0)).frame(at(1)).frame(at(1)).frame(at(1)).lose(1).scan()
    expect(scan).toMatchObject({ verdict: 'torn', end: { position: at(1) }, nextLsnBehind: 14 })
    expect(scan.evidence.framesBehind).toBe('unproven')
    const noise = await new Tail().frame(at(0)).frame(at(1)).frame(at(1)).lose(1, 0xa5).scan()
    expect(noise).toMatchObject({ verdict: 'torn', end: { position: at(1) } })
  })

  it('finds damage to what a later frame proves', async () => {
    const scan = await new Tail().frame(at(0)).frame(at(1)).frame(at(2)).lose(1).scan()
    expect(scan).toMatchObject({ verdict: 'damaged', end: { position: at(1), nextLsn: 11 }, nextLsnBehind: 13 })
    expect(scan.evidence.framesBehind).toBe('proving')
  })

  it('finds a seal, and a hole before a seal', async () => {
    const sealed = await new Tail().frame(at(0)).frame(at(0)).seal().scan()
    expect(sealed).toMatchObject({ verdict: 'sealed', end: { position: at(2), nextLsn: 12 }, unproven: [] })
    expect(sealed.seal?.nextSegmentId).toBe('00000000000000aa')
    expect(sealed.proven.position).toBe(at(2))
    expect(await new Tail().frame(at(0)).frame(at(0)).seal().lose(0).scan()).toMatchObject({ verdict: 'damaged' })
  })

  it('takes no frame of another file, place, order or LSN for one of its own', async () => {
    const other = await new Tail()
      .frame(at(0))
      .frame(at(0), salt + 1n)
      .scan()
    expect(other).toMatchObject({ verdict: 'torn', end: { position: at(1) } })
    expect(other.evidence.framesBehind).toBe('none')
    const moved = new Tail().frame(at(0)).frame(at(0))
    moved.bytes.copy(moved.bytes, at(4), at(1), at(2))
    moved.lose(1)
    expect((await moved.scan()).evidence).toMatchObject({ ending: 'invalid', framesBehind: 'none' })
    const stale = new Tail().frame(at(0))
    stale.lsn = 3
    stale.frame(at(0))
    expect((await stale.scan()).evidence.framesBehind).toBe('none')
    const chained = new Tail().frame(at(0))
    chained.chain += 1n
    chained.frame(at(0))
    expect((await chained.scan()).end.position).toBe(at(1))
  })

  it('takes a tick that goes back, and a frame beyond the file, for no frame', async () => {
    const back = new Tail().frame(at(0))
    back.tick = 400n
    expect((await back.frame(at(0)).scan()).end.position).toBe(at(1))
    const tail = new Tail().frame(at(0)).frame(at(0))
    expect(await tail.scan(start, at(2) - 8)).toMatchObject({ verdict: 'torn', end: { position: at(1) } })
  })

  it('finds a file that is shorter than the manifest says', async () => {
    const beyond = { ...start, position: fileBytes + 512 }
    const scan = await new Tail().frame(at(0)).scan(beyond)
    expect(scan.evidence.manifestBeyond).toBe(true)
    expect(scan.verdict).toBe('damaged')
  })
})
