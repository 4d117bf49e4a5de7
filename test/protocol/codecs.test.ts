/** What is encoded comes back: all metas of the protocol. */
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../native-free-storage/index.ts'
import * as consume from '../../src/protocol/consume-messages.ts'
import * as control from '../../src/protocol/control-messages.ts'
import { decodeHeader } from '../../src/protocol/message.ts'
import * as produce from '../../src/protocol/produce-messages.ts'
import * as wal from '../../src/protocol/wal-messages.ts'
import { budget } from '../budget.ts'

beforeAll(loadChecksum)

const runs = { numRuns: budget({ small: 200, ci: 5_000 }) }
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const lsn = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })
const name = fc.string({ maxLength: 40 })

const metaOf = (message: Buffer) => message.subarray(40)

describe('round trips', () => {
  it('of binary metas', () => {
    const part = fc.option(
      fc
        .record({ transaction: fc.nat(2 ** 31 - 1), behind: fc.integer({ min: 1, max: 2 ** 50 }) })
        .chain(({ transaction, behind }) =>
          fc.record({
            transaction: fc.constant(transaction),
            commitLsn: fc.constant(transaction + behind),
            commitTick: u64,
            last: fc.boolean(),
          }),
        ),
    )
    const wireFrame = fc
      .record({ baseLsn: lsn, baseTimeTick: u64, bodyHash: u64, nodeHash: u64, bodyLength: u32 })
      .chain((fixed) =>
        fc
          .record({
            recordCount: fc.integer({ min: 1, max: 65_536 }),
            headLength: fc.integer({ min: 1, max: 1000 }).map((eighths) => eighths * 8),
            nodeLength: fc.integer({ min: 0, max: 100 }).map((eighths) => eighths * 8),
            sections: fc.uniqueArray(fc.nat(500), { maxLength: 50 }),
            part,
          })
          .map((rest) => ({
            ...fixed,
            ...rest,
            kind: rest.part === null ? ('records' as const) : ('part' as const),
            gap: null,
            sections: rest.sections.filter((each) => each < rest.recordCount).sort((a, b) => a - b),
          })),
      )
    fc.assert(
      fc.property(wireFrame, u32, (frame, id) => {
        const bodyLength = frame.headLength + frame.nodeLength + 80
        const message = consume.encodeFrame(id, frame, bodyLength)
        expect(consume.decodeFrame(metaOf(message), bodyLength)).toEqual(frame)
        const messageBytes = consume.frameMessageBytes(frame.sections.length, bodyLength, frame.part !== null)
        expect(messageBytes).toBe(message.length + bodyLength)
      }),
      runs,
    )
    fc.assert(
      fc.property(
        lsn,
        u64,
        fc.integer({ min: 1, max: 2 ** 40 }),
        fc.constantFrom(...consume.gapReasons),
        (baseLsn, tick, count, reason) => {
          const gap: consume.WireFrame = {
            kind: 'gap',
            baseLsn,
            baseTimeTick: tick,
            bodyHash: 0n,
            nodeHash: 0n,
            recordCount: 0,
            headLength: 0,
            nodeLength: 0,
            bodyLength: 0,
            gap: { count, reason },
            part: null,
            sections: [],
          }
          expect(consume.decodeFrame(metaOf(consume.encodeFrame(1, gap, 0)), 0)).toEqual(gap)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(
        fc.array(fc.record({ group: u32, timeTick: u64 }), { maxLength: 9 }),
        fc.array(u32, { maxLength: 9 }),
        u64,
        (groups, leftOut, others) => {
          const tick = { groups, others, leftOut }
          expect(consume.decodeTick(metaOf(consume.encodeTick(tick)))).toEqual(tick)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(lsn, u32, u64, (bytes, frames, timeTick) => {
        expect(consume.decodeCredit(metaOf(consume.encodeCredit(1, { bytes, frames })))).toEqual({ bytes, frames })
        expect(consume.decodeCaughtUp(metaOf(consume.encodeCaughtUp(1, { lsn: bytes, timeTick })))).toEqual({
          lsn: bytes,
          timeTick,
        })
        const range = { firstLsn: bytes, lastLsn: bytes, firstTimeTick: timeTick, lastTimeTick: timeTick }
        const plain = { ...range, duplicate: false, duplicates: [] }
        expect(produce.decodeProduced(metaOf(produce.encodeProduced(1, range)))).toEqual(plain)
      }),
      runs,
    )
    const repeated = fc.uniqueArray(fc.record({ row: fc.nat(65_535), lsn, timeTick: u64 }), {
      selector: ({ row }) => row,
      maxLength: 40,
    })
    fc.assert(
      fc.property(repeated, fc.boolean(), lsn, u64, (rows, duplicate, last, lastTimeTick) => {
        const duplicates = rows.sort((one, other) => one.row - other.row)
        const produced = { firstLsn: 1, lastLsn: last, firstTimeTick: 2n, lastTimeTick, duplicate, duplicates }
        expect(produce.decodeProduced(metaOf(produce.encodeProduced(1, produced)))).toEqual(produced)
      }),
      runs,
    )
    fc.assert(
      fc.property(
        fc.record({
          group: u32,
          producer: u32,
          generation: fc.integer({ min: 1, max: 0xffff_ffff }),
          bodyHash: u64,
          barrierTick: u64,
          firstTriedAt: u64,
          transactionIndex: lsn,
          recordCount: fc.integer({ min: 1, max: 65_536 }),
        }),
        (fields) => {
          const message = Buffer.alloc(produce.PRODUCE_BODY_AT + 64)
          produce.writeProduce(message, 7, fields)
          expect(produce.decodeProduce(message.subarray(40, 88))).toEqual(fields)
          expect(decodeHeader(message, 0, 64)).toMatchObject({ requestId: 7, bodyLength: 64, metaLength: 48 })
        },
      ),
      runs,
    )
  })

  it('of control metas', () => {
    const vchannel = fc.record({ name, group: u32, createdMs: lsn })
    fc.assert(
      fc.property(fc.array(vchannel, { maxLength: 20 }), fc.boolean(), (vchannels, more) => {
        expect(control.decodeListed(control.encodeListed({ vchannels, more }))).toEqual({ vchannels, more })
      }),
      runs,
    )
    const from = fc.oneof(
      fc.constantFrom('earliest' as const, 'latest' as const),
      fc.record({ lsn }),
      fc.record({ timeTick: u64 }),
    )
    fc.assert(
      fc.property(
        fc.record(
          {
            group: u32,
            vchannels: fc.array(name, { minLength: 1, maxLength: 5 }),
            from,
            bytes: lsn,
            frames: u32,
            types: fc.array(fc.integer({ min: 0, max: 65_535 }), { maxLength: 5 }),
            until: fc.oneof(fc.constant('end' as const), lsn),
            ticksEveryMs: fc.nat(86_400_000),
          },
          { requiredKeys: ['group', 'vchannels', 'from', 'bytes', 'frames'] },
        ),
        (request) => {
          expect(control.decodeConsume(control.encodeConsume(request))).toEqual(request)
        },
      ),
      runs,
    )
    fc.assert(
      fc.property(lsn, u64, (number, watermark) => {
        const group: control.WireGroupStatus = {
          group: 1,
          name: 'p1',
          state: 'stalled',
          message: 'slow',
          ownerTerm: 1,
          firstLsn: 0,
          nextLsn: number,
          watermark,
          bytes: number,
          segments: 3,
          vchannels: 4,
          transactions: 5,
          throttle: 'slow',
        }
        for (const space of [
          null,
          { state: 'refusing', message: 'full', usedBytes: 9, freeBytes: null, refusals: 2 },
        ]) {
          const status = { groups: [group], more: false, space } as control.StatusIs
          expect(control.decodeStatusIs(control.encodeStatusIs(status))).toEqual(status)
        }
      }),
      runs,
    )
  })

  it('of the metas of transactions, producers and throttling', () => {
    const ms = fc.integer({ min: 1, max: 3_600_000 })
    const epoch = fc.integer({ min: 1, max: 0xffff_ffff })
    fc.assert(
      fc.property(
        u32,
        lsn,
        u64,
        name,
        ms,
        epoch,
        fc.boolean(),
        (group, at, timeTick, vchannel, keepaliveMs, n, yes) => {
          const confirm = { group, atLeast: timeTick, waitMs: 60_000 }
          expect(wal.decodeConfirm(wal.encodeConfirm(confirm))).toEqual(confirm)
          expect(wal.decodeConfirmed(wal.encodeConfirmed(timeTick))).toBe(timeTick)
          expect(wal.decodeTxnBegin(wal.encodeTxnBegin({ vchannel, keepaliveMs }))).toEqual({ vchannel, keepaliveMs })
          const begun = { transaction: at, group, keepaliveMs, timeTick }
          expect(wal.decodeTxnBegun(wal.encodeTxnBegun(begun))).toEqual(begun)
          const end = { group, transaction: at, commit: yes, bodies: n }
          expect(wal.decodeTxnEnd(wal.encodeTxnEnd(end))).toEqual(end)
          expect(wal.decodeTxnEnded(wal.encodeTxnEnded({ lsn: at, timeTick }))).toEqual({ lsn: at, timeTick })
          expect(wal.decodeTxnList(wal.encodeTxnList(group))).toBe(group)
          const transaction: wal.WireTransaction = {
            ...{ transaction: at, group, vchannel, state: yes ? 'open' : 'rolling-back', bodies: n, bytes: at },
            ...{ ageMs: 3, leftMs: 0, keepaliveMs },
          }
          const transactions = { transactions: [transaction], more: yes }
          expect(wal.decodeTxnListed(wal.encodeTxnListed(transactions))).toEqual(transactions)
          const open = yes ? { vchannel, id: vchannel } : { vchannel, id: vchannel, epoch: n }
          expect(wal.decodeProducerOpen(wal.encodeProducerOpen(open))).toEqual(open)
          const opened = { producer: at, group, epoch: n, lastSequence: at, windowLost: yes }
          expect(wal.decodeProducerOpened(wal.encodeProducerOpened(opened))).toEqual(opened)
          expect(wal.decodeProducerList(wal.encodeProducerList(group))).toBe(group)
          const producer = { id: vchannel, vchannel, group, producer: at, epoch: n, lastSequence: at, lastLsn: at }
          const producers = { producers: [{ ...producer, lastTimeTick: timeTick }], more: yes }
          expect(wal.decodeProducerListed(wal.encodeProducerListed(producers))).toEqual(producers)
          const throttle: wal.Throttle = { group, state: yes ? 'slow' : 'refusing', bytesPerSecond: at }
          expect(wal.decodeThrottle(wal.encodeThrottle(throttle))).toEqual(throttle)
        },
      ),
      runs,
    )
  })
})
