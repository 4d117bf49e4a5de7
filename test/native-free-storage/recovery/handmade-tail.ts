/** The end of a segment, built frame by frame and then spoiled. */
import { hash64 } from '../../../native-free-storage/format/checksum.ts'
import { encodeFrameHeader, FRAME_HEADER_BYTES, FrameKind } from '../../../native-free-storage/format/frame-header.ts'
import { encodeSeal, SEAL_BODY_BYTES } from '../../../native-free-storage/format/seal.ts'
import { classifyTail } from '../../../native-free-storage/recovery/classify.ts'
import { scanTail, type TailPoint, type TailScan } from '../../../native-free-storage/recovery/tail-scan.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

export const salt = 0x1234_5678_9abc_def0n
export const start: TailPoint = { position: 4096, chain: 77n, nextLsn: 10, lastTimeTick: 500n }
export const fileBytes = 32 * 1024
/** Each frame fills one flush of this size. */
export const flush = 1024

/** Builds a tail frame by frame; positions, LSNs, ticks and the chain follow one another. */
export class Tail {
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

export const at = (index: number): number => start.position + index * flush
