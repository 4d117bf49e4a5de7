/**
 * Whether the log is still this writer's: asked before each acknowledgement, since a newer owner, or one who removed the
 * directory, can have come while the write was under way.
 */
import type { TidelogError } from '../errors.ts'
import { asFailure, directoryGone, fencedAway, isGone } from './append-errors.ts'
import type { ManifestStore } from './manifest-store.ts'
import type { WriterSettings } from './writer-start.ts'

export class OwnerCheck {
  readonly #settings: WriterSettings
  readonly #manifests: ManifestStore

  constructor(settings: WriterSettings, manifests: ManifestStore) {
    this.#settings = settings
    this.#manifests = manifests
  }

  /** Null: it is. An error: it is not, or cannot be looked up. Undefined: not known while a manifest is being published. */
  overtaken(): TidelogError | null | undefined {
    const { environment, directory } = this.#settings
    let newest: boolean | undefined
    try {
      newest = this.#manifests.isNewest()
    } catch (error) {
      return asFailure(error, directory)
    }
    if (newest === undefined) return undefined
    if (newest) return null
    return isGone(environment.disk, directory) ? directoryGone(directory) : fencedAway(directory)
  }

  /** Settles when the manifest that was being published has its name, or has failed. */
  known(): Promise<void> {
    return this.#manifests.linked()
  }
}
