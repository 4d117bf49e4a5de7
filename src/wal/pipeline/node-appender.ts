/** What transactions and producers write with: the WAL's own pipeline, past the short way. */
import type { RecordInput } from '../../../native-free-storage/index.ts'
import type { MutableMessage } from '../types.ts'
import type { SharedContext } from '../unit.ts'
import type { UnitResult } from './interceptor.ts'

export interface NodeAppender {
  /**
   * Records of the node's own (begin, commit, rollback; or epochs), in one frame that holds nothing else. Goes past the
   * shared side of the exclusive lock and the stages, not past limits, admission and users' interceptors. Works while the
   * WAL is closing.
   */
  appendControl(records: RecordInput[]): Promise<UnitResult>
  /**
   * Messages of a caller in one frame of their own, as bodies of a transaction or records of a producer: checked, shown to
   * users' interceptors, asked about by all stages. Rejects when any of them refuses; never throws.
   */
  appendMessages(
    messages: readonly MutableMessage[],
    shared: SharedContext,
    options?: { barrierTick?: bigint | undefined; signal?: AbortSignal | undefined },
  ): Promise<UnitResult>
}
