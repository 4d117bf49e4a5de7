/**
 * The typed headers as interfaces, in the spelling of header-schema.ts. A number of 64 bits is a number where it is safe,
 * else a bigint; both are taken. What was left out in writing is left out in reading.
 */
import type { MessageType } from './message-type.ts'

export type Integer64 = number | bigint

export interface InsertHeader {
  collection_id?: Integer64
  partitions?: PartitionSegmentAssignment[]
  schema_version?: number
}

export interface PartitionSegmentAssignment {
  partition_id?: Integer64
  rows?: Integer64
  binary_size?: Integer64
  segment_assignment?: { segment_id?: Integer64 }
}

export interface DeleteHeader {
  collection_id?: Integer64
  rows?: Integer64
}

export interface FlushHeader {
  collection_id?: Integer64
  partition_id?: Integer64
  segment_id?: Integer64
}

export interface CreateSegmentHeader extends FlushHeader {
  storage_version?: Integer64
  max_segment_size?: Integer64
  max_rows?: Integer64
  /** Milvus's SegmentLevel: 0 legacy, 1 L0, 2 L1, 3 L2. */
  level?: number
  schema_version?: number
}

export interface ManualFlushHeader {
  collection_id?: Integer64
  /** A tick. */
  flush_ts?: Integer64
  segment_ids?: Integer64[]
}

export interface CreateCollectionHeader {
  collection_id?: Integer64
  partition_ids?: Integer64[]
  db_id?: Integer64
}

export interface DropCollectionHeader {
  collection_id?: Integer64
  db_id?: Integer64
}

export interface PartitionHeader {
  collection_id?: Integer64
  partition_id?: Integer64
}

export interface SchemaChangeHeader {
  collection_id?: Integer64
  flushed_segment_ids?: Integer64[]
}

export interface AlterCollectionHeader extends SchemaChangeHeader {
  db_id?: Integer64
  update_mask?: { paths?: string[] }
  cache_expirations?: { cache_expirations?: { legacy_proxy_collection_meta_cache?: LegacyProxyCollectionMetaCache }[] }
  dropped_field_ids?: Integer64[]
}

export interface LegacyProxyCollectionMetaCache {
  db_name?: string
  collection_name?: string
  collection_id?: Integer64
  partition_name?: string
  /** Milvus's MsgType. */
  msg_type?: number
}

export interface TruncateCollectionHeader {
  db_id?: Integer64
  collection_id?: Integer64
  segment_ids?: Integer64[]
}

export interface BeginTxnHeader {
  keepalive_milliseconds: Integer64
}

/** `bodies`: how many records the transaction has; `hash` folds their LSNs. */
export interface CommitTxnHeader {
  begin: Integer64
  bodies: Integer64
  hash: Integer64
}

/** `all`, on the empty vchannel: every transaction that is open in the pchannel. */
export type RollbackTxnHeader = { begin: Integer64 } | { all: true }

/** `producer` is left out in the first epoch: the record's LSN becomes the producer's number. */
export interface ProducerEpochHeader {
  name: string
  epoch: Integer64
  producer?: Integer64
}

/** An empty header. */
export type NoFields = Record<string, never>

/** By the number of the type. */
export interface MessageHeaders {
  [MessageType.timeTick]: NoFields
  [MessageType.insert]: InsertHeader
  [MessageType.delete]: DeleteHeader
  [MessageType.flush]: FlushHeader
  [MessageType.createCollection]: CreateCollectionHeader
  [MessageType.dropCollection]: DropCollectionHeader
  [MessageType.createPartition]: PartitionHeader
  [MessageType.dropPartition]: PartitionHeader
  [MessageType.manualFlush]: ManualFlushHeader
  [MessageType.createSegment]: CreateSegmentHeader
  [MessageType.import]: NoFields
  [MessageType.schemaChange]: SchemaChangeHeader
  [MessageType.alterCollection]: AlterCollectionHeader
  [MessageType.flushAll]: NoFields
  [MessageType.truncateCollection]: TruncateCollectionHeader
  [MessageType.beginTxn]: BeginTxnHeader
  [MessageType.commitTxn]: CommitTxnHeader
  [MessageType.rollbackTxn]: RollbackTxnHeader
  [MessageType.producerEpoch]: ProducerEpochHeader
}
