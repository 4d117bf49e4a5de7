/** Which daemon a command talks to. */
import { Option } from 'commander'
import { usageError } from './usage-error.ts'

/** Where `serve` listens when nothing is said. */
export const defaultServer = 'tcp://127.0.0.1:7420'

export function serverOption(): Option {
  return new Option(
    '--server <address>',
    `the daemon: tcp://HOST:PORT or unix:PATH (default: TIDELOG_SERVER, else ${defaultServer})`,
  )
}

/** `--server`, else TIDELOG_SERVER, else the default of `serve`. Throws USAGE for what is no address. */
export function serverAddress(flag: string | undefined, environment: NodeJS.ProcessEnv): string {
  const address = flag ?? (environment.TIDELOG_SERVER || defaultServer)
  if (addressForm.test(address)) return address
  const source = flag === undefined ? 'TIDELOG_SERVER' : '--server'
  throw usageError(`${source} is ${JSON.stringify(address)}; it must be tcp://HOST:PORT or unix:PATH`)
}

const addressForm = /^(?:tcp:\/\/(?:\[[0-9A-Fa-f:.]+\]|[^:/[\]\s]+):\d{1,5}\/?|unix:.+)$/
