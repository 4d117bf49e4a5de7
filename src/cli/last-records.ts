/**
 * Where the last N records of a vchannel begin. Its records lie scattered over the LSNs of its group, so the end is
 * read backwards in windows that grow, each read once and forwards, until N were counted: about what lies between the
 * N-th last record and the end, times the growth, and at most the vchannel once. Memory: N places.
 */
import type { Client, ConsumedRecord } from '../client/types.ts'
import { TidelogError } from '../errors.ts'

const firstWindowLsns = 4096
const windowGrowth = 8

/** Truncation may take the place under the search: it begins again this often. */
const attemptsMax = 5

/** Where a record stands: by the tick it is given with, and in its transaction, whose records all have one. */
export interface RecordPlace {
  timeTick: bigint
  /** So many records of the transaction with this tick stand before it; Infinity: all the others. */
  skip: number
}

/** Whether the record stands before `place`. */
export function isBefore({ timeTick, transaction, position }: ConsumedRecord, place: RecordPlace): boolean {
  if (timeTick !== place.timeTick) return timeTick < place.timeTick
  return transaction !== null && position.skip !== undefined && position.skip <= place.skip
}

/**
 * The place of the N-th last record of `vchannel`, of the first one when there are fewer; null when there is none, or
 * when `count` is 0. Records of the whole group (with an empty vchannel) are counted; with `types` only these.
 */
export async function placeOfLast(
  client: Client,
  vchannel: string,
  count: number,
  options: { types?: readonly number[] | undefined; signal: AbortSignal },
): Promise<RecordPlace | null> {
  if (count === 0) return null
  for (let attempt = 1; ; attempt++) {
    try {
      return await search(client, vchannel, count, options)
    } catch (error) {
      if (!(error instanceof TidelogError) || error.code !== 'POSITION_TRUNCATED' || attempt === attemptsMax)
        throw error
    }
  }
}

async function search(
  client: Client,
  vchannel: string,
  count: number,
  options: { types?: readonly number[] | undefined; signal: AbortSignal },
): Promise<RecordPlace | null> {
  const { signal } = options
  const { group } = await client.vchannel(vchannel, { signal })
  const status = (await client.status({ signal })).groups.find((other) => other.group === group)
  if (!status) throw new TidelogError('VCHANNEL_UNKNOWN', `the daemon has no group ${group} of vchannel ${vchannel}`)
  let wanted = count
  let earliest: RecordPlace | null = null
  let end = status.nextLsn
  let windowLsns = Math.max(firstWindowLsns, 2 * count)
  while (end > status.firstLsn) {
    const begin = Math.max(status.firstLsn, end - windowLsns)
    const last = await lastBetween(client, vchannel, begin, end, wanted, options)
    earliest = last.oldest ?? earliest
    wanted -= last.count
    if (wanted === 0) break
    end = begin
    windowLsns *= windowGrowth
  }
  return earliest
}

/**
 * How many records there are from LSN `begin` to below `end`, at most `wanted`, and the oldest of those last ones. Those of
 * a transaction stand where its commit does.
 */
async function lastBetween(
  client: Client,
  vchannel: string,
  begin: number,
  end: number,
  wanted: number,
  { types, signal }: { types?: readonly number[] | undefined; signal: AbortSignal },
): Promise<{ count: number; oldest: RecordPlace | null }> {
  const ticks = new BigUint64Array(wanted)
  const skips = new Float64Array(wanted)
  let seen = 0
  for await (const record of client.consume(vchannel, { from: { lsn: begin }, untilCaughtUp: true, types, signal })) {
    const { lsn, skip } = record.position
    if ((skip === undefined ? lsn - 1 : lsn) >= end) break
    const at = seen++ % wanted
    ticks[at] = record.timeTick
    skips[at] = record.transaction === null ? 0 : skip === undefined ? Number.POSITIVE_INFINITY : skip - 1
  }
  if (seen === 0) return { count: 0, oldest: null }
  const first = seen < wanted ? 0 : seen % wanted
  return { count: Math.min(seen, wanted), oldest: { timeTick: ticks[first]!, skip: skips[first]! } }
}
