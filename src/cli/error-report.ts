/**
 * How a command says that it failed: what failed, where, what is still safe, what to do next, and the stable code. Text
 * for people; with `--json` one line of JSON. Both on standard error: standard output is for data.
 */
import { CommanderError } from 'commander'
import { type ErrorCode, TidelogError } from '../errors.ts'
import { errorAdvice } from './error-advice.ts'
import type { Notes } from './notes.ts'
import { printable } from './text-table.ts'

/** The form of an error in every `--json` output. Fields without a value are left out. */
export interface ErrorReport {
  code: string
  message: string
  retriable: boolean
  outcome?: 'not-written' | 'unknown'
  file?: string
  position?: number
  lsn?: number
  lsnFrom?: number
  lsnTo?: number
  safe?: string
  next?: string
}

/** An error of any kind as a report. What is not a TidelogError gets the code INTERNAL: a bug of ours. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof CommanderError) return advised({ code: 'USAGE', message: usageMessage(error), retriable: false })
  if (!(error instanceof TidelogError)) {
    const message = error instanceof Error ? error.message : String(error)
    return {
      code: 'INTERNAL',
      message,
      retriable: false,
      next: 'This is a bug in Tidelog: report it with the command and this message.',
    }
  }
  const { code, retriable, outcome, file, position, lsn, lsnFrom, lsnTo } = error as TidelogError<ErrorCode>
  return advised({
    code,
    message: error.message,
    retriable,
    ...Object.fromEntries(
      Object.entries({ outcome, file, position, lsn, lsnFrom, lsnTo }).filter(([, value]) => value !== undefined),
    ),
  })
}

/** Writes the report where it belongs. */
export function writeReport(report: ErrorReport, notes: Notes, json: boolean): void {
  if (json) {
    notes.line(JSON.stringify({ error: report }))
    return
  }
  notes.line(`${notes.styled('red', 'error:')} ${message(report)} ${notes.styled('dim', `[${report.code}]`)}`)
  const where = placeOf(report)
  if (where) notes.line(`  where: ${where}`)
  if (report.outcome) notes.line(`  outcome: ${report.outcome}`)
  if (report.safe) notes.line(`  safe: ${report.safe}`)
  if (report.next) notes.line(`  next: ${report.next}`)
}

function message(report: ErrorReport): string {
  return report.message.split('\n').map(printable).join('\n  ')
}

function placeOf({ file, position, lsn, lsnFrom, lsnTo }: ErrorReport): string {
  const parts: string[] = []
  if (file !== undefined) parts.push(`file ${printable(file)}`)
  if (position !== undefined) parts.push(`position ${position}`)
  if (lsn !== undefined) parts.push(`LSN ${lsn}`)
  if (lsnFrom !== undefined) parts.push(lsnTo === undefined ? `LSN ${lsnFrom} and up` : `LSN ${lsnFrom} to ${lsnTo}`)
  return parts.join(', ')
}

function advised(report: ErrorReport): ErrorReport {
  const advice = errorAdvice[report.code as ErrorCode]
  return advice ? { ...report, safe: advice.safe, next: advice.next } : report
}

/** Commander's message without its own prefix; its suggestion stands on a line of its own. */
function usageMessage(error: CommanderError): string {
  return error.message.replace(/^error: /, '').replace(/\n\((.*)\)$/, '; $1')
}
