/** What the readers of a log see when it has just been opened: its segments, and what of its tail is proven. */
import type { CacheBudget } from '../cache/frame-cache.ts'
import type { Environment } from '../environment.ts'
import type { ManifestContent } from '../format/manifest.ts'
import type { FoundSegments } from '../recovery/find-tail.ts'
import { LogState } from './log-state.ts'

export function stateOf(
  environment: Environment,
  directory: string,
  content: ManifestContent,
  { entries, tail }: FoundSegments,
  cache: CacheBudget,
): LogState {
  const state = new LogState(environment, directory, content, cache)
  state.setSegments(entries)
  state.setFirstLsn(content.firstLsn)
  if (tail === null) state.setDurableEnd(null, content.nextLsn)
  else {
    const { position, nextLsn, lastTimeTick } = tail.proven
    state.setDurableEnd({ segment: tail.entry, position, nextLsn, lastTimeTick }, nextLsn)
  }
  return state
}
