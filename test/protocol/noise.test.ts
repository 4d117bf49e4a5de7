/** Decoders that are given noise, or good bytes with some bits flipped. */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import { TidelogError } from '../../src/errors.ts'
import * as consume from '../../src/protocol/consume-messages.ts'
import { type ControlValue, decodeControl } from '../../src/protocol/control-codec.ts'
import * as control from '../../src/protocol/control-messages.ts'
import * as produce from '../../src/protocol/produce-messages.ts'
import * as wal from '../../src/protocol/wal-messages.ts'
import { budget } from '../budget.ts'
import { parseMessages } from './parse-messages.ts'

beforeAll(loadChecksum)

const runs = { numRuns: budget({ small: 200, ci: 5_000 }) }

const walDecoders: ((bytes: Buffer) => unknown)[] = [
  wal.decodeConfirm,
  wal.decodeConfirmed,
  wal.decodeTxnBegin,
  wal.decodeTxnBegun,
  wal.decodeTxnEnd,
  wal.decodeTxnEnded,
  wal.decodeTxnList,
  wal.decodeTxnListed,
  wal.decodeProducerOpen,
  wal.decodeProducerOpened,
  wal.decodeProducerList,
  wal.decodeProducerListed,
  wal.decodeThrottle,
]

describe('decoders', () => {
  const refusesAll = (decode: (bytes: Buffer) => unknown, bytes: Buffer) => {
    try {
      decode(bytes)
    } catch (error) {
      expect(error).toBeInstanceOf(TidelogError)
      expect((error as TidelogError<string>).code).toBe('PROTOCOL_VIOLATION')
    }
  }

  it('answer noise with PROTOCOL_VIOLATION or a value, never with anything else', () => {
    const decoders: ((bytes: Buffer) => unknown)[] = [
      decodeControl,
      control.decodeHello,
      control.decodeWelcome,
      control.decodeListed,
      control.decodeStatusIs,
      control.decodeConsume,
      control.decodeConsuming,
      consume.decodeTick,
      consume.decodeCredit,
      consume.decodeCaughtUp,
      (bytes) => consume.decodeFrame(bytes, 64),
      produce.decodeProduce,
      produce.decodeProduced,
      ...walDecoders,
      (bytes) => parseMessages(bytes),
    ]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        for (const decode of decoders) refusesAll(decode, Buffer.from(bytes))
      }),
      runs,
    )
    const good = control.encodeConsume({ group: 1, vchannels: ['a', 'b'], from: { timeTick: 5n }, bytes: 1, frames: 2 })
    fc.assert(
      fc.property(fc.array(fc.nat(good.length * 8 - 1), { minLength: 1, maxLength: 4 }), (bits) => {
        const spoiled = Buffer.from(good)
        for (const bit of bits) spoiled[bit >> 3]! ^= 1 << (bit & 7)
        refusesAll(control.decodeConsume, spoiled)
      }),
      runs,
    )
  })

  it('keep what they are given apart from the prototype', () => {
    const spoiled = Buffer.concat([
      Buffer.from([0x81, 0xa9]),
      Buffer.from('__proto__'),
      Buffer.from([0x81, 0xa1, 0x78, 0x01]),
    ])
    const map = decodeControl(spoiled) as Record<string, ControlValue>
    expect(({} as Record<string, unknown>).x).toBeUndefined()
    expect(Object.getPrototypeOf(map)).toBe(Object.prototype)
  })
})
