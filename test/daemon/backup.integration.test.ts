/** Backups of a data directory beside its daemon, and what is served from them. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Disk, nodeEnvironment, verify } from '../../native-free-storage/index.ts'
import type { Client } from '../../src/client/types.ts'
import { backupDataDirectory } from '../../src/log-store/data-directory-backup.ts'
import { budget } from '../budget.ts'
import { DaemonFixture, text, textsOf } from './open-test-daemon.ts'

const rounds = budget({ small: 1, ci: 4, soak: 100 })

let fixture: DaemonFixture

beforeEach(async () => {
  fixture = await DaemonFixture.create()
})

afterEach(() => fixture.dispose())

/** Goes on creating vchannels and appending to them; knows what was acknowledged. */
class Producers {
  readonly acknowledged = new Map<string, number>()
  #stopped = false
  readonly #ends: Promise<void>[]

  constructor(client: Client) {
    this.#ends = [0, 1, 2, 3].map((lane) => this.#run(client, lane))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#ends)
  }

  async #run(client: Client, lane: number): Promise<void> {
    for (let number = 0; !this.#stopped; number++) {
      // A new vchannel all the while: its place has to be in every copy that has a record of it.
      const vchannel = `v${lane}-${Math.floor(number / 5)}`
      const index = number % 5
      await client.append(vchannel, text(`${vchannel} ${index} ${'.'.repeat(2_000)}`))
      this.acknowledged.set(vchannel, index + 1)
    }
  }
}

describe('a backup of a data directory', () => {
  test(
    'beside a daemon under load is clean, is served, and its catalog has every vchannel of its records',
    async () => {
      const daemon = await fixture.start({ pchannels: 2, segmentBytes: 64 * 1024 })
      const producers = new Producers(await fixture.connect(daemon))
      for (let round = 0; round < rounds; round++) {
        const enough = (round + 1) * 12
        while (producers.acknowledged.size < enough) await new Promise((resolve) => setImmediate(resolve))
        const out = join(fixture.directory, `copy-${round}`)
        const before = new Map(producers.acknowledged)
        const reports = await backupDataDirectory(nodeEnvironment(), fixture.data, out)
        expect(reports.map(({ path }) => path)).toEqual(
          ['pchannels/0', 'pchannels/1', 'catalog'].map((name) => join(fixture.data, name)),
        )
        const { logs } = await verify(nodeEnvironment(), out)
        const severe = logs.flatMap(({ findings }) => findings).filter(({ severity }) => severity !== 'info')
        expect(severe).toEqual([])

        const restored = await fixture.start({ data: out, segmentBytes: 64 * 1024 })
        const client = await fixture.connect(restored)
        const names = new Set((await client.vchannels()).map(({ name }) => name))
        const next = new Map<string, number>()
        let found = 0
        // A consumer takes so many vchannels of a group.
        const all = [...names]
        for (let at = 0; at < all.length; at += 1_000) {
          const some = client.consume(all.slice(at, at + 1_000), { from: 'earliest', untilCaughtUp: true })
          for await (const { vchannel, payload } of some) {
            // A beginning of what was sent, in its order.
            const index = next.get(vchannel) ?? 0
            expect(Buffer.from(payload).toString().startsWith(`${vchannel} ${index} `)).toBe(true)
            next.set(vchannel, index + 1)
            found++
          }
        }
        // Records of a vchannel that the catalog did not know would be in the logs, and not among these.
        const copied = reports.slice(0, 2).reduce((sum, { lastLsn }) => sum + (lastLsn ?? -1) + 1, 0)
        expect(found).toBe(copied)
        for (const name of before.keys()) expect(names.has(name)).toBe(true)
        await client.append('after', text('the restore'))
        expect(await textsOf(client, 'after')).toEqual(['the restore'])
        await restored.stop()
      }
      await producers.stop()
      await daemon.stop()
      expect((await verify(nodeEnvironment(), fixture.data)).clean).toBe(true)
    },
    60_000 + 10_000 * rounds,
  )

  test('that was interrupted is refused by the daemon', async () => {
    const daemon = await fixture.start()
    await (await fixture.connect(daemon)).append('a', text('x'))
    const out = join(fixture.directory, 'copy')
    const environment = nodeEnvironment()
    const { disk } = environment
    let links = 0
    // The manifest of the second pchannel.
    const link: Disk['link'] = (existing, name) =>
      ++links === 2 ? Promise.reject(new Error('interrupted')) : disk.link(existing, name)
    const failing: Disk = new Proxy(disk, {
      get(target, key: keyof Disk) {
        const member = target[key]
        return key === 'link' ? link : typeof member === 'function' ? member.bind(target) : member
      },
    })
    await expect(backupDataDirectory({ ...environment, disk: failing }, fixture.data, out)).rejects.toThrow(
      'interrupted',
    )
    const before = await readdir(out)
    await expect(fixture.start({ data: out })).rejects.toMatchObject({ code: 'BACKUP_INCOMPLETE' })
    expect(await readdir(out)).toEqual(before)
    await expect(backupDataDirectory(environment, fixture.data, out)).rejects.toMatchObject({
      code: 'BACKUP_INCOMPLETE',
    })
  })
})
