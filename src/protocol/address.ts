/** Where a node listens: `tcp://HOST:PORT` (an IPv6 host in brackets) or `unix:PATH`. */
import { TidelogError } from '../errors.ts'

export type Address = { kind: 'tcp'; host: string; port: number } | { kind: 'unix'; path: string }

export const DEFAULT_PORT = 7420

/** Throws INVALID_ARGUMENT. A tcp address without a port has the default one, 7420. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length).replace(/^\/\/(?=\/)/, '')
    if (path === '' || path.includes('\0')) throw refused(text)
    return { kind: 'unix', path }
  }
  const match = /^tcp:\/\/(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s:/?#@[\]]+))(?::([0-9]{1,5}))?\/?$/.exec(text)
  if (match === null) throw refused(text)
  const port = match[3] === undefined ? DEFAULT_PORT : Number(match[3])
  if (port < 1 || port > 65_535) throw refused(text)
  return { kind: 'tcp', host: (match[1] ?? match[2])!, port }
}

export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  return `tcp://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

function refused(text: string): TidelogError {
  return new TidelogError('INVALID_ARGUMENT', `"${text}" is not an address: use tcp://HOST:PORT or unix:PATH`)
}
