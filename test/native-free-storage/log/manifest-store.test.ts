import { beforeAll, describe, expect, it } from 'vitest'
import { manifestFileName } from '../../../native-free-storage/format/file-names.ts'
import type { ManifestContent } from '../../../native-free-storage/format/manifest.ts'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { findManifest, ManifestStore } from '../../../native-free-storage/log/manifest-store.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const directory = '/data'
const noReserve = async (): Promise<boolean> => false
const newLog: ManifestContent = {
  generation: 1,
  logId: '00112233445566778899aabbccddeeff',
  ownerTerm: 0,
  incarnation: 1,
  durability: 'disk',
  firstLsn: 0,
  firstSegment: null,
  tail: null,
  nextLsn: 0,
  lastTimeTick: 0n,
  bootId: new Uint8Array(16),
  retired: [],
  origins: [],
}
const counted = (content: ManifestContent): ManifestContent => ({ ...content, incarnation: content.incarnation + 1 })

beforeAll(async () => {
  await loadChecksum()
})

async function newStore(): Promise<{ disk: SimDisk; store: ManifestStore }> {
  const disk = new SimDisk()
  disk.prepareDirectory(directory)
  const store = await ManifestStore.create(logEnvironment(disk), directory, newLog, noReserve)
  return { disk, store }
}

async function secondStore(disk: SimDisk): Promise<ManifestStore> {
  const found = (await findManifest(disk, directory, await disk.list(directory)))!
  return new ManifestStore(logEnvironment(disk.nextProcess()), directory, found.content, noReserve, found.older)
}

describe('the manifest store', () => {
  it('publishes one generation after the other and leaves the newest alone', async () => {
    const { disk, store } = await newStore()
    await Promise.all([store.publish(counted), store.publish(counted)])
    expect(disk.paths()).toEqual([`${directory}/${manifestFileName(3)}`])
    expect((await findManifest(disk, directory, await disk.list(directory)))?.content.incarnation).toBe(3)
    expect(store.isNewest()).toBe(true)
  })

  it('is fenced by a rival that has published', async () => {
    const { disk, store } = await newStore()
    await (await secondStore(disk)).publish(counted)
    expect(store.isNewest()).toBe(false)
    await expect(store.publish(counted)).rejects.toMatchObject({ code: 'FENCED' })
    expect(store.isDoubtful).toBe(false)
  })

  // Found by the rivals of the simulation: the name of the next generation is free again when the rival has gone on.
  it('is fenced by a rival that has published several generations and unlinked the first of them', async () => {
    const { disk, store } = await newStore()
    const rival = await secondStore(disk)
    for (let i = 0; i < 3; i++) await rival.publish(counted)
    await expect(store.publish((content) => ({ ...content, firstLsn: 99 }))).rejects.toMatchObject({ code: 'FENCED' })
    expect(store.isDoubtful).toBe(true)
    const found = await findManifest(disk, directory, await disk.list(directory))
    expect(found?.content).toMatchObject({ generation: 4, firstLsn: 0 })
    expect(rival.isNewest()).toBe(true)
  })

  it('cannot create a log that was created and went on meanwhile', async () => {
    const disk = new SimDisk()
    disk.prepareDirectory(directory)
    let rival: Promise<unknown> | undefined
    const slow = logEnvironment(disk)
    const late: typeof slow = {
      ...slow,
      disk: new Proxy(disk, {
        get(target, name) {
          if (name === 'link') {
            return async (existing: string, path: string) => {
              rival ??= ManifestStore.create(logEnvironment(disk.nextProcess()), directory, newLog, noReserve).then(
                (other) => other.publish(counted),
              )
              await rival
              await disk.link(existing, path)
            }
          }
          const value = Reflect.get(target, name)
          return typeof value === 'function' ? value.bind(target) : value
        },
      }),
    }
    await expect(ManifestStore.create(late, directory, newLog, noReserve)).rejects.toMatchObject({ code: 'FENCED' })
  })

  // Found by the failing disks of the simulation: who waited for the link spun for ever.
  it('tells whether it is the newest also while a link fails, and that it is not known what was published', async () => {
    const { disk, store } = await newStore()
    let publishing: Promise<unknown> = Promise.resolve()
    await new Promise<void>((linking) => {
      disk.inject(({ kind }) => {
        if (kind !== 'link') return undefined
        linking()
        return { fail: 'EIO', applied: true }
      })
      publishing = store.publish(counted).catch((error: unknown) => error)
    })
    expect(store.isNewest()).toBe(undefined)
    expect(await store.confirmNewest()).toBe(false)
    expect(await publishing).toMatchObject({ code: 'IO_FAILED' })
    expect(store.isDoubtful).toBe(true)
  })

  it('does not know what was published when the directory could not be synced', async () => {
    const { disk, store } = await newStore()
    disk.inject(({ kind }) => (kind === 'syncDirectory' ? { fail: 'ENOSPC' } : undefined))
    await expect(store.publish(counted)).rejects.toMatchObject({ code: 'IO_FAILED' })
    expect(store.isDoubtful).toBe(true)
  })

  it('publishes on a full disk as often as it likes', async () => {
    const { disk, store } = await newStore()
    await store.prepareSpare()
    for (let i = 0; i < 20; i++) {
      disk.setFreeBytes(0)
      await store.publish(counted)
    }
    expect(store.content.incarnation).toBe(21)
    const found = await findManifest(disk, directory, await disk.list(directory))
    expect(found).toMatchObject({ content: { incarnation: 21 }, older: [] })
    disk.setFreeBytes(0)
    const retired = Array.from({ length: 300 }, (_, baseLsn) => ({ id: '00000000000000ff', baseLsn }))
    await expect(store.publish((content) => ({ ...content, retired }))).rejects.toMatchObject({
      code: 'DISK_FULL',
      retriable: true,
    })
  })

  it('never takes an older generation for a damaged newest one', async () => {
    const { disk, store } = await newStore()
    const old = disk.contents(`${directory}/${manifestFileName(1)}`)
    await store.publish(counted)
    const file = await disk.create(`${directory}/${manifestFileName(1)}`)
    await file.write(old, 0)
    disk.flipBit(`${directory}/${manifestFileName(2)}`, 90, 3)
    await expect(findManifest(disk, directory, await disk.list(directory))).rejects.toMatchObject({
      code: 'MANIFEST_DAMAGED',
      file: manifestFileName(2),
    })
  })
})
