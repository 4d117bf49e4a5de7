/** An index that is of an earlier end of its segment, or of another segment, is no index: a selective read gives all. */
import type { Environment } from '../../native-free-storage/environment.ts'
import { encodeIndex } from '../../native-free-storage/segment/index-file.ts'
import { SegmentIndexBuilder } from '../../native-free-storage/segment/sparse-index.ts'
import { newDisk } from './crash-runner.ts'
import { demand } from './log-ledger.ts'
import { logDirectory, Session, ways } from './log-session.ts'

/** Throws when a read by vchannel gives other records than a look at all of them. */
export async function readWithStaleIndex(
  _what: unknown,
  index: number,
  seed: string,
  wrap: (environment: Environment) => Environment,
): Promise<void> {
  const disk = newDisk({ names: 'strict', seed })
  const session = new Session(disk, ways[0]!, seed)
  session.wrap = wrap
  // A segment that is smaller is read from end to end.
  await session.open({ segmentBytes: 512 * 1024 })
  for (let i = 0; i < 16; i++) await session.submit(40_000)
  await session.log.close()
  const path = disk
    .paths()
    .filter((name) => name.startsWith(logDirectory) && name.endsWith('.seg'))
    .sort()[0]!
  const bytes = Buffer.from(disk.contents(path))
  const header = { id: path.slice(-20, -4), salt: bytes.readBigUInt64LE(88) }
  const builder = new SegmentIndexBuilder(header.salt)
  // The index as it would have been after the first frames.
  let end = { position: 4096, chain: bytes.readBigUInt64LE(0), nextLsn: 0, lastTimeTick: 0n }
  for (let i = 0; i <= index % 3; i++) {
    const { position } = end
    const frame = { position, baseLsn: i, baseTimeTick: bytes.readBigUInt64LE(position + 48), recordCount: 1, kind: 0 }
    builder.addFrame({ ...frame, kind: 0, vchannels: [`v${i % 3}`] })
    end = {
      position: position + bytes.readUInt32LE(position + 16),
      chain: bytes.readBigUInt64LE(position),
      nextLsn: i + 1,
      lastTimeTick: frame.baseTimeTick,
    }
  }
  const stale = await disk.open(path.replace(/\.seg$/, '.idx'), 'write', 'dsync')
  const encoded = encodeIndex(builder, header.id, end)
  await stale.truncate(0)
  await stale.write(encoded, 0)
  await stale.close()
  const log = await session.open()
  try {
    for (const vchannel of ['v0', 'v1', 'v2']) {
      const all: number[] = []
      const selected: number[] = []
      for await (const frame of log.read()) {
        for (const { lsn, vchannel: of } of frame) if (of === vchannel || of === '') all.push(lsn)
      }
      for await (const frame of log.read({ vchannels: [vchannel] })) for (const { lsn } of frame) selected.push(lsn)
      demand(
        all.join() === selected.join(),
        () => `of ${vchannel} a selective read gives ${selected}, a full one ${all}`,
      )
    }
    await log.close()
  } finally {
    disk.powerLoss()
  }
}
