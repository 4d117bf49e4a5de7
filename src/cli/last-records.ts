/**
 * Where the last N records of a vchannel begin. Its records lie scattered over the LSNs of its group, so the end is
 * read backwards in windows that grow, each read once and forwards, until N were counted: about what lies between the
 * N-th last record and the end, times the growth, and at most the vchannel once. Memory: N ticks.
 */
import type { Client } from '../client/types.ts'
import { TidelogError } from '../errors.ts'

const firstWindowLsns = 4096
const windowGrowth = 8

/** Truncation may take the place under the search: it begins again this often. */
const attemptsMax = 5

/**
 * The tick of the N-th last record of `vchannel`, of the first one when there are fewer; null when there is none, or
 * when `count` is 0. Records of the whole group (with an empty vchannel) are counted.
 */
export async function tickOfLast(
  client: Client,
  vchannel: string,
  count: number,
  signal: AbortSignal,
): Promise<bigint | null> {
  if (count === 0) return null
  for (let attempt = 1; ; attempt++) {
    try {
      return await search(client, vchannel, count, signal)
    } catch (error) {
      if (!(error instanceof TidelogError) || error.code !== 'POSITION_TRUNCATED' || attempt === attemptsMax)
        throw error
    }
  }
}

async function search(client: Client, vchannel: string, count: number, signal: AbortSignal): Promise<bigint | null> {
  const { group } = await client.vchannel(vchannel, { signal })
  const status = (await client.status({ signal })).groups.find((other) => other.group === group)
  if (!status) throw new TidelogError('VCHANNEL_UNKNOWN', `the daemon has no group ${group} of vchannel ${vchannel}`)
  let wanted = count
  let earliest: bigint | null = null
  let end = status.nextLsn
  let windowLsns = Math.max(firstWindowLsns, 2 * count)
  while (end > status.firstLsn) {
    const begin = Math.max(status.firstLsn, end - windowLsns)
    const ticks = await lastTicksBetween(client, vchannel, begin, end, wanted, signal)
    earliest = ticks.oldest ?? earliest
    wanted -= ticks.count
    if (wanted === 0) break
    end = begin
    windowLsns *= windowGrowth
  }
  return earliest
}

/** How many records there are from LSN `begin` to below `end`, at most `wanted`, and the oldest of those last ones. */
async function lastTicksBetween(
  client: Client,
  vchannel: string,
  begin: number,
  end: number,
  wanted: number,
  signal: AbortSignal,
): Promise<{ count: number; oldest: bigint | null }> {
  const ring = new BigUint64Array(wanted)
  let seen = 0
  for await (const record of client.consume(vchannel, { from: { lsn: begin }, untilCaughtUp: true, signal })) {
    if (record.lsn >= end) break
    ring[seen++ % wanted] = record.timeTick
  }
  if (seen === 0) return { count: 0, oldest: null }
  return seen < wanted ? { count: seen, oldest: ring[0]! } : { count: wanted, oldest: ring[seen % wanted]! }
}
