/** In which way a log is repaired, and each thing that is done for it. */

/**
 * - `tail`: damage costs what is damaged, and all that is intact stays at its LSN;
 * - `point-in-time`: the log ends before its first damage.
 */
export type RepairMode = 'tail' | 'point-in-time'

export interface RepairAction {
  action: 'rewrite' | 'fill' | 'quarantine' | 'reindex' | 'renew-lease' | 'publish-manifest'
  /** In the log's directory. */
  file: string
  reason: string
}
