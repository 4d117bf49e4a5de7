/** An indexed look-up equals a linear scan: reads from LSNs, from ticks, of some vchannels and types, against a full read. */
import type { Log, ReadOptions } from '../../native-free-storage/index.ts'
import { demand, type FoundLog, type FoundRecord, identified, recordOf } from './log-ledger.ts'
import type { Random } from './random.ts'

const readAheadBytes = 64 * 1024

/** `found`: the full read of this very log. `count`: how many look-ups are made. */
export async function checkLookups(log: Log, found: FoundLog, random: Random, count: number): Promise<void> {
  const { records, firstLsn, nextLsn } = found
  for (let i = 0; i < count; i++) {
    const options: ReadOptions = { readAheadBytes }
    let expected: readonly FoundRecord[] = records
    const kind = random.below(3)
    if (kind === 0) {
      const lsn = random.between(firstLsn, nextLsn)
      options.from = { lsn }
      expected = records.filter((record) => record.lsn >= lsn)
    } else if (kind === 1 && records.length > 0) {
      const timeTick = random.pick(records).timeTick + BigInt(random.between(0, 1))
      options.from = { timeTick }
      expected = records.filter((record) => record.timeTick >= timeTick)
    }
    if (random.chance(0.7)) {
      const wanted = [`v${random.below(4)}`, ...(random.chance(0.3) ? ['v1'] : [])]
      options.vchannels = wanted
      expected = expected.filter(({ id }) => ['', ...wanted].includes(recordOf(id, 8).vchannel))
    }
    if (random.chance(0.3)) {
      options.types = [0]
      expected = expected.filter(({ id }) => recordOf(id, 8).type === 0)
    }
    const looked: FoundRecord[] = []
    for await (const frame of log.read(options)) for (const record of frame) looked.push(identified(record))
    const asked = () =>
      JSON.stringify(options, (_key, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
    demand(looked.length === expected.length, () => {
      return `a look-up ${asked()} gives ${looked.length} records, a scan ${expected.length}`
    })
    for (const [index, record] of looked.entries()) {
      const { lsn, id } = expected[index]!
      demand(record.lsn === lsn && record.id === id, () => `a look-up ${asked()} gives LSN ${record.lsn}, not ${lsn}`)
    }
  }
}
