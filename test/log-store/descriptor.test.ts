import { describe, expect, test } from 'vitest'
import { hash64, loadChecksum } from '../../native-free-storage/index.ts'
import { decodeDescriptor, encodeDescriptor } from '../../src/log-store/descriptor.ts'

const descriptor = { pchannels: 4, durability: 'disk', createdMs: 1_700_000_000_000 } as const
const damaged = { code: 'DATA_DIRECTORY_INVALID', message: expect.stringContaining('data/tidelog.json') }

describe('the descriptor of a data directory', () => {
  test('comes back as it was written; its bytes are those of the format page', async () => {
    const bytes = await encodeDescriptor(descriptor)
    expect(await decodeDescriptor(bytes, 'data/tidelog.json')).toEqual(descriptor)
    expect(bytes.toString()).toBe(
      '{\n  "format": "tidelog-data",\n  "version": 1,\n  "pchannels": 4,\n  "durability": "disk",\n  "createdMs": 1700000000000,\n  "checksum": "b0f5d362240e5c55"\n}\n',
    )
  })

  test('every single flipped bit, and every cut, is noticed', async () => {
    const bytes = await encodeDescriptor(descriptor)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      await expect(decodeDescriptor(changed, 'data/tidelog.json'), `bit ${bit}`).rejects.toMatchObject(damaged)
    }
    for (let length = 0; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length)
      await expect(decodeDescriptor(cut, 'data/tidelog.json'), `length ${length}`).rejects.toMatchObject(damaged)
    }
  })

  test('one of before the checksum is read; one with an unknown key and no checksum is damaged', async () => {
    const old = { format: 'tidelog-data', version: 1, ...descriptor }
    expect(await decodeDescriptor(Buffer.from(`${JSON.stringify(old, null, 2)}\n`), 'x')).toEqual(descriptor)
    const other = Buffer.from(JSON.stringify({ ...old, checkzum: 'd2c8be02f6e3b2a5' }))
    await expect(decodeDescriptor(other, 'data/tidelog.json')).rejects.toMatchObject(damaged)
  })

  test('keys that a later release may add are ignored, a later version is refused, under a right checksum', async () => {
    await loadChecksum()
    const withChecksum = (fields: object): Buffer => {
      const head = JSON.stringify(fields, null, 2).slice(0, -2)
      const sum = hash64(Buffer.from(head)).toString(16).padStart(16, '0')
      return Buffer.from(`${head},\n  "checksum": "${sum}"\n}\n`)
    }
    const fields = { format: 'tidelog-data', version: 1, ...descriptor }
    expect(await decodeDescriptor(withChecksum({ ...fields, later: true }), 'x')).toEqual(descriptor)
    const later = withChecksum({ ...fields, version: 2 })
    await expect(decodeDescriptor(later, 'x')).rejects.toMatchObject({ code: 'FORMAT_UNKNOWN' })
  })
})
