/** How callers append to a log. */
import type { Admit } from './pending-frame.ts'

export interface AppendOptions {
  /** The first tick of the append is not below it. */
  barrierTick?: bigint | undefined
  /** Ends a wait for room in the queue. What is in the queue is written. */
  signal?: AbortSignal | undefined
  /**
   * Asked in the turn in which the frame gets its LSNs, when all that entered before it has its own, and as the last
   * question: null means that the frame is placed. An error refuses it, and it takes no LSN. It must not throw, nor
   * call the log.
   */
  admit?: Admit | undefined
}

/** Of records that are encoded here. */
export interface AppendRecordsOptions extends AppendOptions {
  /** Encoded contexts (`encodeContext`), which the records name by their `contextIndex`. */
  contexts?: readonly Uint8Array[] | undefined
  /** A single record shares no frame with others'. So it is with `contexts` and with `admit`, too. */
  ownFrame?: boolean | undefined
}
