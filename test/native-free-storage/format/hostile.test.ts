/**
 * Every decoder of the format against hostile bytes (hostile-bytes.ts). Nothing but a FormatError may come out, and what a
 * decoder accepts must lie inside the bytes.
 */
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { type BodyHead, openBodyHead, peekHeadLength } from '../../../native-free-storage/format/body-head.ts'
import { hash64, loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { decodeContext, encodeContext } from '../../../native-free-storage/format/contexts.ts'
import { FormatError } from '../../../native-free-storage/format/format-error.ts'
import { decodeFrameHeader, looksLikeFrame } from '../../../native-free-storage/format/frame-header.ts'
import { decodeGap } from '../../../native-free-storage/format/gap.ts'
import {
  decodeIndexHeader,
  decodePostingsBlock,
  decodeSparseBlock,
  decodeVchannelBlock,
  INDEX_BLOCK_BYTES,
  indexFileBytes,
} from '../../../native-free-storage/format/index-blocks.ts'
import { decodeLease } from '../../../native-free-storage/format/lease.ts'
import { decodeManifest } from '../../../native-free-storage/format/manifest.ts'
import { decodeNodeSection, encodeNodeSection } from '../../../native-free-storage/format/node-section.ts'
import { decodeProperties, encodeProperties } from '../../../native-free-storage/format/properties.ts'
import { decodeSeal } from '../../../native-free-storage/format/seal.ts'
import { decodeSegmentHeader } from '../../../native-free-storage/format/segment-header.ts'
import { budget } from '../../budget.ts'
import { type HostileTarget, survive } from '../../hostile-bytes.ts'
import { parseHexDump } from './hex-dump.ts'
import { openFrame } from './whole-frame.ts'

beforeAll(loadChecksum)

const SALT = 0x0123_4567_89ab_cdefn
const POSITION = 4096

const golden = (name: string) =>
  parseHexDump(readFileSync(new URL(`../../golden/v1/${name}.hex`, import.meta.url), 'utf8'))

const frame = golden('frame.records')
const bodyBytes = frame.readUInt32LE(20)
const body = frame.subarray(96, 96 + bodyBytes)
const nodeSection = frame.subarray(96 + bodyBytes, 96 + bodyBytes + frame.readUInt32LE(24))
const small = golden('frame.small')
const index = golden('index')
const block = (at: number) => index.subarray(at * INDEX_BLOCK_BYTES, (at + 1) * INDEX_BLOCK_BYTES)

function rehashed(bytes: Buffer, hashAt: number, from: number, to: number, seed = 0n): Buffer {
  if (bytes.length >= Math.max(to, hashAt + 8)) bytes.writeBigUInt64LE(hash64(bytes.subarray(from, to), seed), hashAt)
  return bytes
}

const bodyOf = (bytes: Buffer) => bytes.subarray(96, 96 + bytes.readUInt32LE(20))

/** The hashes of the sections, of the head, of the node section and of the header, each where its lengths lie in bounds. */
function mendFrame(bytes: Buffer): Buffer {
  if (bytes.length < 128) return bytes
  const bodyEnd = 96 + bytes.readUInt32LE(20)
  const headEnd = 96 + bytes.readUInt32LE(96)
  const vchannels = bytes.readUInt32LE(104)
  if (headEnd <= bytes.length && bodyEnd <= bytes.length && 128 + 32 * vchannels <= headEnd) {
    for (let at = 128; at < 128 + 32 * vchannels; at += 32) {
      const from = headEnd + bytes.readUInt32LE(at + 8)
      const length = bytes.readUInt32LE(at + 12)
      if (length > 0) rehashed(bytes, at, from, from + length)
    }
    rehashed(bytes, 80, 96, headEnd)
    const nodeBytes = bytes.readUInt32LE(24)
    if (nodeBytes > 0) rehashed(bytes, 88, bodyEnd, bodyEnd + nodeBytes)
  }
  return rehashed(bytes, 0, 8, 96, SALT ^ BigInt(POSITION))
}

const mendBlock = (bytes: Buffer) => rehashed(bytes, INDEX_BLOCK_BYTES - 8, 0, INDEX_BLOCK_BYTES - 8, SALT)

const targets: Record<string, HostileTarget> = {
  'segment header': {
    sound: [golden('segment-header'), golden('segment-header.first')],
    mend: (bytes) => rehashed(bytes, 0, 8, 4096),
    decode: decodeSegmentHeader,
  },
  'frame header': {
    sound: [frame.subarray(0, 96), small.subarray(0, 96)],
    mend: (bytes) => rehashed(bytes, 0, 8, 96, SALT ^ BigInt(POSITION)),
    decode: (bytes) => {
      for (let at = 0; at < bytes.length; at += 8) looksLikeFrame(bytes, at)
      const header = decodeFrameHeader(bytes, 0, bytes.length, SALT, POSITION)
      if (header === null) return
      expect(header.headerLength + header.bodyLength + header.nodeSectionLength).toBeLessThanOrEqual(header.totalLength)
      expect(header.totalLength).toBeLessThanOrEqual(512 * 1024 * 1024)
    },
  },
  'whole frame': {
    sound: [frame, small],
    mend: mendFrame,
    decode: (bytes) => {
      const opened = openFrame(bytes, SALT, POSITION)
      if (opened === null) throw new FormatError('DAMAGED', 'no frame')
      walk(opened.head, opened.body.length)
    },
    bytesMax: 1024 * 1024,
  },
  body: {
    sound: [body, bodyOf(small)],
    decode: (bytes) => {
      if (bytes.length >= 32) expect(peekHeadLength(bytes)).toBeLessThanOrEqual(64 * 1024 * 1024)
      // What the header of the frame says, of which the checksum was right.
      walk(openBodyHead(bytes, bodyBytes, 4, null), bodyBytes)
    },
  },
  properties: {
    sound: [encodeProperties({ table: 'users', größe: '10 €', empty: '' }), encodeProperties({ k: 'v', 'k€': '' })],
    decode: (bytes) => {
      const properties = decodeProperties(bytes)
      expect(encodeProperties(properties).length).toBe(bytes.length)
    },
  },
  context: {
    sound: [
      encodeContext({ producer: { id: 1n, epoch: 2, firstSequence: 3 }, transaction: 4n, trace: '00-ab-cd-01' }),
      encodeContext({ transaction: 9n }),
    ],
    decode: decodeContext,
  },
  'node section': {
    sound: [nodeSection, encodeNodeSection({ recordCount: 4, stamps: [], voids: [1] })],
    decode: (bytes) => {
      const section = decodeNodeSection(bytes, 4)
      for (const stamp of section.stamps) expect(stamp.record).toBeLessThan(4)
    },
  },
  seal: { sound: [golden('seal')], decode: decodeSeal },
  gap: { sound: [golden('gap')], decode: decodeGap },
  lease: { sound: [golden('lease')], mend: (bytes) => rehashed(bytes, 0, 8, 512), decode: decodeLease },
  manifest: {
    sound: [golden('manifest'), golden('manifest.empty'), golden('manifest.copy')],
    mend: (bytes) => rehashed(bytes, 0, 8, bytes.length),
    decode: decodeManifest,
  },
  'index header': {
    sound: [block(0), block(1)],
    mend: mendBlock,
    decode: (bytes) => {
      expect(indexFileBytes(decodeIndexHeader(bytes, SALT))).toBeGreaterThanOrEqual(INDEX_BLOCK_BYTES)
    },
  },
  'sparse block': {
    sound: [block(1), block(2)],
    mend: mendBlock,
    decode: (bytes) => decodeSparseBlock(bytes, SALT, { position: 0, count: 2 }),
  },
  'vchannel block': {
    sound: [block(2), block(3)],
    mend: mendBlock,
    decode: (bytes) => decodeVchannelBlock(bytes, SALT, { position: 0, count: 2 }),
  },
  'postings block': {
    sound: [block(3), block(0)],
    mend: mendBlock,
    decode: (bytes) => decodePostingsBlock(bytes, SALT, { position: 0, count: 4 }),
  },
}

/** Everything that an opened head answers lies inside its body. */
function walk(head: BodyHead, bodyLength: number): void {
  const offsets = head.rowOffsets()
  for (let vchannel = 0; vchannel < head.vchannelCount; vchannel++) {
    expect(head.sectionOffset(vchannel) + head.sectionLength(vchannel)).toBeLessThanOrEqual(bodyLength)
    head.sectionHash(vchannel)
  }
  for (let row = 0; row < head.recordCount; row++) {
    const vchannel = head.vchannelIndex(row)
    expect(vchannel).toBeLessThan(head.vchannelCount)
    const end = offsets[row]! + head.propertiesLength(row) + head.payloadLength(row)
    expect(end).toBeLessThanOrEqual(head.sectionLength(vchannel))
    const context = head.contextIndex(row)
    expect(context).toBeLessThan(head.contextCount)
    if (context >= 0) decodeContext(head.context(context))
  }
}

function isFormatError(error: unknown): boolean {
  return error instanceof FormatError && (error.code === 'DAMAGED' || error.code === 'FORMAT_UNKNOWN')
}

function onlyFormatErrors(decode: (bytes: Buffer) => void, bytes: Buffer): boolean {
  try {
    decode(bytes)
    return true
  } catch (error) {
    if (isFormatError(error)) return false
    throw error
  }
}

describe('hostile bytes', () => {
  const runs = budget({ small: 600, ci: 10_000, soak: 3_000_000 })

  it.each(Object.entries(targets))('%s: changed bytes and noise are refused or lie in bounds', async (name, target) => {
    const { inputs, accepted } = await survive(name, target, isFormatError, runs)
    expect(inputs).toBeGreaterThan(0)
    // A mutator that only ever makes rubbish would look at nothing.
    if (inputs === runs) expect(accepted).toBeGreaterThan(0)
  })

  it('does not allocate for what a body only claims to hold', () => {
    const claims = Buffer.from(body)
    claims.writeUInt32LE(65_536, 4)
    claims.writeUInt32LE(65_536, 8)
    claims.writeUInt32LE(16 * 1024 * 1024, 12)
    claims.writeUInt32LE(32 + 65_536 * 48 + 16 * 1024 * 1024 + claims.readUInt32LE(16), 0)
    const before = process.memoryUsage().arrayBuffers
    for (let run = 0; run < 100; run++) {
      expect(() => openBodyHead(claims, 100_000_000, 65_536, null)).toThrow(FormatError)
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024)
  })
})

describe('a whole frame', () => {
  it('notices every single flipped bit, in padding too', () => {
    expect(openFrame(frame, SALT, POSITION)).not.toBeNull()
    const bytes = Buffer.from(frame)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      let opened: unknown = null
      onlyFormatErrors((changed) => {
        opened = openFrame(changed, SALT, POSITION)
      }, bytes)
      expect(opened, `bit ${bit}`).toBeNull()
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
  })

  it('is found by its magic in steps of 8 bytes, and nowhere else', () => {
    const file = Buffer.concat([
      Buffer.alloc(64, 0x54),
      frame,
      Buffer.from('TFR'),
      Buffer.alloc(5),
      Buffer.from('TFRM'),
    ])
    const found: number[] = []
    for (let at = 0; at < file.length; at += 8) if (looksLikeFrame(file, at)) found.push(at)
    expect(found.filter((at) => decodeFrameHeader(file, at, file.length, SALT, POSITION) !== null)).toEqual([64])
  })
})
