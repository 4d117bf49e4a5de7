/** A write-ahead log in a directory of its own, inside the application's process: the entry `tidelog/wal`. */
import { type EmbeddedStoreOptions, openEmbeddedStore } from '../log-store/embedded.ts'
import { Wal, type WalOptions } from './wal.ts'

/** Those of the log (durability, sizes, retention, recovery) and those of the WAL on it. */
export interface OpenWalOptions extends EmbeddedStoreOptions, Omit<WalOptions, 'name' | 'clock'> {}

/**
 * Opens the WAL in `directory`, or begins one: takes the directory for this process (LOCKED), finds the log's end,
 * rebuilds the state, and rolls back the transactions that its last owner left open.
 *
 * Errors as the engine's `openLog`, and INVALID_ARGUMENT.
 */
export async function openWal(directory: string, options: OpenWalOptions = {}): Promise<Wal> {
  const store = await openEmbeddedStore(directory, options)
  try {
    return await Wal.open(store, { ...options, clock: options.environment?.clock, name: `the WAL in ${directory}` })
  } catch (error) {
    await store.close().catch(() => {})
    throw error
  }
}
