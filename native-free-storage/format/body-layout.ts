/**
 * The parts of the body of a records frame (FORMAT 3.3): head (body header, directory, names, contexts, table), then
 * the sections.
 *
 * Body header:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | head length, a multiple of 8 |
 * | 4 | 4 | record count |
 * | 8 | 4 | vchannel count |
 * | 12 | 4 | length of the names, with padding |
 * | 16 | 4 | length of the contexts, with padding |
 * | 20 | 2 | context count |
 * | 22 | 2 | row stride |
 * | 24 | 4 | length of the sections, with padding |
 * | 28 | 4 | column bits |
 *
 * Directory entry, one a vchannel:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | section hash, 0 when the stored length is 0 |
 * | 8 | 4 | section offset |
 * | 12 | 4 | stored length |
 * | 16 | 4 | raw length |
 * | 20 | 4 | records |
 * | 24 | 1 | codec |
 * | 25 | 1 | encryption |
 * | 26 | 2 | flags |
 * | 28 | 4 | key id |
 *
 * Row of the table, one a record:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 4 | payload length |
 * | 4 | 4 | properties length |
 * | 8 | 2 | vchannel index |
 * | 10 | 2 | context index + 1, 0: none |
 * | 12 | 2 | type |
 * | 14 | 2 | flags |
 */
export const BODY_HEADER_BYTES = 32
export const DIRECTORY_ENTRY_BYTES = 32
export const ROW_BYTES = 16

export const HEAD_LENGTH = 0
export const RECORD_COUNT = 4
export const VCHANNEL_COUNT = 8
export const NAMES_LENGTH = 12
export const CONTEXTS_LENGTH = 16
export const CONTEXT_COUNT = 20
export const ROW_STRIDE = 22
export const SECTIONS_LENGTH = 24
export const COLUMN_BITS = 28

export const ENTRY_HASH = 0
export const ENTRY_OFFSET = 8
export const ENTRY_STORED_LENGTH = 12
export const ENTRY_RAW_LENGTH = 16
export const ENTRY_RECORDS = 20
export const ENTRY_CODEC = 24
export const ENTRY_ENCRYPTION = 25
export const ENTRY_FLAGS = 26
export const ENTRY_KEY_ID = 28

export const ROW_PAYLOAD_LENGTH = 0
export const ROW_PROPERTIES_LENGTH = 4
export const ROW_VCHANNEL = 8
export const ROW_CONTEXT = 10
export const ROW_TYPE = 12
export const ROW_FLAGS = 14

export const ROW_FLAG_NULL_PAYLOAD = 1

/** Leaves a frame of the longest kind room for its node section and padding. */
export const BODY_BYTES_MAX = 384 * 1024 * 1024
/** The head of a body is never longer: the bound for what a reader allocates for a head alone. */
export const BODY_HEAD_BYTES_MAX = 64 * 1024 * 1024
export const CONTEXTS_BYTES_MAX = 16 * 1024 * 1024
export const CONTEXTS_MAX = 65_535
export const VCHANNEL_NAME_BYTES_MAX = 255
