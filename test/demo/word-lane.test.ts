import { expect, test } from 'vitest'
import { WordLane } from '../../bench/demo/word-lane.mjs'
import type { AppendRecord, IdentifiedProducer } from '../../src/client/types.ts'
import { TidelogError } from '../../src/errors.ts'

/** A producer of which the log has the first records already, and that ends at one of the next. */
class Written {
  readonly ids: number[] = []
  readonly #failsAt: number

  constructor(failsAt = Number.POSITIVE_INFINITY) {
    this.#failsAt = failsAt
  }

  producer(lastSequence: number): IdentifiedProducer {
    const submit = async (record: AppendRecord) => ({ acknowledged: this.#append(Number(record.properties!.id)) })
    return { vchannel: 'words', lastSequence, submit, close: async () => {} } as unknown as IdentifiedProducer
  }

  async #append(id: number): Promise<{ lsn: number; timeTick: bigint }> {
    if (id >= this.#failsAt) throw new TidelogError<string>('PRODUCER_FENCED', 'fenced', { outcome: 'not-written' })
    this.ids.push(id)
    return { lsn: 100 + id, timeTick: BigInt(id) }
  }
}

const toRecord = ({ id }: { id: number }) => ({ properties: { id: String(id) } })
const word = (id: number) => ({ id, word: `word ${id}`, vector: Buffer.alloc(0) })

test('words that the log has are not sent again, and all others are, once', async () => {
  const written = new Written()
  const acknowledged = new Map<number, number>()
  const lane = new WordLane(written.producer(3), toRecord, (id, lsn) => acknowledged.set(id, lsn))
  for (let index = 0; index < 8; index++) await lane.push(word(4 * index))
  await lane.finish()
  expect(written.ids).toEqual([12, 16, 20, 24, 28])
  expect([...acknowledged]).toEqual(written.ids.map((id) => [id, 100 + id]))
})

test('a word that fails ends the lane', async () => {
  const lane = new WordLane(new Written(8).producer(0), toRecord, () => {})
  const pushing = (async () => {
    for (let id = 0; id < 100; id++) await lane.push(word(id))
  })()
  await expect(pushing).rejects.toMatchObject({ code: 'PRODUCER_FENCED' })
})
