/** `recovery: strict` beside `tail`, for each row of the table of what the end of a tail means. */
import { describe, expect, it } from 'vitest'
import { type Environment, type Log, type LogOptions, openLog } from '../../../native-free-storage/index.ts'
import { findManifest } from '../../../native-free-storage/log/manifest-store.ts'
import { classifyTail, type FramesBehind, type TailEnding } from '../../../native-free-storage/recovery/classify.ts'
import { type FoundTail, findSegments } from '../../../native-free-storage/recovery/find-tail.ts'
import { strictObjection } from '../../../native-free-storage/recovery/strict.ts'
import { logEnvironment } from '../../simulation/log-session.ts'
import { SimDisk } from '../../simulation/sim-disk.ts'

const directory = '/data/log'

/** A machine on which one process after the other has the log. */
class Machine {
  disk: SimDisk
  environment: Environment

  constructor() {
    this.disk = new SimDisk({ names: 'ext4', seed: 7 })
    this.disk.prepareDirectory('/data')
    this.environment = logEnvironment(this.disk)
  }

  open(more: LogOptions = {}): Promise<Log> {
    const writeWay = { mode: 'dsync', depth: 4, reason: 'a test' } as const
    return openLog(directory, { environment: this.environment, segmentBytes: 1024 * 1024, writeWay, ...more })
  }

  dies(): void {
    this.disk.processCrash(3)
    this.disk = this.disk.nextProcess()
    this.environment = logEnvironment(this.disk)
  }

  idle(): Promise<void> {
    return new Promise((resolve) => this.disk.clock.after(1_000, resolve))
  }

  async tail(): Promise<FoundTail> {
    const names = await this.disk.list(directory)
    const manifest = await findManifest(this.disk, directory, names)
    return (await findSegments(this.environment, directory, manifest!.content, names)).tail!
  }

  async write(name: string, bytes: Uint8Array, position: number): Promise<void> {
    const file = await this.disk.open(`${directory}/${name}`, 'write')
    await file.write(bytes, position)
    await file.close()
  }

  /** Everything but the lock: names and bytes. */
  state(): string[] {
    return this.disk
      .paths()
      .filter((path) => path.startsWith(directory) && !path.includes('/LOCK'))
      .sort()
      .map((path) => `${path} ${Buffer.from(this.disk.contents(path)).toString('base64')}`)
  }
}

const record = (text: string, bytes = 100) => [{ vchannel: 'v', payload: Buffer.from(text.padEnd(bytes, '.')) }]

async function appended(machine: Machine, more: LogOptions = {}): Promise<Log> {
  const log = await machine.open(more)
  for (let index = 0; index < 5; index++) await log.append(record(`r${index}`))
  await machine.idle()
  return log
}

/** Dies with several writes in flight; returns the frames of which nothing proves that they were durable. */
async function diesInFlight(machine: Machine): Promise<FoundTail> {
  const log = await appended(machine)
  const appends: Promise<unknown>[] = []
  for (let index = 0; index < 4; index++) {
    appends.push(log.append(record(`large${index}`, 140_000)))
    // One write each, all of them under way at once.
    await new Promise<void>((resolve) => machine.disk.clock.after(0.001, resolve))
  }
  await Promise.all(appends)
  machine.dies()
  const tail = await machine.tail()
  expect(tail.unproven.length).toBeGreaterThan(1)
  return tail
}

interface Case {
  name: string
  prepare(machine: Machine): Promise<void>
  tail: number | 'LOG_DAMAGED'
  strict: number | 'LOG_DAMAGED' | 'RECOVERY_REFUSED'
  /** What is in the message, and the LSNs. */
  says?: RegExp
  lsns?: [number, number | undefined]
  options?: LogOptions
}

const cases: readonly Case[] = [
  {
    name: 'that was closed',
    prepare: async (machine) => (await appended(machine)).close(),
    tail: 5,
    strict: 5,
  },
  {
    name: 'that ends in a durable marker and zeros (clean)',
    prepare: async (machine) => {
      await appended(machine)
      machine.dies()
    },
    tail: 5,
    strict: 5,
  },
  {
    name: 'that ends in a seal, of which the manifest does not know (sealed)',
    prepare: async (machine) => {
      const log = await appended(machine)
      const path = machine.disk.paths().find((name) => name.includes('/MANIFEST-'))!
      const before = Buffer.from(machine.disk.contents(path))
      await log.close()
      const newest = machine.disk.paths().find((name) => name.includes('/MANIFEST-'))!
      await machine.disk.unlink(newest)
      const file = await machine.disk.create(path)
      await file.write(before, 0)
      await file.close()
    },
    tail: 5,
    strict: 5,
  },
  {
    name: 'with records that nothing proves (clean)',
    prepare: async (machine) => {
      const log = await appended(machine)
      await log.append(record('r5'))
      machine.dies()
    },
    tail: 6,
    strict: 'RECOVERY_REFUSED',
    says: /nothing proves that they are all \(LSN 5 to 5\)/,
    lsns: [5, 5],
  },
  {
    name: 'with a write that was torn (torn, invalid)',
    prepare: async (machine) => {
      await appended(machine)
      machine.dies()
      const { entry, end } = await machine.tail()
      await machine.write(entry.name, Buffer.alloc(700, 0xab), end.position)
    },
    tail: 5,
    strict: 'RECOVERY_REFUSED',
    says: /bytes that are no frame: the last write was under way/,
    lsns: [5, undefined],
  },
  ...[0, 0xab].map(
    (filler): Case => ({
      name: `with a frame behind a hole of ${filler === 0 ? 'zeros (torn, empty' : 'other bytes (torn, invalid'}, unproven)`,
      prepare: async (machine) => {
        const { entry, unproven } = await diesInFlight(machine)
        const first = unproven.at(-2)!.header
        await machine.write(entry.name, Buffer.alloc(first.totalLength, filler), first.position)
      },
      tail: 7,
      strict: 'RECOVERY_REFUSED',
      says: /several writes were under way/,
    }),
  ),
  {
    name: 'with a frame that proves what is gone (damaged)',
    prepare: async (machine) => {
      const log = await appended(machine)
      const before = log.nextLsn
      await log.append(record('gone'))
      await log.append(record('proof'))
      machine.dies()
      const { entry, unproven } = await machine.tail()
      expect(unproven[0]!.header.baseLsn).toBe(before + 1)
      const at = unproven[0]!.header.position - unproven[0]!.header.totalLength
      await machine.write(entry.name, Buffer.alloc(512), at)
    },
    tail: 'LOG_DAMAGED',
    strict: 'LOG_DAMAGED',
  },
  {
    name: 'that ends before what the manifest says was synced (damaged)',
    prepare: async (machine) => {
      const log = await appended(machine)
      const { entry } = await machine.tail()
      await log.close()
      const file = await machine.disk.open(`${directory}/${entry.name}`, 'write')
      await file.truncate(4096 + 512)
      await file.close()
    },
    tail: 'LOG_DAMAGED',
    strict: 'LOG_DAMAGED',
  },
  {
    name: 'of durability "os" that was not closed',
    prepare: async (machine) => {
      await appended(machine, { durability: 'os' })
      machine.dies()
    },
    tail: 5,
    strict: 'RECOVERY_REFUSED',
    says: /LSN 0 to 4/,
    lsns: [0, 4],
    options: { durability: 'os' },
  },
]

describe('the opening of a log', () => {
  it.each(cases)('$name, recovery: tail', async ({ prepare, tail, options }) => {
    const machine = new Machine()
    await prepare(machine)
    const opening = machine.open({ recovery: 'tail', ...options })
    if (typeof tail === 'string') await expect(opening).rejects.toMatchObject({ code: tail })
    else expect((await opening).nextLsn).toBe(tail)
  })

  it.each(cases)('$name, recovery: strict', async ({ prepare, strict, options, says, lsns }) => {
    const machine = new Machine()
    await prepare(machine)
    const before = machine.state()
    const opening = machine.open({ recovery: 'strict', ...options })
    if (typeof strict === 'number') {
      expect((await opening).nextLsn).toBe(strict)
      return
    }
    const error = await opening.then(
      () => null,
      (thrown) => thrown,
    )
    expect(error).toMatchObject({ code: strict, retriable: false, file: expect.stringMatching(/\.seg$/) })
    expect(error.position).toBeGreaterThanOrEqual(4096)
    expect(error.message).toMatch(says ?? /Nothing was changed/)
    if (lsns !== undefined) expect([error.lsnFrom, error.lsnTo]).toEqual(lsns)
    // No generation, no quarantine, no pool: the log is as it was, and can be opened the other way.
    expect(machine.state()).toEqual(before)
    if (strict === 'RECOVERY_REFUSED') {
      const log = await machine.open({ recovery: 'tail', ...options })
      await log.close()
      await (await machine.open({ recovery: 'strict', ...options })).close()
    }
  })

  it('is refused too when the tail changes between the look and the fence', async () => {
    const machine = new Machine()
    await appended(machine)
    machine.dies()
    const { entry, end } = await machine.tail()
    let late: Promise<void> | undefined
    machine.disk.inject(({ kind, to }) => {
      // The former owner, who does not know of the lock, goes on until he is fenced.
      if (kind === 'link' && to?.includes('/MANIFEST-'))
        late ??= machine.write(entry.name, Buffer.alloc(512, 1), end.position)
      return undefined
    })
    await expect(machine.open({ recovery: 'strict' })).rejects.toMatchObject({ code: 'RECOVERY_REFUSED' })
    await late
    expect((await machine.open()).nextLsn).toBe(5)
  })

  it('of a log that does not exist yet', async () => {
    const machine = new Machine()
    expect((await machine.open({ recovery: 'strict' })).nextLsn).toBe(0)
  })

  it('refuses another word', async () => {
    const machine = new Machine()
    await expect(machine.open({ recovery: 'loose' as 'tail' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('the rule of strict', () => {
  const endings: readonly TailEnding[] = ['seal', 'empty', 'invalid']
  const behind: readonly FramesBehind[] = ['none', 'unproven', 'proving']

  it('says of each combination what is written down here once more', () => {
    for (const ending of endings) {
      for (const framesBehind of behind) {
        for (const closed of [false, true]) {
          for (const unproven of [false, true]) {
            const { verdict } = classifyTail({ ending, framesBehind, manifestBeyond: false })
            if (verdict === 'damaged') continue
            const opens = closed || ending === 'seal' || (ending === 'empty' && framesBehind === 'none' && !unproven)
            expect(strictObjection(verdict, closed, unproven) === null).toBe(opens)
          }
        }
      }
    }
  })
})
