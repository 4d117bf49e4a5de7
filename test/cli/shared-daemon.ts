/** One daemon for all tests of a file, and the commands that they run against it. */
import type { ChildProcess } from 'node:child_process'
import { afterAll, beforeAll, expect } from 'vitest'
import {
  type CliOptions,
  type CliResult,
  cli,
  type DaemonProcess,
  removeTemporaryDirectories,
  startCli,
  startDaemonProcess,
} from './cli-process.ts'

export interface SharedDaemon {
  /** Runs one command to its end. */
  run(args: string[], options?: CliOptions): Promise<CliResult>
  start(args: string[]): ChildProcess
  /** Everything in a vchannel, as `consume --json` prints it. */
  records(vchannel: string, ...flags: string[]): Promise<Record<string, unknown>[]>
  payloads(vchannel: string, ...flags: string[]): Promise<unknown[]>
}

/** To be called once in a file, outside of its tests. Starts the daemon before them, and removes all behind them. */
export function shareDaemon(flags: string[] = []): SharedDaemon {
  let daemon: DaemonProcess

  beforeAll(async () => {
    daemon = await startDaemonProcess({ flags })
  })

  afterAll(async () => {
    await daemon.kill()
    await removeTemporaryDirectories()
  })

  function run(args: string[], options: CliOptions = {}): Promise<CliResult> {
    return cli(args, { ...options, env: { ...daemon.env, ...options.env } })
  }

  async function records(vchannel: string, ...flags: string[]): Promise<Record<string, unknown>[]> {
    const result = await run(['consume', vchannel, '--until-caught-up', '--json', ...flags])
    expect(result.stderr).toBe('')
    expect(result.status).toBe(0)
    return result.json()
  }

  return {
    run,
    records,
    start: (args) => startCli(args, daemon.env),
    payloads: async (vchannel, ...flags) => (await records(vchannel, ...flags)).map(({ payload }) => payload),
  }
}
