/**
 * What each error code means, what is still safe, and what to do: printed behind an error by the command line.
 * docs/ERRORS.md holds the same table; a test keeps both in step with each other and with the lists of codes.
 */
import type { ErrorCode } from '../errors.ts'

export interface ErrorAdvice {
  meaning: string
  safe: string
  next: string
}

const acknowledged = 'Everything that was acknowledged.'
const nothingTried = 'Everything: nothing was read or written.'

export const errorAdvice: Partial<Record<ErrorCode, ErrorAdvice>> = {
  ABORTED: {
    meaning: 'The caller gave up: a signal was aborted, or the command was interrupted.',
    safe: 'Everything that was acknowledged. An append whose outcome is `unknown` may be in the log.',
    next: 'Start it again; a reader goes on behind the last LSN that it has seen.',
  },
  ADDRESS_IN_USE: {
    meaning: 'Another process listens at an address at which the daemon was to listen. The message names it.',
    safe: nothingTried,
    next: 'Stop the other one, or choose another address with --listen, --http or --socket (port 0 takes a free one).',
  },
  BACKUP_INCOMPLETE: {
    meaning:
      'The directory holds a backup that was interrupted: it has the mark `BACKUP.incomplete`, and is neither a log nor a data directory.',
    safe: 'The original: a backup only reads it. Nothing was changed.',
    next: 'Delete the directory and make the backup again. If a backup is being made right now, let it finish.',
  },
  CLOSED: {
    meaning: 'The log, the client or the connection was already closed when the call came, or was closed during it.',
    safe: acknowledged,
    next: 'Open or connect again. What failed with `not-written` can be sent again as it is.',
  },
  CONFIG_INVALID: {
    meaning:
      'A flag, a TIDELOG_ variable or a key of the configuration file is unknown or holds a value it cannot have.',
    safe: nothingTried,
    next: 'Correct what the message names; `tidelog config show --origin` says where each value comes from.',
  },
  CONNECTION_LOST: {
    meaning: 'The connection to the daemon broke while something was under way.',
    safe: 'Everything that was acknowledged. An append under way is `unknown`: it may be in the log, once.',
    next: 'Read the end of the vchannel to see whether the record is there before sending it again.',
  },
  DATA_DIRECTORY_INVALID: {
    meaning:
      "The directory holds something else than a daemon's data, or its descriptor or its catalog of vchannels cannot be read. The message says which.",
    safe: 'Everything: nothing was changed.',
    next: 'Check --data; choose an empty or a new directory, or restore the file that the message names.',
  },
  DIRECTORY_UNFIT: {
    meaning:
      'The directory cannot hold a log: it is on a file system that does not keep the promises a log needs (a network file system, for example), is not writable, or is no directory.',
    safe: nothingTried,
    next: 'Choose a directory on a local file system such as ext4 or XFS; the platform table is in docs/OPERATIONS.md.',
  },
  DISK_FULL: {
    meaning: 'The file system has no space for what was to be written.',
    safe: 'Everything that was acknowledged, and reading goes on. The refused records are not in the log unless the outcome says `unknown`.',
    next: 'Make room (truncate, shorter retention, a larger disk) and send again; the log goes on by itself in a new segment.',
  },
  DISK_NEARLY_FULL: {
    meaning:
      'The file system of the data is nearly full, and appends are refused so that it does not become full. The message says how full.',
    safe: 'Everything that was acknowledged; reading and truncating go on. The refused records were not written.',
    next: 'Make room (truncate, shorter retention, a larger disk) and send again: appends are taken as soon as there is room. The limits are --disk-refuse-percent and --disk-refuse-free.',
  },
  DRAINING: {
    meaning: 'The daemon is stopping: it finishes what it accepted and takes nothing new.',
    safe: 'Everything that was acknowledged. The refused records were not written.',
    next: 'Send again to the daemon once it runs again.',
  },
  FAILED_BEFORE: {
    meaning:
      'A record before this one, of the same producer and vchannel, was not written; this one was refused so that the order is kept.',
    safe: 'Everything that was acknowledged. This record was not written.',
    next: 'Look at the first failure, then send again from there.',
  },
  FENCED: {
    meaning: 'Another writer has opened the log since: this one may write no more.',
    safe: 'Everything that was acknowledged. What was under way and not acknowledged is `unknown`.',
    next: 'Find out who opened the log (its LOCK file names a process). Write through that one, or stop it and open again.',
  },
  FORMAT_UNKNOWN: {
    meaning: 'The file was written by a later version of Tidelog, with a feature that this version does not know.',
    safe: 'Everything: nothing was changed.',
    next: 'Upgrade Tidelog to the version that the message names, or use the one that wrote the files.',
  },
  FRAME_DAMAGED: {
    meaning:
      'Stored bytes are not what was written: a checksum does not fit. The message names file, position and LSNs.',
    safe: 'Every other frame; reading can go on behind the LSNs that are named.',
    next: 'Run `tidelog verify` on the data directory to see all that is damaged, and copy the directory before anything else. Look at the disk. Then `tidelog repair` says what it would do and what is lost (docs/OPERATIONS.md, "Damage and repair").',
  },
  FRAME_INVALID: {
    meaning:
      'The body of a frame breaks a rule of the format although its checksum is right: whoever encoded it is at fault.',
    safe: 'Everything that was acknowledged. The frame was not written.',
    next: 'Report it with the name and version of the client that sent it.',
  },
  HOST_NOT_LOOPBACK: {
    meaning: 'The address to listen on is not loopback. There is neither TLS nor authentication yet, so it is refused.',
    safe: nothingTried,
    next: 'Listen on 127.0.0.1, ::1 or localhost, or on a Unix socket, and tunnel from elsewhere.',
  },
  INVALID_ARGUMENT: {
    meaning: 'A value that was passed is not possible: a name, a type, a property, an option. The message names it.',
    safe: 'Everything: it was checked first, and nothing was written.',
    next: 'Correct the value.',
  },
  INVALID_BODY: {
    meaning:
      'The daemon received records that it cannot take: rows that contradict their bytes, a property that only the node may write, a vchannel of another group.',
    safe: 'Everything that was acknowledged. The records were not written.',
    next: 'Correct the records; if a client library made them, upgrade it and report it.',
  },
  IO_FAILED: {
    meaning: 'The operating system refused to read or write. The cause and the file are in the message.',
    safe: 'Everything that was acknowledged. A write under way is `unknown`.',
    next: 'Look at the cause (permissions, the disk, the kernel log). A log that failed recovers when it is opened again.',
  },
  KEY_FORGOTTEN: {
    meaning:
      'An append with an idempotency key was first tried (`firstTriedAt`) before the horizon of the keys that the node still knows: it cannot tell whether that first try was written.',
    safe: 'Everything that was acknowledged. This try was not written.',
    next: 'Read the vchannel from the tick of the first try on and look for the record; append it without `firstTriedAt`, or with a new key, if it is not there. A longer window is a setting.',
  },
  LIMIT_EXCEEDED: {
    meaning: 'A record, a batch, a name or a queue is larger than its limit. The message names the limit.',
    safe: 'Everything that was acknowledged. What was refused was not written.',
    next: 'Split it, or raise the limit where that is possible (`tidelog config show`).',
  },
  LOCKED: {
    meaning: 'Another running process has the log or the data directory open for writing. The message names it.',
    safe: nothingTried,
    next: 'Use the daemon that runs, stop it first, or choose another --data directory. Reading (`dump`, `verify`) works beside it.',
  },
  LOG_DAMAGED: {
    meaning:
      'Acknowledged data of the log is missing or changed, so that it is not opened for writing. The message names file, position and LSNs.',
    safe: 'All that the message does not name. Nothing was changed; reading works up to the damage.',
    next: 'Copy the directory, then run `tidelog verify` on it: it lists every damage and which LSNs are concerned. Then `tidelog repair` says what it would do and what is lost (docs/OPERATIONS.md, "Damage and repair").',
  },
  LOG_MISSING: {
    meaning: 'There is no log at the path: no manifest and no segments.',
    safe: 'Everything: nothing was created.',
    next: "Check the path: it is a data directory (what `serve --data` was given) or one log's directory.",
  },
  MANIFEST_DAMAGED: {
    meaning: 'The newest manifest of the log cannot be read: a checksum does not fit.',
    safe: 'The segments: nothing was changed, and what they hold is readable by itself.',
    next: 'Copy the directory, then run `tidelog verify` on it. Then `tidelog repair` says what it would do and what is lost (docs/OPERATIONS.md, "Damage and repair").',
  },
  MANIFEST_MISSING: {
    meaning: 'There are segments in the directory but no manifest that says which of them make up the log.',
    safe: 'The segments: nothing was changed.',
    next: 'Copy the directory and look whether a MANIFEST file was removed by hand or left out of a copy. Put it back. Then `tidelog repair` says what it would do and what is lost (docs/OPERATIONS.md, "Damage and repair").',
  },
  PLATFORM_UNSUPPORTED: {
    meaning: 'Tidelog does not run on this operating system: it cannot keep its promises there.',
    safe: nothingTried,
    next: 'Use a platform of the table in docs/OPERATIONS.md.',
  },
  POISONED: {
    meaning:
      'A write or a sync failed, so that nobody can say what is on the disk behind the last acknowledged record. The log takes no more writes until it is opened again.',
    safe: 'Everything that was acknowledged; reading goes on. What was under way is `unknown`.',
    next: 'Look at the cause (the disk, the kernel log), then start the daemon again or open the log again: that recovers it.',
  },
  POSITION_TRUNCATED: {
    meaning:
      'The position asked for was truncated away, by retention or by `truncate`. The message names the first LSN that is left.',
    safe: 'Everything from the first LSN that is left.',
    next: 'Read from there or from `earliest`, and know that what lay before is gone.',
  },
  PRODUCER_FENCED: {
    meaning:
      'The producer was opened again since, by this or another process, with a newer epoch: the older one may write no more.',
    safe: 'Everything that was acknowledged. The refused records were not written.',
    next: 'Only one process at a time may write with a producer id. Stop the other one, or open the producer again, which fences the other.',
  },
  PRODUCER_UNKNOWN: {
    meaning: 'The node does not know the producer, or this connection has not opened it.',
    safe: 'Everything that was acknowledged. The records were not written.',
    next: 'Open the producer with its id; `tidelog producers list` shows the known ones.',
  },
  PROTOCOL_VERSION: {
    meaning: 'Client and daemon have no version of the protocol in common.',
    safe: nothingTried,
    next: 'Upgrade the older of the two; the message names both versions.',
  },
  PROTOCOL_VIOLATION: {
    meaning: 'The other side sent bytes that are not the protocol. The connection was closed.',
    safe: 'Everything that was acknowledged. An append under way is `unknown`.',
    next: 'Check that the address is that of a Tidelog daemon (not its HTTP port), and that nothing between changes bytes.',
  },
  QUEUE_FULL: {
    meaning: 'More is waiting to be written than the queue may hold.',
    safe: 'Everything that was acknowledged. The refused records were not written.',
    next: 'Wait and send again; if it stays, the disk is slower than the producers.',
  },
  RATE_LIMITED: {
    meaning: 'More is appended than the rate or the memory limit of the pchannel or the node allows.',
    safe: 'Everything that was acknowledged. The refused records were not written.',
    next: 'Send again after a pause: it goes on by itself. Raise the limit if the disk can do more.',
  },
  READ_ONLY: {
    meaning: 'The log was opened for reading only, and something was to be written.',
    safe: 'Everything: nothing was changed.',
    next: 'Open it without `readOnly`.',
  },
  RECOVERY_REFUSED: {
    meaning:
      'The log was to be opened with `recovery: strict`, and its last writer left an end that cannot be proven to be whole: a torn write, or records of which nothing says that they were all. The message names file, position and LSNs.',
    safe: 'Everything that was acknowledged: nothing was changed.',
    next: 'Run `tidelog verify` on it. If that tells of nothing worse than a torn or unproven tail, open it with `--recovery tail`: what is whole is kept, what is torn was never acknowledged.',
  },
  SEGMENT_MISSING: {
    meaning: 'A file that the log consists of is not there. The message names it and the LSNs it held.',
    safe: 'All other segments. Nothing was changed.',
    next: 'Look for the file (a backup, `quarantine/`), put it back under its name, and run `tidelog verify`. Then `tidelog repair` says what it would do and what is lost (docs/OPERATIONS.md, "Damage and repair").',
  },
  SEQUENCE_FORGOTTEN: {
    meaning:
      'A repeat of records that this producer has written before, so long ago that the node no longer knows where they stand.',
    safe: 'Everything that was acknowledged: the records are in the log, once. This repeat was not written.',
    next: "Go on behind the producer's last sequence, which the message names.",
  },
  SEQUENCE_GAP: {
    meaning: 'The sequence of a record does not follow the last one of its producer: records between them are missing.',
    safe: 'Everything that was acknowledged. The refused records were not written.',
    next: 'Send the records from the sequence that the message names, then this one.',
  },
  SEQUENCE_STRADDLED: {
    meaning:
      'Of the records of a frame the first ones were written before and the others were not: a repeat must keep the frames of the first try.',
    safe: 'Everything that was acknowledged. Nothing of this frame was written.',
    next: 'Send what follows the last known sequence, which the message names.',
  },
  SERVER_UNREACHABLE: {
    meaning: 'No daemon answers at the address.',
    safe: 'Everything that was acknowledged. Nothing new was written.',
    next: 'Start one with `tidelog serve` (or `npm start`), or name another with --server or TIDELOG_SERVER.',
  },
  SLOW_CONNECTION: {
    meaning: 'The other side did not read or write for longer than allowed, and the connection was closed.',
    safe: 'Everything that was acknowledged. An append under way is `unknown`.',
    next: 'Connect again; look for what blocks the process or the network.',
  },
  TERM_STALE: {
    meaning: 'The log was already opened at a newer term of ownership.',
    safe: 'Everything: nothing was written at the old term.',
    next: 'Ask for the present term and owner; do not write at the old one.',
  },
  TICK_ORDER: {
    meaning:
      'A reader met records whose time ticks go back, or do not fit their transaction: the log was not written by one node after the other.',
    safe: 'Everything that was delivered so far. Nothing was skipped.',
    next: 'Run `tidelog verify` on the log, and report it with its output.',
  },
  TICK_TOO_FAR_AHEAD: {
    meaning: 'The barrier tick asked for lies further in the future than allowed.',
    safe: 'Everything that was acknowledged. The records were not written.',
    next: 'Check the clocks of the machines that the barrier came from.',
  },
  TIMEOUT: {
    meaning: 'Something did not happen within its deadline. The message names what and how long.',
    safe: 'Everything that was acknowledged. For an append, the outcome says `not-written` or `unknown`.',
    next: 'Try again; if it stays, look at the health of the daemon (`tidelog status`) and of the disk.',
  },
  TRANSACTION_ABORTED: {
    meaning:
      'The transaction was ended by the node: by a message that takes its vchannel exclusively (DDL, flush), by the failure of one of its records, or by a restart of the node.',
    safe: 'Everything that was acknowledged outside of it. Nothing of the transaction is or will be visible.',
    next: 'Begin it again and append its records again.',
  },
  TRANSACTION_EXPIRED: {
    meaning:
      'The transaction is not open: it was not used for longer than its keepalive and was rolled back, or the node does not know it.',
    safe: 'Everything that was acknowledged outside of it. Nothing of it is visible, unless its commit was answered.',
    next: 'Begin it again; ask for a longer keepalive if it needs longer pauses.',
  },
  TRANSACTION_STATE: {
    meaning:
      'The call does not fit the state of the transaction: an append, commit or rollback of one that is being committed or rolled back, or has ended.',
    safe: 'Everything that was acknowledged. Nothing was written.',
    next: 'Commit or roll back once, after the last append; then begin another one.',
  },
  UNDO_REFUSED: {
    meaning: 'A repair cannot be undone: there was none, or the log was written to since.',
    safe: 'Everything: nothing was changed.',
    next: 'Keep the repaired log. What the repair took out is in `quarantine/`; `tidelog salvage --quarantine` reads it.',
  },
  USAGE: {
    meaning: 'The command line is wrong: an unknown command, flag or form of a value.',
    safe: nothingTried,
    next: '`tidelog help COMMAND` shows every flag, with an example.',
  },
  VCHANNEL_UNKNOWN: {
    meaning: 'There is no vchannel of that name.',
    safe: 'Everything: nothing was created.',
    next: '`tidelog vchannels` lists all; `consume --wait` waits for one that does not exist yet; `produce` creates it.',
  },
  WINDOW_LOST: {
    meaning:
      'The state by which the node recognizes repeats of this producer is lost: its snapshots are gone or do not fit the log.',
    safe: 'Everything that was acknowledged. The records were not written.',
    next: 'Read the end of the vchannel to see what was written, then open the producer under a new id.',
  },
}
