import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import { FrameKind } from '../../../native-free-storage/format/frame-header.ts'
import { openLog } from '../../../native-free-storage/log/open-log.ts'
import { verify } from '../../../native-free-storage/maintenance/verify.ts'

const SECOND_FRAME_AT = 4096 + 512
const KIND = 14

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidelog-marker-'))
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

it('the index of a segment that holds a durable marker alone says that no tick was given in it', async () => {
  const crashed = join(folder, 'crashed')
  const before = await openLog(join(folder, 'log'))
  await before.append([{ vchannel: 'a' }])
  // A crash of the process behind the marker that follows when the log is idle: the next open carries it over.
  await vi.waitFor(async () => expect(await kindAt(join(folder, 'log'), SECOND_FRAME_AT)).toBe(FrameKind.durableMarker))
  await cp(join(folder, 'log'), crashed, { recursive: true, filter: (path) => !path.endsWith('/LOCK') })
  await before.close()
  await (await openLog(crashed)).close()
  expect(await verify(nodeEnvironment(), crashed)).toMatchObject({ clean: true, logs: [{ records: 1 }] })
})

async function kindAt(log: string, position: number): Promise<number | undefined> {
  const segment = (await readdir(log)).find((name) => name.endsWith('.seg'))!
  return (await readFile(join(log, segment)))[position + KIND]
}
