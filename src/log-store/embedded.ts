/** A log store over one directory of its own: for a WAL inside an application's process. */
import { type LogOptions, openLog } from '../../native-free-storage/index.ts'
import { LocalLogStore } from './local.ts'
import type { LogStore } from './log-store.ts'

/** Read-only is not among them: a WAL has one owner. */
export type EmbeddedStoreOptions = Omit<LogOptions, 'readOnly' | 'whenFull'>

/** Ticks, prepared files and cache are the log's own unless they are given. Errors as the engine's `openLog`. */
export async function openEmbeddedStore(directory: string, options: EmbeddedStoreOptions = {}): Promise<LogStore> {
  return new LocalLogStore(await openLog(directory, { ...options, readOnly: false, whenFull: 'wait' }), () => {})
}
