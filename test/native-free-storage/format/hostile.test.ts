/**
 * Every decoder against bytes that nobody vouches for: noise, and sound bytes with a few of them changed, where the
 * hash is made right again so that the rules behind it are reached. Nothing but a FormatError may come out, and what a
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
import { decodeNodeSection } from '../../../native-free-storage/format/node-section.ts'
import { decodeProperties, encodeProperties } from '../../../native-free-storage/format/properties.ts'
import { decodeSeal } from '../../../native-free-storage/format/seal.ts'
import { decodeSegmentHeader } from '../../../native-free-storage/format/segment-header.ts'
import { budget } from '../../budget.ts'
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
const index = golden('index')
const block = (at: number) => index.subarray(at * INDEX_BLOCK_BYTES, (at + 1) * INDEX_BLOCK_BYTES)

/** Numbers from a seed, the same in every run (mulberry32). */
function seeded(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

const extremes = [0, 1, 2, 7, 8, 15, 16, 255, 256, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, 0xffff_ffff]

/** A copy with one to four of its fields, bits or ends changed. */
function mutated(bytes: Buffer, random: (below: number) => number): Buffer {
  let copy = Buffer.from(bytes)
  for (let changes = 1 + random(4); changes > 0 && copy.length > 8; changes--) {
    // The beginnings of things decide most.
    const reach = random(2) === 0 ? Math.min(copy.length, 256) : copy.length
    const at = random(reach - 4)
    const extreme = extremes[random(extremes.length)]!
    const way = random(6)
    if (way === 0) copy[at]! ^= 1 << random(8)
    else if (way === 1) copy.writeUInt32LE(extreme, at & ~3)
    else if (way === 2) copy.writeUInt16LE(extreme & 0xffff, at & ~1)
    else if (way === 3) copy[at] = random(256)
    else if (way === 4) copy.copyWithin(at, random(copy.length))
    else if (random(4) === 0) copy = copy.subarray(0, random(copy.length))
  }
  return copy
}

function rehashed(bytes: Buffer, hashAt: number, from: number, to: number, seed = 0n): Buffer {
  if (bytes.length >= Math.max(to, hashAt + 8)) bytes.writeBigUInt64LE(hash64(bytes.subarray(from, to), seed), hashAt)
  return bytes
}

interface Target {
  sound: Buffer
  /** Makes the hash right again. */
  mend?: (bytes: Buffer) => Buffer
  decode: (bytes: Buffer) => void
}

const mendBlock = (bytes: Buffer) => rehashed(bytes, INDEX_BLOCK_BYTES - 8, 0, INDEX_BLOCK_BYTES - 8, SALT)

const targets: Record<string, Target> = {
  'segment header': {
    sound: golden('segment-header'),
    mend: (bytes) => rehashed(bytes, 0, 8, 4096),
    decode: decodeSegmentHeader,
  },
  'frame header': {
    sound: frame.subarray(0, 96),
    mend: (bytes) => rehashed(bytes, 0, 8, 96, SALT ^ BigInt(POSITION)),
    decode: (bytes) => {
      for (let at = 0; at < bytes.length; at += 8) looksLikeFrame(bytes, at)
      const header = decodeFrameHeader(bytes, 0, bytes.length, SALT, POSITION)
      if (header === null) return
      expect(header.headerLength + header.bodyLength + header.nodeSectionLength).toBeLessThanOrEqual(header.totalLength)
      expect(header.totalLength).toBeLessThanOrEqual(512 * 1024 * 1024)
    },
  },
  body: {
    sound: body,
    decode: (bytes) => {
      if (bytes.length >= 32) expect(peekHeadLength(bytes)).toBeLessThanOrEqual(64 * 1024 * 1024)
      walk(openBodyHead(bytes, bodyBytes, 4, null), bodyBytes)
    },
  },
  properties: {
    sound: encodeProperties({ table: 'users', größe: '10 €', empty: '' }),
    decode: (bytes) => {
      const properties = decodeProperties(bytes)
      expect(encodeProperties(properties).length).toBe(bytes.length)
    },
  },
  context: {
    sound: encodeContext({ producer: { id: 1n, epoch: 2, firstSequence: 3 }, transaction: 4n, trace: '00-ab-cd-01' }),
    decode: decodeContext,
  },
  'node section': {
    sound: nodeSection,
    decode: (bytes) => {
      const section = decodeNodeSection(bytes, 4)
      for (const stamp of section.stamps) expect(stamp.record).toBeLessThan(4)
    },
  },
  seal: { sound: golden('seal'), decode: decodeSeal },
  gap: { sound: golden('gap'), decode: decodeGap },
  lease: { sound: golden('lease'), mend: (bytes) => rehashed(bytes, 0, 8, 512), decode: decodeLease },
  manifest: {
    sound: golden('manifest'),
    mend: (bytes) => rehashed(bytes, 0, 8, bytes.length),
    decode: decodeManifest,
  },
  'index header': {
    sound: block(0),
    mend: mendBlock,
    decode: (bytes) => {
      expect(indexFileBytes(decodeIndexHeader(bytes, SALT))).toBeGreaterThanOrEqual(INDEX_BLOCK_BYTES)
    },
  },
  'sparse block': {
    sound: block(1),
    mend: mendBlock,
    decode: (bytes) => decodeSparseBlock(bytes, SALT, { position: 0, count: 2 }),
  },
  'vchannel block': {
    sound: block(2),
    mend: mendBlock,
    decode: (bytes) => decodeVchannelBlock(bytes, SALT, { position: 0, count: 2 }),
  },
  'postings block': {
    sound: block(3),
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

function onlyFormatErrors(decode: (bytes: Buffer) => void, bytes: Buffer): boolean {
  try {
    decode(bytes)
    return true
  } catch (error) {
    if (error instanceof FormatError && (error.code === 'DAMAGED' || error.code === 'FORMAT_UNKNOWN')) return false
    throw error
  }
}

describe('hostile bytes', () => {
  const runs = budget({ small: 3_000, ci: 100_000 })

  it.each(Object.keys(targets))('%s: noise and changed bytes are refused or lie in bounds', (name) => {
    const { sound, mend, decode } = targets[name]!
    expect(onlyFormatErrors(decode, mend ? mend(Buffer.from(sound)) : sound)).toBe(true)
    const random = seeded(name.length)
    for (let run = 0; run < runs; run++) {
      const changed = mutated(sound, random)
      onlyFormatErrors(decode, changed)
      if (mend) onlyFormatErrors(decode, mend(changed))
      if (run % 8 === 0) {
        const noise = Buffer.alloc(random(sound.length + 16))
        for (let at = 0; at < noise.length; at++) noise[at] = random(4) === 0 ? random(256) : 0
        onlyFormatErrors(decode, noise)
        if (mend) onlyFormatErrors(decode, mend(noise))
      }
    }
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
