/** docs/FORMAT.md section 3.5 is what it says: the bytes are read from the page, decoded, and made anew. */
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/format/checksum.ts'
import { parseHexDump } from './hex-dump.ts'
import { decodeFrame, encodeFrame, openFrame } from './whole-frame.ts'

beforeAll(loadChecksum)

const page = readFileSync(new URL('../../../docs/FORMAT.md', import.meta.url), 'utf8')
const SALT = 0x0123_4567_89ab_cdefn

describe('the worked example of the format page', () => {
  const block = /```frame\n([\s\S]*?)```/.exec(page)
  const bytes = parseHexDump(block?.[1] ?? '')

  it('is the frame that the page describes', () => {
    expect(decodeFrame(bytes, SALT, 4096, 8)).toEqual({
      salt: SALT,
      position: 4096,
      durablePosition: 4096,
      chain: 0x1122_3344_5566_7788n,
      ownerTerm: 1,
      incarnation: 2,
      baseLsn: 1000,
      baseTimeTick: (1_700_000_000_000n << 18n) | 5n,
      alignment: 8,
      contexts: [],
      records: [
        { vchannel: 'orders', type: 2, properties: { k: 'v' }, payload: new Uint8Array(Buffer.from('hello')) },
        { vchannel: 'users', type: 0, properties: {}, payload: null },
      ],
      stamps: [],
      voids: [],
    })
  })

  it('is what the codecs write', () => {
    const fields = decodeFrame(bytes, SALT, 4096, 8)
    expect(encodeFrame(fields!).equals(bytes)).toBe(true)
  })

  it('has each field where the tables of the page put it', () => {
    expect(bytes.toString('latin1', 8, 12)).toBe('TFRM')
    expect([bytes[12], bytes[13], bytes[14], bytes[15]]).toEqual([96, 1, 0, 0])
    expect([16, 20, 24, 28, 32, 36].map((at) => bytes.readUInt32LE(at))).toEqual([256, 160, 0, 2, 1, 2])
    expect([40, 56, 64].map((at) => bytes.readBigUInt64LE(at))).toEqual([1000n, 4096n, 4096n])
    const names = 96 + 32 + 2 * 32
    expect(bytes.toString('utf8', names + 1, names + 1 + bytes[names]!)).toBe('orders')
    const sections = 96 + bytes.readUInt32LE(96)
    expect(bytes.toString('utf8', sections + 10, sections + 15)).toBe('hello')
  })

  it('leaves no byte out, and each line begins where the one before ends', () => {
    let next = 0
    for (const line of block![1]!.split('\n').filter((text) => text !== '')) {
      const [left] = line.split('|')
      const [offset, ...hex] = left!.trim().split(/ +/)
      expect(Number.parseInt(offset!, 16), line).toBe(next)
      next += hex.length
    }
    expect(next).toBe(bytes.length)
    expect(openFrame(bytes, SALT, 4096)).not.toBeNull()
  })
})
