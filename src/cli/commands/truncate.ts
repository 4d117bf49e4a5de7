/** `truncate`: lets the front of a log go, through the running daemon. It cannot be undone, so it asks first. */
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import type { Client } from '../../client/types.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { printable } from '../text-table.ts'
import { parseCount, usageError } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'

interface TruncateOptions {
  server?: string
  before: number
  yes?: boolean
  json?: boolean
}

/** Names that are listed before "and N more". */
const namesShown = 10

export function addTruncate(program: Command, context: CommandContext): void {
  program
    .command('truncate')
    .description("let everything below an LSN go, of a vchannel and of all that share its group's log")
    .argument('<vchannel>', 'one of the vchannels of the group')
    .requiredOption('--before <LSN>', 'the first LSN that stays', (text) => parseCount(text, '--before'))
    .option('-y, --yes', 'do it: without it a terminal is asked, and anything else is refused')
    .addOption(serverOption())
    .option('--json', 'one JSON object: {"vchannel","group","firstLsn","vchannels":[...]}')
    .addHelpText(
      'after',
      `
Whole files go at once, so that records below the LSN may stay on disk for a while; they are not read any more.
${examples('tidelog truncate orders --before 1000000', 'tidelog truncate orders --before 1000000 --yes --json')}`,
    )
    .action((vchannel: string, options: TruncateOptions) => runTruncate(vchannel, options, context))
}

async function runTruncate(vchannel: string, options: TruncateOptions, context: CommandContext): Promise<void> {
  requireVchannelName(vchannel)
  await withClient(options.server, context, async (client) => {
    const { group } = await client.vchannel(vchannel)
    const shared = (await client.vchannels()).filter((other) => other.group === group).map(({ name }) => name)
    if (!options.yes) await confirm(client, vchannel, group, shared, options, context)
    const { firstLsn } = await client.truncate(vchannel, options.before)
    if (options.json) {
      await context.out.write(`${JSON.stringify({ vchannel, group, firstLsn, vchannels: shared })}\n`)
    } else {
      await context.out.write(`The first LSN of ${namesText(shared)} is ${firstLsn}.\n`)
    }
  })
}

async function confirm(
  client: Client,
  vchannel: string,
  group: number,
  shared: readonly string[],
  { before }: TruncateOptions,
  { stdin, notes, interrupt }: CommandContext,
): Promise<void> {
  const status = (await client.status()).groups.find((other) => other.group === group)
  const held = status ? ` It holds LSN ${status.firstLsn} to ${status.nextLsn - 1} now.` : ''
  const what = `Everything below LSN ${before} of ${namesText(shared)} goes for good.${held}`
  if (!stdin.isTTY || !notes.isTerminal) throw usageError(`${what} Say --yes to do it.`)
  notes.line(what)
  const terminal = createInterface({ input: stdin, output: process.stderr })
  try {
    const answer = await terminal.question(`Type ${printable(vchannel)} to do it: `, { signal: interrupt.signal })
    if (answer.trim() !== vchannel) throw usageError('not confirmed: nothing was truncated')
  } finally {
    terminal.close()
  }
}

function namesText(names: readonly string[]): string {
  const shown = names.slice(0, namesShown).map(printable).join(', ')
  return names.length > namesShown ? `${shown} and ${names.length - namesShown} more` : shown
}
