/** What `repair` and `repair --undo` print for people. */
import type { RepairMode, RepairReport, UndoReport } from '../../native-free-storage/index.ts'
import type { DirectoryAction } from './repair-data-directory.ts'
import { printable } from './text-table.ts'

export interface RepairSummary {
  path: string
  mode: RepairMode
  applied: boolean
  actions: DirectoryAction[]
  /** `log`: where it is one of several. */
  lost: { log?: string; lsnFrom: number; lsnTo: number }[]
  skipped: { log?: string; lsnFrom: number; lsnTo: number }[]
  assumptions: string[]
  quarantined: string[]
  nextLsn: number | null
  sound: boolean
  logs: RepairReport[]
}

export function repairText(summary: RepairSummary, before: 0 | 8 | 9): string {
  const { path, applied, actions, lost, skipped, assumptions, quarantined, sound } = summary
  if (actions.length === 0) {
    const rest = before === 0 ? 'nothing to repair.' : 'nothing that can be repaired; see "tidelog verify".'
    return `${printable(path)}: ${rest}\n`
  }
  const lines = [`${printable(path)}: ${applied ? 'done' : 'would be done'}`]
  for (const { action, file, reason } of actions) lines.push(`  ${action} ${printable(file)}: ${printable(reason)}`)
  lines.push(lost.length === 0 ? 'Lost: nothing.' : 'Lost:')
  for (const range of lost) lines.push(`  ${rangeText(range)}`)
  if (skipped.length > 0) lines.push('Not given again, since nobody can say whether they were given:')
  for (const range of skipped) lines.push(`  ${rangeText(range)}`)
  if (assumptions.length > 0) lines.push('Assumed:')
  for (const assumption of assumptions) lines.push(`  ${printable(assumption)}`)
  if (quarantined.length > 0) lines.push('Kept:')
  for (const name of quarantined) lines.push(`  ${printable(name)}`)
  if (!applied) lines.push('Nothing was changed. Copy the directory, then run it again with --apply.')
  else if (sound) lines.push('Sound. To take it back before anything is written: --undo --apply.')
  else lines.push('Not all damage could be repaired; see "tidelog verify".')
  return `${lines.join('\n')}\n`
}

export function undoText({ path, applied, logs }: { path: string; applied: boolean; logs: UndoReport[] }): string {
  const lines = [`${printable(path)}: ${applied ? 'taken back' : 'would be taken back'}`]
  for (const { path: log, restored, removed, runMs } of logs) {
    lines.push(`  ${printable(log)}, repaired at ${new Date(runMs).toISOString()}`)
    for (const name of restored) lines.push(`    put back ${printable(name)}`)
    for (const name of removed) lines.push(`    remove ${printable(name)}`)
  }
  if (!applied) lines.push('Nothing was changed. Run it again with --apply.')
  return `${lines.join('\n')}\n`
}

function rangeText({ log, lsnFrom, lsnTo }: { log?: string; lsnFrom: number; lsnTo: number }): string {
  const where = log === undefined ? '' : `${printable(log)}: `
  return `${where}LSN ${lsnFrom}${lsnTo > lsnFrom ? ` to ${lsnTo}` : ''}`
}
