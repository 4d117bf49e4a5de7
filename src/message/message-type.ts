/**
 * The types of messages: Milvus's numbers, which mean here what they mean there, and our own (16,384 to 32,767) for
 * what the node writes about producers. 32,768 and up are free for users.
 *
 * Source: the enum MessageType of Milvus's `messages.proto`, and its tables of message properties.
 */

export const MessageType = {
  application: 0,
  timeTick: 1,
  insert: 2,
  delete: 3,
  flush: 4,
  createCollection: 5,
  dropCollection: 6,
  createPartition: 7,
  dropPartition: 8,
  manualFlush: 9,
  createSegment: 10,
  import: 11,
  schemaChange: 12,
  alterCollection: 13,
  alterLoadConfig: 14,
  dropLoadConfig: 15,
  createDatabase: 16,
  alterDatabase: 17,
  dropDatabase: 18,
  alterAlias: 19,
  dropAlias: 20,
  restoreRbac: 21,
  alterUser: 22,
  dropUser: 23,
  alterRole: 24,
  dropRole: 25,
  alterUserRole: 26,
  dropUserRole: 27,
  alterPrivilege: 28,
  dropPrivilege: 29,
  alterPrivilegeGroup: 30,
  dropPrivilegeGroup: 31,
  alterResourceGroup: 32,
  dropResourceGroup: 33,
  createIndex: 34,
  alterIndex: 35,
  dropIndex: 36,
  flushAll: 37,
  truncateCollection: 38,
  alterWal: 700,
  alterReplicateConfig: 800,
  beginTxn: 900,
  commitTxn: 901,
  rollbackTxn: 902,
  txn: 999,
  /** Ours: an epoch of a producer begins. */
  producerEpoch: 16_384,
} as const

export interface MessageTypeInfo {
  readonly type: number
  /** As Milvus spells it: `CreateCollection`. */
  readonly name: string
  /** The version of its form (`_v`). */
  readonly version: 1 | 2
  /** Stands in a log. Txn is what readers make of a transaction. */
  readonly persisted: boolean
  /** Belongs to the log itself: never delivered as a message, never hidden from those who assemble transactions. */
  readonly system: boolean
  /** Written by the node alone. */
  readonly selfControlled: boolean
  /** Taken with its vchannel (or pchannel) to itself; ends the transactions that are open there. */
  readonly exclusive: boolean
  /** Its payload may be encrypted. */
  readonly cipherable: boolean
}

interface Flags {
  version?: 1 | 2
  persisted?: false
  system?: true
  selfControlled?: true
  exclusive?: true
  cipherable?: true
}

const T = MessageType

function info(type: number, name: string, flags: Flags = {}): MessageTypeInfo {
  const { version = 2, persisted = true, system = false, selfControlled = false, exclusive = false } = flags
  return { type, name, version, persisted, system, selfControlled, exclusive, cipherable: flags.cipherable ?? false }
}

/** In the order of their numbers. 0 is not among them: an application's record is no message of Milvus. */
export const messageTypes: readonly MessageTypeInfo[] = [
  info(T.timeTick, 'TimeTick', { version: 1, system: true, selfControlled: true }),
  info(T.insert, 'Insert', { version: 1, cipherable: true }),
  info(T.delete, 'Delete', { version: 1, cipherable: true }),
  info(T.flush, 'Flush', { selfControlled: true }),
  info(T.createCollection, 'CreateCollection', { version: 1, exclusive: true }),
  info(T.dropCollection, 'DropCollection', { version: 1, exclusive: true }),
  info(T.createPartition, 'CreatePartition', { version: 1, exclusive: true }),
  info(T.dropPartition, 'DropPartition', { version: 1, exclusive: true }),
  info(T.manualFlush, 'ManualFlush', { exclusive: true }),
  info(T.createSegment, 'CreateSegment', { selfControlled: true }),
  info(T.import, 'Import', { version: 1 }),
  info(T.schemaChange, 'SchemaChange', { exclusive: true }),
  info(T.alterCollection, 'AlterCollection', { exclusive: true }),
  info(T.alterLoadConfig, 'AlterLoadConfig'),
  info(T.dropLoadConfig, 'DropLoadConfig'),
  info(T.createDatabase, 'CreateDatabase'),
  info(T.alterDatabase, 'AlterDatabase'),
  info(T.dropDatabase, 'DropDatabase'),
  info(T.alterAlias, 'AlterAlias'),
  info(T.dropAlias, 'DropAlias'),
  info(T.restoreRbac, 'RestoreRBAC'),
  info(T.alterUser, 'AlterUser'),
  info(T.dropUser, 'DropUser'),
  info(T.alterRole, 'AlterRole'),
  info(T.dropRole, 'DropRole'),
  info(T.alterUserRole, 'AlterUserRole'),
  info(T.dropUserRole, 'DropUserRole'),
  info(T.alterPrivilege, 'AlterPrivilege'),
  info(T.dropPrivilege, 'DropPrivilege'),
  info(T.alterPrivilegeGroup, 'AlterPrivilegeGroup'),
  info(T.dropPrivilegeGroup, 'DropPrivilegeGroup'),
  info(T.alterResourceGroup, 'AlterResourceGroup'),
  info(T.dropResourceGroup, 'DropResourceGroup'),
  info(T.createIndex, 'CreateIndex'),
  info(T.alterIndex, 'AlterIndex'),
  info(T.dropIndex, 'DropIndex'),
  info(T.flushAll, 'FlushAll', { exclusive: true }),
  info(T.truncateCollection, 'TruncateCollection'),
  info(T.alterWal, 'AlterWAL', { exclusive: true }),
  info(T.alterReplicateConfig, 'AlterReplicateConfig', { exclusive: true }),
  info(T.beginTxn, 'BeginTxn', { system: true }),
  info(T.commitTxn, 'CommitTxn', { system: true }),
  info(T.rollbackTxn, 'RollbackTxn', { system: true }),
  info(T.txn, 'Txn', { system: true, persisted: false }),
  info(T.producerEpoch, 'ProducerEpoch', { system: true, selfControlled: true }),
]

const byType = new Map(messageTypes.map((entry) => [entry.type, entry]))

/** Undefined for 0, for users' own types, and for what a later Milvus brings: those pass through as they are. */
export function messageTypeInfo(type: number): MessageTypeInfo | undefined {
  return byType.get(type)
}

const EXCLUSIVE: ReadonlySet<number> = new Set(
  messageTypes.filter(({ exclusive }) => exclusive).map(({ type }) => type),
)
const HIDDEN: ReadonlySet<number> = new Set(messageTypes.filter(({ system }) => system).map(({ type }) => type))

/** Types that end the transactions that are open on their vchannel. */
export const exclusiveTypes: ReadonlySet<number> = EXCLUSIVE

export function isExclusive(type: number): boolean {
  return type !== 0 && EXCLUSIVE.has(type)
}

const WHOLE_PCHANNEL: ReadonlySet<number> = new Set([T.flushAll, T.alterWal, T.alterReplicateConfig])

/**
 * The vchannel that an exclusive message takes: its own; the empty name, the whole pchannel, for one without a vchannel
 * and for FlushAll, AlterWAL and AlterReplicateConfig on whichever vchannel they stand.
 */
export function exclusiveScope(type: number, vchannel: string): string {
  return WHOLE_PCHANNEL.has(type) ? '' : vchannel
}

/** Never delivered as a message. */
export function isSystemType(type: number): boolean {
  return type !== 0 && HIDDEN.has(type)
}

/** `Insert`, or `type 4711` where the number has no name. */
export function messageTypeName(type: number): string {
  return type === 0 ? 'record' : (byType.get(type)?.name ?? `type ${type}`)
}
