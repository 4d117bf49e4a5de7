/** What a writer counts. */
export interface WriterStatistics {
  appendedRecords: number
  /** That hold records. */
  appendedFrames: number
  appendedBytes: number
  flushes: number
  rolls: number
  cuts: number
  /** Milliseconds that the flushes took together: divided by `flushes` the mean. */
  flushMs: number
  waitingBytes: number
  heldBytes: number
  inFlight: number
}

/** Of a log without a writer. */
export const emptyStatistics: Readonly<WriterStatistics> = {
  appendedRecords: 0,
  appendedFrames: 0,
  appendedBytes: 0,
  flushes: 0,
  rolls: 0,
  cuts: 0,
  flushMs: 0,
  waitingBytes: 0,
  heldBytes: 0,
  inFlight: 0,
}
