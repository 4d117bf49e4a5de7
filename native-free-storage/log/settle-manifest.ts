/** Where a log that was recovered ends, and the manifest that says so. */
import { TidelogError } from '../errors.ts'
import type { ManifestContent } from '../format/manifest.ts'
import type { FoundSegments, FoundTail } from '../recovery/find-tail.ts'
import type { TailFrame } from '../recovery/tail-scan.ts'
import type { ManifestStore } from './manifest-store.ts'

export interface RecoveredEnd {
  nextLsn: number
  lastTimeTick: bigint
}

/** `suffix`: the whole frames behind the last proven one. */
export function recoveredEnd(
  content: ManifestContent,
  found: FoundSegments,
  suffix: readonly TailFrame[],
): RecoveredEnd {
  const { tail } = found
  if (tail === null) return { nextLsn: content.nextLsn, lastTimeTick: content.lastTimeTick }
  const last = suffix[suffix.length - 1]
  return {
    nextLsn: last?.nextLsn ?? tail.proven.nextLsn,
    // Of all valid frames, also those that are cut: a tick that was written is not given again.
    lastTimeTick: tail.end.lastTimeTick,
  }
}

/**
 * What the look at the directory has settled, in one generation: the retired segments are gone, and where nothing has
 * to be copied the tail ends here. So what a writer that was fenced still has under way lands beyond the end, and no
 * record comes to light of which the readers were told that none would come.
 */
export async function settleManifest(
  manifests: ManifestStore,
  tail: FoundTail | null,
  suffix: readonly TailFrame[],
  end: RecoveredEnd,
  stuck: ReadonlySet<string>,
): Promise<void> {
  const { retired, tail: known } = manifests.content
  const { proven, entry } = tail ?? {}
  const isTail = entry === undefined || known?.id === entry.id
  const cuts = proven !== undefined && suffix.length === 0 && !(isTail && known?.closed === true)
  const gone = new Set(retired.flatMap(({ id }) => (stuck.has(id) ? [] : [id])))
  if (!cuts && gone.size === 0) return
  try {
    await manifests.publish((content) => {
      const rest = { ...content, retired: content.retired.filter(({ id }) => !gone.has(id)) }
      if (!cuts) return rest
      const { position, chain, nextLsn } = proven
      const closed = { id: entry!.id, baseLsn: entry!.baseLsn, syncedPosition: position, chain, closed: true }
      return { ...rest, tail: closed, nextLsn, lastTimeTick: end.lastTimeTick }
    })
  } catch (error) {
    // A full disk can be opened: the next generation says it.
    if (!(error instanceof TidelogError && error.code === 'DISK_FULL')) throw error
  }
}
