/** Amounts with units, addresses and choices as people write them in flags, environment and YAML. */
import { isIP } from 'node:net'

/** A parser gives the value, or the reason (a sentence part: "it has to be ...") why there is none. */
export type Parsed<T> = { value: T } | { reason: string }

const BYTE_UNITS = new Map([
  ['', 1],
  ['b', 1],
  ['kb', 1e3],
  ['mb', 1e6],
  ['gb', 1e9],
  ['tb', 1e12],
  ['kib', 2 ** 10],
  ['mib', 2 ** 20],
  ['gib', 2 ** 30],
  ['tib', 2 ** 40],
])

const DURATION_UNITS = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

/** `64MiB`, `1.5GB`, `4096`: bytes, a whole number of them. */
export function parseBytes(text: string): Parsed<number> {
  return parseAmount(text, BYTE_UNITS, 'it has to be an amount of bytes such as 4096, 64MiB or 1.5GB')
}

/** `500ms`, `10s`, `5m`, `12h`, `7d`: milliseconds. A bare number is refused: its unit would be a guess. */
export function parseDuration(text: string): Parsed<number> {
  return parseAmount(text, DURATION_UNITS, 'it has to be a duration with a unit such as 500ms, 10s, 5m, 12h or 7d')
}

function parseAmount(text: string, units: ReadonlyMap<string, number>, reason: string): Parsed<number> {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const unit = match && units.get(match[2]!.toLowerCase())
  if (!match || unit === undefined || unit === null) return { reason }
  const value = Math.round(Number(match[1]) * unit)
  return Number.isSafeInteger(value) ? { value } : { reason }
}

export function parseInteger(text: string): Parsed<number> {
  const value = Number(text)
  if (!/^\d+$/.test(text.trim()) || !Number.isSafeInteger(value)) return { reason: 'it has to be a whole number' }
  return { value }
}

export function parseChoice<T extends string>(text: string, choices: readonly T[]): Parsed<T> {
  const value = choices.find((choice) => choice === text)
  return value === undefined ? { reason: `it has to be ${choices.join(' or ')}` } : { value }
}

export interface HostPort {
  /** Without brackets. */
  host: string
  /** 0: any free one. */
  port: number
}

/** `127.0.0.1:7420`, `localhost:0`, `[::1]:7420`. */
export function parseHostPort(text: string): Parsed<HostPort> {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text.trim())
  const port = match ? Number(match[3]) : Number.NaN
  if (!match || !(port <= 65_535)) {
    return { reason: 'it has to be HOST:PORT such as 127.0.0.1:7420 or [::1]:7420, port 0 to 65535' }
  }
  const host = match[1] ?? match[2]!
  if (match[1] !== undefined && isIP(host) !== 6) return { reason: 'only an IPv6 address stands in brackets' }
  return { value: { host, port } }
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Whether a name or address is this machine's loopback, and nothing that others can reach. */
export function isLoopbackHost(host: string): boolean {
  const name = host.toLowerCase().replace(/\.$/, '')
  if (name === 'localhost') return true
  switch (isIP(name)) {
    case 4:
      return name.startsWith('127.')
    case 6:
      return name === '::1' || /^(0{1,4}:){7}0{0,3}1$/.test(name) || /^::ffff:127\.\d+\.\d+\.\d+$/.test(name)
    default:
      return false
  }
}

/** Up to three of `candidates` that are near `name`, best first: what a typing error may have meant. */
export function nearNames(name: string, candidates: Iterable<string>): string[] {
  const wanted = name.toLowerCase()
  const most = Math.max(2, Math.floor(wanted.length / 3))
  const near: { distance: number; candidate: string }[] = []
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase(), most)
    if (distance > most) continue
    near.push({ distance, candidate })
    near.sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    near.length = Math.min(near.length, 3)
  }
  return near.map(({ candidate }) => candidate)
}

/** Insertions, deletions, replacements and swaps of neighbours from `a` to `b`; more than `most` is told as `most + 1`. */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1))
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        cost = Math.min(cost, before[column - 2]! + 1)
      }
      current.push(cost)
    }
    if (Math.min(...current) > most) return most + 1
    before = last
    last = current
  }
  return last[b.length]!
}
