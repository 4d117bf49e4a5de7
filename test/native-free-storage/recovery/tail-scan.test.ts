import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { at, fileBytes, salt, start, Tail } from './handmade-tail.ts'

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
