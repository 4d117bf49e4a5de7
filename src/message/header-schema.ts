/**
 * The fields of the typed headers, spelled as in Milvus's `messages.proto`, and those of our own records. Numbers of 64
 * bits are exact: a number where it is safe, else a bigint.
 */
import { MessageType } from './message-type.ts'

export type ScalarKind = 'int64' | 'uint64' | 'int32' | 'bool' | 'string' | 'bytes'

export interface FieldSchema {
  readonly kind: ScalarKind | HeaderSchema
  readonly repeated?: true
}

export interface HeaderSchema {
  readonly [field: string]: FieldSchema
}

const int64: FieldSchema = { kind: 'int64' }
const uint64: FieldSchema = { kind: 'uint64' }
const int32: FieldSchema = { kind: 'int32' }
const bool: FieldSchema = { kind: 'bool' }
const string: FieldSchema = { kind: 'string' }
const int64s: FieldSchema = { kind: 'int64', repeated: true }
const strings: FieldSchema = { kind: 'string', repeated: true }

const segmentAssignment: HeaderSchema = { segment_id: int64 }
const partitionSegmentAssignment: HeaderSchema = {
  partition_id: int64,
  rows: uint64,
  binary_size: uint64,
  segment_assignment: { kind: segmentAssignment },
}
const legacyProxyCollectionMetaCache: HeaderSchema = {
  db_name: string,
  collection_name: string,
  collection_id: int64,
  partition_name: string,
  msg_type: int32,
}
const cacheExpirations: HeaderSchema = {
  cache_expirations: {
    kind: { legacy_proxy_collection_meta_cache: { kind: legacyProxyCollectionMetaCache } },
    repeated: true,
  },
}
const collectionAndPartition: HeaderSchema = { collection_id: int64, partition_id: int64 }
const nothing: HeaderSchema = {}

/** A type that is not here has no typed header: what it brings passes through untouched. */
export const headerSchemas: ReadonlyMap<number, HeaderSchema> = new Map<number, HeaderSchema>([
  [MessageType.timeTick, nothing],
  [
    MessageType.insert,
    { collection_id: int64, partitions: { kind: partitionSegmentAssignment, repeated: true }, schema_version: int32 },
  ],
  [MessageType.delete, { collection_id: int64, rows: uint64 }],
  [MessageType.flush, { collection_id: int64, partition_id: int64, segment_id: int64 }],
  [MessageType.createCollection, { collection_id: int64, partition_ids: int64s, db_id: int64 }],
  [MessageType.dropCollection, { collection_id: int64, db_id: int64 }],
  [MessageType.createPartition, collectionAndPartition],
  [MessageType.dropPartition, collectionAndPartition],
  [MessageType.manualFlush, { collection_id: int64, flush_ts: uint64, segment_ids: int64s }],
  [
    MessageType.createSegment,
    {
      collection_id: int64,
      partition_id: int64,
      segment_id: int64,
      storage_version: int64,
      max_segment_size: uint64,
      max_rows: uint64,
      level: int32,
      schema_version: int32,
    },
  ],
  [MessageType.import, nothing],
  [MessageType.schemaChange, { collection_id: int64, flushed_segment_ids: int64s }],
  [
    MessageType.alterCollection,
    {
      db_id: int64,
      collection_id: int64,
      update_mask: { kind: { paths: strings } },
      cache_expirations: { kind: cacheExpirations },
      flushed_segment_ids: int64s,
      dropped_field_ids: int64s,
    },
  ],
  [MessageType.flushAll, nothing],
  [MessageType.truncateCollection, { db_id: int64, collection_id: int64, segment_ids: int64s }],
  // Ours: `begin` is the LSN of the transaction's begin, `hash` what folds the LSNs of its records, `all` every open one.
  [MessageType.beginTxn, { keepalive_milliseconds: int64 }],
  [MessageType.commitTxn, { begin: int64, bodies: uint64, hash: uint64 }],
  [MessageType.rollbackTxn, { begin: int64, all: bool, expired: bool }],
  [MessageType.producerEpoch, { name: string, epoch: uint64, producer: int64 }],
])
