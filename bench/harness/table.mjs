/** Tables on stdout: one row a case, numbers aligned right. */

const count = (value) => Math.round(value).toLocaleString('en-US')
const fixed = (digits) => (value) => value.toFixed(digits)

/** How a column prints its value. Missing values are a dash. */
export const formats = {
  text: String,
  count,
  /** Bytes a second as MB/s (10^6). */
  megabytes: (value) => (value / 1e6 < 100 ? (value / 1e6).toFixed(1) : count(value / 1e6)),
  kibibytes: (value) => (value / 1024).toFixed(1),
  mebibytes: (value) => count(value / 1024 / 1024),
  milliseconds: (value) => (value < 10 ? value.toFixed(3) : value.toFixed(1)),
  seconds: fixed(2),
  ratio: fixed(2),
  microseconds: (value) => (value * 1000).toFixed(1),
  microsecondsFine: (value) => (value * 1000).toFixed(value < 0.01 ? 2 : 1),
}

/**
 * @typedef {{ key: string, title: string, format: keyof typeof formats }} Column
 * @typedef {{ title: string, columns: Column[], rows: Record<string, unknown>[], notes: string[] }} Table
 */

/** @param {Table} table */
export function printTable({ title, columns, rows, notes }) {
  console.log(`\n${title}`)
  const cells = rows.map((row) => columns.map(({ key, format }) => cell(row[key], format)))
  const widths = columns.map((column, index) => Math.max(column.title.length, ...cells.map((row) => row[index].length)))
  const line = (values) =>
    values
      .map((value, index) =>
        columns[index].format === 'text' ? value.padEnd(widths[index]) : value.padStart(widths[index]),
      )
      .join('  ')
      .trimEnd()
  console.log(`  ${line(columns.map((column) => column.title))}`)
  for (const row of cells) console.log(`  ${line(row)}`)
  for (const note of notes) console.log(`  ${note}`)
}

function cell(value, format) {
  if (value === undefined || value === null || Number.isNaN(value)) return '-'
  return formats[format](value)
}
