/** Bounds and defaults that client and node share. docs/PROTOCOL.md names the ones that are part of the protocol. */
const KiB = 1024
const MiB = 1024 * KiB

export const PROTOCOL_VERSION_MIN = 2
export const PROTOCOL_VERSION_MAX = 2

/** Lists of sections in a FRAME are the longest metas: 4 bytes for each of 16,000 sections. */
export const META_BYTES_MAX = 64 * KiB
/** Sections of one FRAME: what fits a meta. */
export const SECTIONS_MAX = 16_000
export const BODY_BYTES_MAX = 64 * MiB
export const RECORD_BYTES_MAX = 16 * MiB
export const RECORDS_MAX = 65_536

export const NAME_BYTES_MAX = 255
export const LIST_LIMIT_MAX = 1_000
export const LIST_META_BYTES_MAX = 48 * KiB
export const CONSUME_VCHANNELS_MAX = 1_024
export const CONSUME_TYPES_MAX = 256
/** Producers, by their number in PRODUCE, that one connection may have with frames unanswered or failed. */
export const PRODUCERS_MAX = 16_384
/** Records with an idempotency key in one frame: as many answers fit the meta of PRODUCED. */
export const KEYED_RECORDS_MAX = 2_048
/** The longest that a CONFIRM waits, and how long it waits where it does not say. */
export const CONFIRM_WAIT_MS_MAX = 60_000
export const KEEPALIVE_MS_MAX = 86_400_000

export const HELLO_TIMEOUT_MS = 5_000
/** A message that has begun is complete after this and `slowAllowanceMs` of its length. */
export const MESSAGE_TIMEOUT_MS = 30_000
export const WRITE_STALL_TIMEOUT_MS = 30_000
export const IDLE_TIMEOUT_MS = 60_000

/** What a slow line may take for so many bytes: a second for each 64 KiB. */
export function slowAllowanceMs(bytes: number): number {
  return Math.ceil((bytes * 1000) / (64 * KiB))
}
