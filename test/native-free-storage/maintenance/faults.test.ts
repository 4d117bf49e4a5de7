/** Each fault of the files of a log, in each kind of file: found, and named with code, severity, file, position, LSNs. */
import { beforeAll, describe, expect, it } from 'vitest'
import { manifestFileName } from '../../../native-free-storage/format/file-names.ts'
import { decodeLeaseSlot, encodeLeaseSlot } from '../../../native-free-storage/format/lease.ts'
import { decodeManifest, encodeManifest } from '../../../native-free-storage/format/manifest.ts'
import {
  type DecodedSegmentHeader,
  decodeSegmentHeader,
  encodeSegmentHeader,
} from '../../../native-free-storage/format/segment-header.ts'
import type { Finding } from '../../../native-free-storage/maintenance/findings.ts'
import { verifyLog } from '../../../native-free-storage/maintenance/verify.ts'
import { workloads } from '../../simulation/log-workloads.ts'
import { type Files, logFiles, memoryDirectory, memoryEnvironment, writtenFiles } from './memory-files.ts'

/** Three segments, closed: LSN 0 to 9, 10 to 19, 20 to 29, ten frames each. */
let sound: Files
let names: string[]
let headers: DecodedSegmentHeader[]
/** Where the data of each segment ends. */
let ends: number[]
let manifestName: string
const FRAME_BYTES = 1024

beforeAll(async () => {
  const frames = Array.from({ length: 10 }, (_, i) => [{ vchannel: `v${i % 3}`, payload: Buffer.alloc(700, i + 1) }])
  sound = await writtenFiles([frames, frames, frames])
  names = [...sound.keys()].filter((name) => name.endsWith('.seg')).sort()
  headers = names.map((name) => decodeSegmentHeader(sound.get(name)!))
  ends = names.map((name) => sound.get(name)!.length - 512)
  manifestName = [...sound.keys()].find((name) => name.startsWith('MANIFEST-'))!
  expect(names.map((name) => Number(name.slice(0, 20)))).toEqual([0, 10, 20])
  expect(ends).toEqual([0, 1, 2].map(() => 4096 + 10 * FRAME_BYTES))
})

type Expected = Partial<Finding> & Pick<Finding, 'code' | 'severity' | 'file' | 'position' | 'lsnFrom' | 'lsnTo'>

async function findingsOf(files: Files): Promise<Finding[]> {
  return (await verifyLog(memoryEnvironment(files), memoryDirectory)).findings
}

/** Exactly these findings, in any order. */
async function demand(change: (files: Files) => void, ...expected: Expected[]): Promise<void> {
  const files: Files = new Map([...sound].map(([name, bytes]) => [name, Buffer.from(bytes)]))
  change(files)
  const key = (each: Expected): string => `${each.code} ${each.file} ${each.position}`
  const found = (await findingsOf(files)).map(({ code, severity, file, position, lsnFrom, lsnTo }): Expected => {
    return { code, severity, file, position, lsnFrom, lsnTo }
  })
  const sorted = (all: Expected[]): Expected[] => all.sort((a, b) => (key(a) < key(b) ? -1 : 1))
  expect(sorted(found)).toEqual(sorted(expected))
}

const idx = (segment: number): string => names[segment]!.replace('.seg', '.idx')
const range = (segment: number) => ({ lsnFrom: segment * 10, lsnTo: segment * 10 + 9 })
const noLsn = { lsnFrom: null, lsnTo: null }
const frameAt = (index: number): number => 4096 + index * FRAME_BYTES

const lost = (
  code: Finding['code'],
  file: string | null,
  position: number | null,
  lsns = noLsn as object,
): Expected => {
  return { code, severity: 'data-lost', file, position, ...noLsn, ...lsns }
}
const harmless = (code: Finding['code'], file: string, position: number | null, lsns = noLsn as object): Expected => {
  return { code, severity: 'damaged', file, position, ...noLsn, ...lsns }
}
const note = (
  code: Finding['code'],
  file: string,
  position: number | null = null,
  lsns = noLsn as object,
): Expected => {
  return { code, severity: 'info', file, position, ...noLsn, ...lsns }
}

const flip = (files: Files, name: string, position: number): void => {
  files.get(name)![position]! ^= 4
}

const shorten = (files: Files, name: string, length: number): void => {
  files.set(name, Buffer.from(files.get(name)!.subarray(0, length)))
}

describe('a flipped bit', () => {
  it('in a header, a frame, a seal, an index, the manifest, the lease', async () => {
    await demand((files) => flip(files, names[1]!, 64), lost('SEGMENT_HEADER_DAMAGED', names[1]!, 0, range(1)))
    await demand(
      (files) => flip(files, names[1]!, frameAt(3) + 400),
      lost('FRAME_DAMAGED', names[1]!, frameAt(3), { lsnFrom: 13, lsnTo: 13 }),
    )
    await demand(
      (files) => flip(files, names[0]!, ends[0]! + 120),
      harmless('SEAL_DAMAGED', names[0]!, ends[0]!, range(0)),
    )
    await demand((files) => flip(files, idx(2), 4200), harmless('INDEX_WRONG', idx(2), 4200, range(2)))
    await demand((files) => flip(files, manifestName, 100), lost('MANIFEST_DAMAGED', manifestName, 0))
    await demand((files) => flip(files, 'LEASE', 530), harmless('LEASE_DAMAGED', 'LEASE', 512))
  })

  it('in bytes that nothing uses', async () => {
    await demand((files) => flip(files, names[1]!, 3000), harmless('PADDING_NOT_ZERO', names[1]!, 3000))
    const padding = frameAt(4) - 1
    await demand((files) => flip(files, names[2]!, padding), harmless('PADDING_NOT_ZERO', names[2]!, padding))
    await demand(
      (files) => flip(files, names[2]!, ends[2]! + 511),
      harmless('PADDING_NOT_ZERO', names[2]!, ends[2]! + 511),
    )
    await demand((files) => flip(files, 'LEASE', 1000), harmless('LEASE_DAMAGED', 'LEASE', 512))
  })
})

describe('a file that is missing', () => {
  it('is a segment: the first, one in the middle, the tail', async () => {
    for (const segment of [0, 1, 2]) {
      await demand(
        (files) => files.delete(names[segment]!),
        lost('SEGMENT_MISSING', names[segment]!, null, range(segment)),
        note('FILE_STRAY', idx(segment)),
      )
    }
  })

  it('is a segment together with its index: its neighbours tell', async () => {
    await demand(
      (files) => {
        files.delete(names[1]!)
        files.delete(idx(1))
      },
      lost('SEGMENT_MISSING', names[2]!, 104, range(1)),
    )
  })

  it('is an index or the manifest', async () => {
    await demand((files) => files.delete(idx(0)), harmless('INDEX_MISSING', idx(0), null, range(0)))
    await demand((files) => files.delete(manifestName), lost('MANIFEST_MISSING', null, null))
  })
})

describe('files in the wrong place', () => {
  it('are two segments that exchanged their contents, or their names', async () => {
    await demand(
      (files) => {
        const [first, second] = [files.get(names[0]!)!, files.get(names[1]!)!]
        files.set(names[0]!, second).set(names[1]!, first)
      },
      lost('SEGMENT_HEADER_DAMAGED', names[0]!, 56, range(0)),
      lost('SEGMENT_HEADER_DAMAGED', names[1]!, 56, range(1)),
    )
  })

  it('are two segments that exchanged what is behind their headers', async () => {
    await demand(
      (files) => {
        const bodies = [0, 1].map((segment) => Buffer.from(files.get(names[segment]!)!.subarray(4096)))
        bodies[1]!.copy(files.get(names[0]!)!, 4096)
        bodies[0]!.copy(files.get(names[1]!)!, 4096)
      },
      ...[0, 1].flatMap((segment) => [
        lost('FRAME_DAMAGED', names[segment]!, 4096, range(segment)),
        harmless('SEAL_DAMAGED', names[segment]!, ends[segment]!),
      ]),
    )
  })

  it('are copies under other names: behind the log, and between its segments', async () => {
    const behind = `00000000000000000099-${'a'.repeat(16)}.seg`
    const between = `00000000000000000005-${'a'.repeat(16)}.seg`
    const copy = (to: string) => (files: Files) => files.set(to, Buffer.from(sound.get(names[1]!)!))
    await demand(copy(behind), note('FILE_STRAY', behind, 56))
    await demand(copy(between), harmless('SEGMENT_SURPLUS', between, 56, { lsnFrom: 5, lsnTo: null }))
  })

  it('are segments of another log: behind the log, between its segments, in the place of one', async () => {
    const foreign = (name: string): Buffer => {
      const bytes = Buffer.from(sound.get(names[1]!)!)
      const [, baseLsn, segmentId] = /^(\d+)-(\w+)\.seg$/.exec(name)!
      const header = { ...headers[1]!, logId: 'f'.repeat(32), baseLsn: Number(baseLsn), segmentId: segmentId! }
      encodeSegmentHeader(header).bytes.copy(bytes)
      return bytes
    }
    const behind = `00000000000000000099-${'a'.repeat(16)}.seg`
    const between = `00000000000000000005-${'a'.repeat(16)}.seg`
    await demand((files) => files.set(behind, foreign(behind)), note('FILE_STRAY', behind, 40))
    await demand(
      (files) => files.set(between, foreign(between)),
      harmless('SEGMENT_SURPLUS', between, 40, { lsnFrom: 5, lsnTo: null }),
    )
    const place = names[2]!
    await demand((files) => files.set(place, foreign(place)), lost('SEGMENT_HEADER_DAMAGED', place, 40, range(2)))
  })

  it('are other files, an index without its segment, what an earlier opening left, and the quarantine', async () => {
    const older = manifestFileName(1)
    await demand(
      (files) => files.set('notes.txt', Buffer.from('x')).set('x.idx.tmp', Buffer.alloc(0)).set(older, Buffer.alloc(9)),
      note('FILE_STRAY', 'notes.txt'),
      note('FILE_STRAY', 'x.idx.tmp'),
      note('FILE_STRAY', older),
    )
    await demand(
      (files) => files.set('quarantine/old.seg', Buffer.from('x')),
      note('FILES_QUARANTINED', 'quarantine/old.seg'),
    )
  })
})

describe('a file that is too short', () => {
  it('is a segment: empty, without frames, in the middle of one, without its seal, with half of it', async () => {
    for (const length of [0, 3000]) {
      await demand((files) => shorten(files, names[1]!, length), lost('SEGMENT_HEADER_DAMAGED', names[1]!, 0, range(1)))
    }
    // What is sealed and has no frame any more.
    await demand((files) => shorten(files, names[1]!, 4096), lost('FRAME_DAMAGED', names[1]!, 4096, range(1)))
    await demand(
      (files) => shorten(files, names[1]!, frameAt(4) + 300),
      lost('FRAME_DAMAGED', names[1]!, frameAt(4), { lsnFrom: 14, lsnTo: 14 }),
      lost('FRAME_DAMAGED', names[1]!, frameAt(5), { lsnFrom: 15, lsnTo: 19 }),
    )
    await demand(
      (files) => shorten(files, names[1]!, ends[1]! + 150),
      harmless('SEAL_DAMAGED', names[1]!, ends[1]!, range(1)),
    )
  })

  it('is the tail: the manifest says how far it was synced', async () => {
    await demand(
      (files) => shorten(files, names[2]!, frameAt(6)),
      lost('FRAME_DAMAGED', names[2]!, frameAt(6), { lsnFrom: 26, lsnTo: 29 }),
      lost('TAIL_DAMAGED', names[2]!, ends[2]!, { lsnFrom: 30, lsnTo: null }),
    )
  })

  it('is an index, the manifest, the lease', async () => {
    await demand((files) => shorten(files, idx(1), 8192), harmless('INDEX_WRONG', idx(1), 8192, range(1)))
    await demand((files) => shorten(files, idx(1), 0), harmless('INDEX_WRONG', idx(1), 0, range(1)))
    await demand((files) => shorten(files, manifestName, 100), lost('MANIFEST_DAMAGED', manifestName, 0))
    await demand((files) => shorten(files, 'LEASE', 700), harmless('LEASE_DAMAGED', 'LEASE', 512))
  })
})

describe('zeros', () => {
  it('are a sector of a frame, of a header, of a seal', async () => {
    await demand(
      (files) => files.get(names[1]!)!.fill(0, frameAt(2) + 512, frameAt(3)),
      lost('FRAME_DAMAGED', names[1]!, frameAt(2), { lsnFrom: 12, lsnTo: 12 }),
    )
    await demand(
      (files) => files.get(names[1]!)!.fill(0, 0, 512),
      lost('SEGMENT_HEADER_DAMAGED', names[1]!, 0, range(1)),
    )
    await demand((files) => files.get(idx(1))!.fill(0, 0, 512), harmless('INDEX_WRONG', idx(1), 0, range(1)))
    await demand((files) => files.get('LEASE')!.fill(0, 0, 512), harmless('LEASE_DAMAGED', 'LEASE', 0))
    await demand((files) => files.get(manifestName)!.fill(0), lost('MANIFEST_DAMAGED', manifestName, 0))
  })

  it('are the tail, from some frame on', async () => {
    await demand(
      (files) => files.get(names[2]!)!.fill(0, frameAt(7)),
      lost('FRAME_DAMAGED', names[2]!, frameAt(7), { lsnFrom: 27, lsnTo: 29 }),
    )
  })
})

describe('what is of an earlier time', () => {
  it('is an index of an earlier end of the segment, or of another segment', async () => {
    await demand(
      (files) => files.set(idx(1), Buffer.from(sound.get(idx(0))!)),
      harmless('INDEX_WRONG', idx(1), 16, range(1)),
    )
    const frames = Array.from({ length: 8 }, (_, i) => [{ vchannel: `v${i % 3}`, payload: Buffer.alloc(700, i + 1) }])
    const earlier = await writtenFiles([frames])
    // The same seed writes the same segment, two frames shorter: the end, a u64 at 24, differs in its second byte.
    const name = [...earlier.keys()].find((each) => each.endsWith('.idx'))!
    expect(name).toBe(idx(0))
    await demand((files) => files.set(name, earlier.get(name)!), harmless('INDEX_WRONG', name, 25, range(0)))
  })

  it('is a manifest: older than the segments, or that of another log', async () => {
    const content = decodeManifest(sound.get(manifestName)!)
    const first = headers[1]!.previous!
    const older = encodeManifest({
      ...content,
      incarnation: 1,
      tail: { id: first.id, baseLsn: 0, syncedPosition: first.end, chain: first.chain, closed: true },
      nextLsn: 10,
      lastTimeTick: 0n,
    })
    await demand(
      (files) => files.set(manifestName, older),
      lost('MANIFEST_STALE', manifestName, 64, { lsnFrom: 10 }),
      note('FILE_STRAY', names[1]!),
      note('FILE_STRAY', names[2]!),
    )
    const other = encodeManifest({ ...content, logId: 'e'.repeat(32) })
    await demand((files) => files.set(manifestName, other), lost('MANIFEST_STALE', manifestName, 48))
  })

  it('is a slot of the lease, or all of it', async () => {
    const slots = [0, 512].map((at) => decodeLeaseSlot(sound.get('LEASE')!.subarray(at, at + 512))!)
    const older = slots[0]!.sequence < slots[1]!.sequence ? 0 : 1
    const put = (files: Files, slot: number, change: object): void => {
      encodeLeaseSlot({ ...slots[slot]!, ...change }).copy(files.get('LEASE')!, slot * 512)
    }
    await demand(
      (files) => put(files, older, { sequence: slots[older]!.sequence + 8 }),
      harmless('LEASE_DAMAGED', 'LEASE', (1 - older) * 512 + 16),
    )
    await demand(
      (files) => {
        for (const slot of [0, 1]) put(files, slot, { tickBound: 1000n })
      },
      harmless('LEASE_DAMAGED', 'LEASE', (1 - older) * 512 + 24),
    )
    await demand(
      (files) => encodeLeaseSlot(slots[0]!).copy(files.get('LEASE')!, 512),
      harmless('LEASE_DAMAGED', 'LEASE', 512 + 16),
    )
  })

  it('is a sector of a segment, as it was before it was written', async () => {
    // Files are written once: before, there were zeros, or the bytes of a file of the pool.
    await demand(
      (files) => sound.get(names[0]!)!.copy(files.get(names[1]!)!, frameAt(5), frameAt(5), frameAt(5) + 512),
      lost('FRAME_DAMAGED', names[1]!, frameAt(5), { lsnFrom: 15, lsnTo: 15 }),
    )
  })
})

describe('a log without damage', () => {
  it.each(workloads.map((workload) => [workload.name, workload] as const))(
    'has no finding but notes after %s, closed or killed',
    async (_name, workload) => {
      for (const files of await logFiles(workload)) {
        const severe = (await findingsOf(files)).filter(({ severity }) => severity !== 'info')
        expect(severe.filter(({ code }) => workload.tolerates?.includes(code) !== true)).toEqual([])
      }
    },
  )
})
