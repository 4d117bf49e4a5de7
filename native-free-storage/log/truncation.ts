/**
 * Truncation from the front: what nobody needs any more. The manifest says so first, then readers are refused it, then the
 * files go.
 */
import { isDiskError } from '../disk/disk.ts'
import { indexNameOf } from '../segment/index-file.ts'
import type { LogState } from './log-state.ts'
import type { SegmentEntry } from './log-view.ts'
import type { ManifestStore } from './manifest-store.ts'

/** Segments that one manifest retires. */
const RETIRED_MAX = 4_096

export class Truncation {
  readonly #state: LogState
  readonly #manifests: ManifestStore
  #running: Promise<void> = Promise.resolve()
  /** Somebody above needs what is at it and above. */
  floor: ((lsn: number) => number) | null = null

  constructor(state: LogState, manifests: ManifestStore) {
    this.#state = state
    this.#manifests = manifests
  }

  /** What changes the list of segments behind the writer's back, one after the other. */
  alone<T>(step: () => Promise<T>): Promise<T> {
    const run = this.#running.then(step)
    this.#running = run.then(
      () => {},
      () => {},
    )
    return run
  }

  /** Settles when nothing is under way. Never rejects. */
  settled(): Promise<void> {
    return this.#running
  }

  /** Nothing below `lsn` is needed any more. Idempotent. Errors of the disk and of the manifests. */
  before(lsn: number): Promise<void> {
    return this.alone(() => this.#truncate(lsn))
  }

  async #truncate(asked: number): Promise<void> {
    const manifests = this.#manifests
    const lsn = this.floor === null ? asked : Math.min(asked, this.floor(asked))
    if (lsn <= this.#state.firstLsn) return
    while (true) {
      await manifests.settled()
      const { segments } = this.#state
      // The segment that the manifest names as the tail stays, although a roll has left it: when its change of the manifest
      // has failed (a full disk delays it), the next open begins there. The last segment stays: numbering goes on behind it.
      const tailId = manifests.content.tail?.id
      const mayGo = ({ id }: SegmentEntry, next: SegmentEntry | undefined): boolean =>
        id !== tailId && next !== undefined && next.baseLsn <= lsn
      let gone = 0
      while (gone < RETIRED_MAX && gone < segments.length && mayGo(segments[gone]!, segments[gone + 1])) gone++
      const retired = segments.slice(0, gone).map(({ id, baseLsn }) => ({ id, baseLsn }))
      const first = segments[gone]
      await manifests.publish((content) => ({
        ...content,
        firstLsn: Math.max(content.firstLsn, lsn),
        firstSegment: first === undefined ? content.firstSegment : { id: first.id, baseLsn: first.baseLsn },
        retired: [...content.retired, ...retired],
      }))
      const removed = new Set(segments.slice(0, gone))
      this.#state.setFirstLsn(lsn)
      this.#state.setSegments(this.#state.segments.filter((segment) => !removed.has(segment)))
      this.#state.announce()
      if (removed.size === 0) return
      const unlinked = await this.#unlinkRetired([...removed])
      await manifests.publish((content) => {
        return { ...content, retired: content.retired.filter(({ id }) => !unlinked.has(id)) }
      })
      if (gone < RETIRED_MAX) return
    }
  }

  /** Returns the ids of those whose files are gone. What cannot be removed stays retired: the next open tries again. */
  async #unlinkRetired(segments: readonly SegmentEntry[]): Promise<ReadonlySet<string>> {
    const { directory, environment } = this.#state
    const { disk } = environment
    const unlinked = new Set<string>()
    for (const { id, name } of segments) {
      await disk.unlink(`${directory}/${indexNameOf(name)}`).catch(() => {})
      await disk.unlink(`${directory}/${name}`).then(
        () => unlinked.add(id),
        (error: unknown) => {
          if (isDiskError(error, 'ENOENT')) unlinked.add(id)
        },
      )
    }
    await disk.syncDirectory(directory)
    return unlinked
  }
}
