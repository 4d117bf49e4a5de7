/** A value as JSON in one line: time ticks, checksums and other bigints as decimal strings, since no number holds them. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? String(part) : part))
}
