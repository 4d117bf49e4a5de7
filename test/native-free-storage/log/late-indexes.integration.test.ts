import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type Disk, DiskError, type DiskFile } from '../../../native-free-storage/disk/disk.ts'
import { nodeEnvironment } from '../../../native-free-storage/disk/node-environment.ts'
import type { Environment } from '../../../native-free-storage/environment.ts'
import type { Log } from '../../../native-free-storage/log/log.ts'
import { openLog } from '../../../native-free-storage/log/open-log.ts'
import { verify } from '../../../native-free-storage/maintenance/verify.ts'

const SEGMENT_BYTES = 1024 * 1024

let folder: string
let isFull: boolean
let noHeaders: boolean
let refusedHeaders: number
let environment: Environment

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tidelog-late-'))
  isFull = false
  noHeaders = false
  refusedHeaders = 0
  const { disk } = nodeEnvironment()
  const create: Disk['create'] = async (path, sync) => {
    if (isFull && path.endsWith('.idx.tmp')) throw new DiskError('ENOSPC', 'create', path)
    return withoutRoom(await disk.create(path, sync))
  }
  const open: Disk['open'] = async (path, access, sync) => withoutRoom(await disk.open(path, access, sync))
  environment = nodeEnvironment({
    disk: new Proxy(disk, {
      get(target, name: keyof Disk) {
        if (name === 'create') return create
        if (name === 'open') return open
        const value = target[name]
        return typeof value === 'function' ? value.bind(target) : value
      },
    }),
  })
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** No room for the header of a segment while `noHeaders`. */
function withoutRoom(file: DiskFile): DiskFile {
  return new Proxy(file, {
    get(target, name: keyof DiskFile) {
      if (name === 'write') {
        return async (bytes: Uint8Array, position: number) => {
          if (noHeaders && position === 0 && /\.(prep|new)$/.test(target.path)) {
            refusedHeaders++
            // Behind the seal of the segment before it.
            await new Promise((resolve) => setTimeout(resolve, 50))
            throw new DiskError('ENOSPC', 'write', target.path)
          }
          await target.write(bytes, position)
        }
      }
      const value = target[name]
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const open = () => openLog(folder, { environment, segmentBytes: SEGMENT_BYTES })

async function roll(log: Log, times: number): Promise<void> {
  const before = log.statistics().rolls
  while (log.statistics().rolls < before + times) {
    await log.append([{ vchannel: 'a', payload: Buffer.alloc(SEGMENT_BYTES / 8) }])
  }
}

const withEnding = async (ending: string) => (await readdir(folder)).filter((name) => name.endsWith(ending)).length

async function isClean(): Promise<void> {
  const { clean, logs } = await verify(nodeEnvironment(), folder)
  expect({ clean, findings: logs[0]?.findings.map(({ code }) => code) }).toEqual({ clean: true, findings: [] })
  expect(await withEnding('.idx')).toBe(await withEnding('.seg'))
}

it('makes the indexes that a full disk left unmade when there is room again', async () => {
  const log = await open()
  isFull = true
  await roll(log, 3)
  expect(await withEnding('.idx')).toBe(0)
  isFull = false
  await roll(log, 1)
  await log.close()
  await isClean()
})

it('makes the indexes at the close at the latest, also those that the open found missing and could not make', async () => {
  const first = await open()
  isFull = true
  await roll(first, 3)
  await first.close()
  const second = await open()
  await roll(second, 8)
  expect(await withEnding('.idx')).toBe(0)
  isFull = false
  await second.close()
  await isClean()
})

it('makes as many indexes as a full disk may leave behind when it is opened next', async () => {
  const first = await open()
  isFull = true
  await roll(first, 8)
  await first.close()
  isFull = false
  await (await open()).close()
  await isClean()
})

it('makes the index of a segment that was sealed when there was no room for the next one', async () => {
  const log = await open()
  const payload = Buffer.alloc(SEGMENT_BYTES / 8)
  await log.append([{ vchannel: 'a', payload }])
  noHeaders = true
  while (refusedHeaders === 0) await log.append([{ vchannel: 'a', payload }]).catch(() => {})
  noHeaders = false
  while ((await withEnding('.seg')) < 2) await log.append([{ vchannel: 'a', payload }])
  await log.close()
  await isClean()
})
