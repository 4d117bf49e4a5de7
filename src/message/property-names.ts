/** Names of properties that begin with `_` belong to the node. */

/** The typed header, encoded (message-header.ts). Set through `header`, never by a caller's own property. */
export const HEADER_PROPERTY = '_h'
/** The idempotency key of the record, 1 to 256 bytes of UTF-8. */
export const KEY_PROPERTY = '_ik'

export const KEY_BYTES_MAX = 256

export function isReservedName(name: string): boolean {
  return name.charCodeAt(0) === 95
}
