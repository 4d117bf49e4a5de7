/** How large the files of a log are made: the first one small, each next one double, up to the full size. */

export const FIRST_SEGMENT_BYTES = 1024 * 1024
export const DEFAULT_SEGMENT_BYTES = 64 * 1024 * 1024
/** Room for the header, the smallest flush and the seal. */
export const SEGMENT_BYTES_MIN = 8 * 1024
export const SEGMENT_BYTES_MAX = 1024 * 1024 * 1024

/** The size of the file after one of `lastBytes` (0: there is none yet). */
export function nextSegmentBytes(lastBytes: number, fullBytes: number): number {
  if (lastBytes === 0) return Math.min(FIRST_SEGMENT_BYTES, fullBytes)
  return Math.min(lastBytes * 2, fullBytes)
}

export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}
