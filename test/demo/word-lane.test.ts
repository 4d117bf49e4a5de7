import { expect, test } from 'vitest'
import { WordLane } from '../../bench/demo/word-lane.mjs'
import type { Appended, AppendRecord, Client, ConsumeOptions, Producer } from '../../src/client/types.ts'
import { TidelogError } from '../../src/errors.ts'

type Fate = 'acknowledged' | 'unknown, written' | 'unknown, lost' | 'not written'

/** A log that decides what becomes of each append, in the order in which they come; then all are acknowledged. */
class FatedLog {
  readonly ids: number[] = []
  readonly #fates: Fate[]

  constructor(fates: Fate[]) {
    this.#fates = fates
  }

  producer(): Producer {
    const submit = async (record: AppendRecord) => ({ acknowledged: this.#append(Number(record.properties!.id)) })
    return { vchannel: 'words', submit } as unknown as Producer
  }

  client(): Client {
    const read = this.#read.bind(this)
    return { consume: (_: string, options: ConsumeOptions) => read(options) } as unknown as Client
  }

  async #append(id: number): Promise<Appended> {
    const fate = this.#fates.shift() ?? 'acknowledged'
    if (fate === 'acknowledged' || fate === 'unknown, written') this.ids.push(id)
    if (fate === 'acknowledged') {
      return { lsn: this.ids.length - 1, timeTick: BigInt(this.ids.length), duplicate: false }
    }
    const outcome = fate === 'not written' ? 'not-written' : 'unknown'
    throw new TidelogError<string>('CONNECTION_LOST', 'it was lost', { outcome, retriable: true })
  }

  async *#read({ from }: ConsumeOptions) {
    const first = typeof from === 'object' && 'lsn' in from ? from.lsn : 0
    for (let lsn = first; lsn < this.ids.length; lsn++) {
      yield { lsn, timeTick: BigInt(lsn + 1), properties: { id: String(this.ids[lsn]) } }
    }
  }
}

test('unknown words that stand in the log count as acknowledged; all others are sent again; none is there twice', async () => {
  const log = new FatedLog([
    'acknowledged',
    'unknown, written',
    'unknown, lost',
    'not written',
    'not written',
    'unknown, lost',
  ])
  const acknowledged = new Map<number, number>()
  const toRecord = ({ id }: { id: number }) => ({ properties: { id: String(id) } })
  const lane = new WordLane(log.client(), log.producer(), toRecord, (id, lsn) => acknowledged.set(id, lsn))
  for (let id = 0; id < 6; id++) await lane.push({ id, word: `word ${id}`, vector: Buffer.alloc(0) })
  await lane.finish()
  expect([...acknowledged.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5])
  expect([...log.ids].sort()).toEqual([0, 1, 2, 3, 4, 5])
  for (const [id, lsn] of acknowledged) expect(log.ids[lsn]).toBe(id)
  expect(lane.counts.foundWritten).toBe(1)
})

test('a word that fails for ever ends the lane', async () => {
  const log = new FatedLog(Array.from({ length: 200 }, () => 'not written' as const))
  const lane = new WordLane(
    log.client(),
    log.producer(),
    ({ id }) => ({ properties: { id: String(id) } }),
    () => {},
  )
  await lane.push({ id: 0, word: 'a', vector: Buffer.alloc(0) })
  await expect(lane.finish()).rejects.toThrow('failed 100 times')
})
