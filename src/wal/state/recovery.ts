/** What a WAL's state is when its log is opened: the newest snapshot that fits, and the records behind it. */
import type { LogStore } from '../../log-store/log-store.ts'
import type { KeyWindow } from '../deduplication/key-table.ts'
import { effectsOfFrame } from '../effects-of.ts'
import { WalState } from './wal-state.ts'

/** Without a snapshot no more than this is read back: the state of a longer log is lost, and says so. */
export const REPLAY_BYTES_MAX = 256 * 1024 * 1024

export interface RecoveredState {
  readonly state: WalState
  /** LSNs of the snapshots that are there, newest first. */
  readonly snapshots: readonly number[]
  /**
   * What was written before is not known: every transaction that may be open has to be ended, and no key of before is known
   * until a record has said when that was. A log that was just opened may have no tick to give.
   */
  readonly isLost: boolean
  /** Frames that were read behind the snapshot. */
  readonly replayedFrames: number
}

export interface RecoveryOptions {
  keyWindow: Readonly<KeyWindow>
  replayBytesMax?: number | undefined
  signal?: AbortSignal | undefined
}

/** Errors: what reading the log gives. */
export async function recoverState(store: LogStore, options: RecoveryOptions): Promise<RecoveredState> {
  const { keyWindow, replayBytesMax = REPLAY_BYTES_MAX, signal } = options
  const found = await store.snapshots.load()
  const snapshots = found.map(({ lsn }) => lsn)
  for (const { lsn, bytes } of found) {
    let state: WalState
    try {
      state = WalState.decode(bytes, keyWindow)
    } catch {
      // Of a later version, or not ours: the older one, or the records themselves.
      snapshots.shift()
      continue
    }
    const replayedFrames = await replay(store, state, lsn, signal)
    return { state, snapshots, isLost: false, replayedFrames }
  }
  const { firstLsn, nextLsn } = store
  if (firstLsn === 0 && store.status().bytes <= replayBytesMax) {
    const state = WalState.empty(keyWindow)
    const replayedFrames = await replay(store, state, 0, signal)
    return { state, snapshots: [], isLost: false, replayedFrames }
  }
  const isLost = nextLsn > 0
  const state = isLost ? WalState.lost(nextLsn, store.watermark(), keyWindow) : WalState.empty(keyWindow)
  return { state, snapshots: [], isLost, replayedFrames: 0 }
}

async function replay(store: LogStore, state: WalState, lsn: number, signal: AbortSignal | undefined): Promise<number> {
  let frames = 0
  for await (const frame of store.read(signal === undefined ? { from: { lsn } } : { from: { lsn }, signal })) {
    frames++
    const effects = effectsOfFrame(frame)
    if (effects.length > 0) state.apply(effects, frame.baseLsn, frame.baseTimeTick)
  }
  return frames
}
