/** Which daemon a command talks to. */
import { Option } from 'commander'

/** Where `serve` listens when nothing is said. */
export const defaultServer = 'tcp://127.0.0.1:7420'

export function serverOption(): Option {
  return new Option(
    '--server <address>',
    `the daemon: tcp://HOST:PORT or unix:PATH (default: TIDELOG_SERVER, else ${defaultServer})`,
  )
}

/** `--server`, else TIDELOG_SERVER, else the default of `serve`. */
export function serverAddress(flag: string | undefined, environment: NodeJS.ProcessEnv): string {
  return flag ?? (environment.TIDELOG_SERVER || defaultServer)
}
