/** A compaction that is overtaken: the log is another owner's by then. */
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum, type TidelogError } from '../../../native-free-storage/index.ts'
import { demandNoOrphans, demandSound } from '../../simulation/crash-runner.ts'
import { logDirectory, Session, ways } from '../../simulation/log-session.ts'
import { aloneInTheWorld } from '../../simulation/rivals.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'
import { everything } from './ticked-log.ts'

beforeAll(loadChecksum)

async function begun(seed: string): Promise<Session> {
  const disk = new SimDisk({ names: 'ext4', seed })
  disk.prepareDirectory('/data')
  const first = new Session(disk, ways[0]!, seed)
  first.wrap = aloneInTheWorld
  await first.open()
  for (let i = 0; i < 3; i++) {
    for (let tick = 0; tick < 6; tick++) await first.ledger.submitTick(first.log)
    await first.submit(20_000, 20_000)
  }
  return first
}

const failureOf = (promise: Promise<unknown>): Promise<TidelogError | null> =>
  promise.then(
    () => null,
    (error: TidelogError) => error,
  )

describe('a compaction whose log is opened by somebody else', () => {
  it('names no file behind the back of the new owner, also when the name comes late', async () => {
    const first = await begun('late name')
    const { disk, ledger } = first
    const isNaming = (kind: string, path: string) => kind === 'rename' && path.endsWith('.seg.tmp')
    let isNamed = false
    const held = new Promise<void>((resolve) => {
      disk.inject(({ kind, path, pid }) => {
        // Behind the name nothing of the first one happens any more: it does not take it back.
        if (pid !== disk.pid || !(isNamed || isNaming(kind, path))) return undefined
        resolve()
        return { stall: 'late' }
      })
    })
    first.log.compact(everything).catch(() => {})
    await held
    const second = new Session(disk.nextProcess(), ways[0]!, 'second', ledger)
    second.wrap = aloneInTheWorld
    second.disk.inject(({ kind, path, pid }) => {
      // Behind the list that the new owner has read, and before it removes what is in that.
      if (isNamed || pid !== second.disk.pid || kind !== 'unlink' || !path.endsWith('.seg.tmp')) return undefined
      isNamed = true
      for (const each of [...disk.stalled]) if (isNaming(each.operation.kind, each.operation.path)) each.release()
      return undefined
    })
    await second.open()
    expect(isNamed).toBe(true)
    const bases = disk.paths().flatMap((path) => /\/log\/(\d{20})-[0-9a-f]{16}\.seg$/.exec(path)?.[1] ?? [])
    expect(new Set(bases).size, 'two files of one segment').toBe(bases.length)
    await ledger.check(second.log)
    await second.submit(100)
    await second.close()
    disk.processCrash()
    for (let i = 0; i < 2; i++) {
      await second.open()
      await ledger.check(second.log)
      await second.close()
    }
    await demandSound(second, 'after the rival')
    demandNoOrphans(second.disk)
    expect((await second.environment.disk.list(`${logDirectory}`)).includes('quarantine')).toBe(false)
    disk.powerLoss()
  })

  it.each(['create', 'link', 'sync'] as const)(
    'is fenced, and switches nothing: overtaken before a %s',
    async (kind) => {
      const first = await begun(`overtaken ${kind}`)
      const { disk, ledger } = first
      const names = (): string[] => disk.paths().filter((path) => /\/log\/[^/]*\.seg$/.test(path))
      // All but the tail, which the new owner may write anew.
      const before = names().slice(0, -1)
      let isHeld = false
      const held = new Promise<void>((resolve) => {
        disk.inject((operation) => {
          const isOurs = operation.pid === disk.pid && /\.seg\.tmp$|MANIFEST-/.test(operation.path)
          if (operation.kind !== kind || !isOurs || isHeld) return undefined
          isHeld = true
          resolve()
          return { stall: 'late' }
        })
      })
      const compacting = failureOf(first.log.compact(everything))
      await held
      const second = new Session(disk.nextProcess(), ways[0]!, 'second', ledger)
      second.wrap = aloneInTheWorld
      await second.open()
      for (const each of [...disk.stalled]) each.release()
      expect(['FENCED', 'IO_FAILED', 'DISK_FULL']).toContain((await compacting)?.code)
      expect(before.filter((name) => !names().includes(name))).toEqual([])
      await ledger.check(second.log)
      await second.close()
      await first.log.close().catch(() => {})
      await second.open()
      await ledger.check(second.log)
      await second.close()
      await demandSound(second, 'after the rival')
      demandNoOrphans(second.disk)
      disk.powerLoss()
    },
  )
})
