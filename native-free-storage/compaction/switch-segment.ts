/**
 * Puts a rewritten segment in the place of the old one. One manifest decides; a crash before it leaves the old segment,
 * one after it the new one, and the next open removes the other. docs/decisions/0008.
 *
 * 1. A manifest says of the new file, which has a temporary name, that it is retired: an open that finds it takes it for
 *    nothing.
 * 2. Only then it gets its name; that it does not appear behind the back of a new owner is asked for just before.
 * 3. The next manifest retires the old file instead of the new one.
 * 4. The old file is removed, and then its name from the manifest.
 */
import { isDiskError } from '../disk/disk.ts'
import { TidelogError } from '../errors.ts'
import type { SegmentName } from '../format/file-names.ts'
import type { ManifestContent } from '../format/manifest.ts'
import type { ManifestStore } from '../log/manifest-store.ts'
import { indexNameOf } from '../segment/index-file.ts'
import type { RewrittenSegment } from '../segment/rewrite-segment.ts'
import type { SegmentReference } from '../segment/segment-file.ts'
import type { CompactionLog } from './segment-compaction.ts'

export class SegmentSwitch {
  readonly #log: CompactionLog
  readonly #manifests: ManifestStore
  readonly #old: SegmentReference
  readonly #made: RewrittenSegment

  constructor(log: CompactionLog, manifests: ManifestStore, old: SegmentReference, made: RewrittenSegment) {
    this.#log = log
    this.#manifests = manifests
    this.#old = old
    this.#made = made
  }

  /**
   * Steps 1 to 3. The caller keeps truncations away meanwhile, and has looked that the old segment is in the log. Throws
   * FENCED, DISK_FULL (the log is as it was), IO_FAILED.
   */
  async switch(): Promise<void> {
    const { disk } = this.#log.environment
    const { directory } = this.#log
    const { name, temporaryName } = this.#made
    try {
      await this.#manifests.publish((content) => ({ ...content, retired: [...content.retired, retiredOf(this.#made)] }))
      if (!(await this.#manifests.confirmNewest())) {
        throw new TidelogError('FENCED', `another process has opened the log in ${directory}`)
      }
      await disk.rename(`${directory}/${temporaryName}`, `${directory}/${name}`)
      await disk.syncDirectory(directory)
      await this.#manifests.publish((content) => this.#switched(content))
    } catch (error) {
      await this.#takeBack()
      throw error
    }
  }

  /** Step 4. What cannot be removed now is removed by the next open. Throws as a manifest's publication does. */
  async removeOld(): Promise<void> {
    const { name, id } = this.#old
    const isGone = await remove(this.#log, [name, indexNameOf(name)])
    await this.#log.environment.disk.syncDirectory(this.#log.directory)
    // It stands in the middle of the log: while its file is there, the manifest has to say that it is none of it.
    if (isGone) await this.#forget(id)
  }

  /** Removes what was made, when it is certain that no manifest names it. */
  async #takeBack(): Promise<void> {
    if (this.#manifests.isDoubtful) return
    // Its name does no harm in the list: the next open takes it out.
    if (await dropRewritten(this.#log, this.#made)) await this.#forget(this.#made.id).catch(() => {})
  }

  async #forget(id: string): Promise<void> {
    if (!this.#manifests.content.retired.some((retired) => retired.id === id)) return
    await this.#manifests.publish((content) => ({
      ...content,
      retired: content.retired.filter((retired) => retired.id !== id),
    }))
  }

  #switched(content: ManifestContent): ManifestContent {
    const made = retiredOf(this.#made)
    return {
      ...content,
      firstSegment: content.firstSegment?.id === this.#old.id ? made : content.firstSegment,
      retired: [...content.retired.filter(({ id }) => id !== made.id), retiredOf(this.#old)],
    }
  }
}

/** Removes what no manifest names. False: something of it may still be there. */
export async function dropRewritten(log: CompactionLog, made: RewrittenSegment): Promise<boolean> {
  const { name, temporaryName } = made
  return await remove(log, [temporaryName, name, indexNameOf(name)])
}

async function remove({ environment, directory }: CompactionLog, files: readonly string[]): Promise<boolean> {
  let isGone = true
  for (const file of files) {
    await environment.disk.unlink(`${directory}/${file}`).catch((error: unknown) => {
      if (!isDiskError(error, 'ENOENT')) isGone = false
    })
  }
  return isGone
}

function retiredOf({ id, baseLsn }: Pick<SegmentReference, 'id' | 'baseLsn'>): SegmentName {
  return { id, baseLsn }
}
