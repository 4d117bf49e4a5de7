/** `status`: what the daemon says of its groups (pchannels): health, positions, size. */
import type { Command } from 'commander'
import type { ClientGroupStatus, ClientSpaceStatus } from '../../client/status-types.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { ExitCode } from '../exit-codes.ts'
import { bytesText } from '../notes.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { printable, textTable } from '../text-table.ts'
import { isoOfTick } from '../wall-time.ts'

interface StatusOptions {
  server?: string
  json?: boolean
}

export function addStatus(program: Command, context: CommandContext): void {
  program
    .command('status')
    .description('show the health and the positions of the daemon; exit code 1 when a group has failed')
    .addOption(serverOption())
    .option('--json', 'one JSON object: {"address","server","healthy","space","groups":[...]}')
    .addHelpText('after', examples('tidelog status', 'tidelog status --json | jq .groups[].nextLsn'))
    .action((options: StatusOptions) => runStatus(options, context))
}

async function runStatus(options: StatusOptions, context: CommandContext): Promise<void> {
  await withClient(options.server, context, async (client) => {
    const { server, groups, space } = await client.status()
    const healthy = groups.every(({ state }) => state === 'healthy' || state === 'idle') && space?.state !== 'refusing'
    if (options.json) {
      const shown = groups.map((group) => ({ ...group, watermark: String(group.watermark) }))
      await context.out.write(`${JSON.stringify({ address: client.address, server, healthy, space, groups: shown })}\n`)
    } else {
      const header = ['GROUP', 'STATE', 'FIRST LSN', 'NEXT LSN', 'BYTES', 'SEGMENTS', 'VCHANNELS', 'WATERMARK']
      await context.out.write(`${printable(server)} at ${printable(client.address)}\n`)
      await context.out.write(textTable(header, groups.map(rowOf)))
      if (space !== null) await context.out.write(`disk: ${spaceText(space)}\n`)
      if (space?.message) context.notes.line(`disk: ${space.state}: ${printable(space.message)}`)
      for (const { name, state, message } of groups) {
        if (message) context.notes.line(`${printable(name)}: ${state}: ${printable(message)}`)
      }
    }
    if (groups.some(({ state }) => state === 'failed')) context.exitCode = ExitCode.failed
  })
}

function spaceText({ state, usedBytes, freeBytes, refusals }: ClientSpaceStatus): string {
  const refused = refusals > 0 ? `, ${refusals} appends refused since the start` : ''
  if (usedBytes === null || freeBytes === null) return `${state}${refused}`
  const percent = ((100 * usedBytes) / Math.max(1, usedBytes + freeBytes)).toFixed(1)
  return `${state}, ${percent} % used, ${bytesText(freeBytes)} free${refused}`
}

function rowOf(group: ClientGroupStatus): (string | number)[] {
  const { name, state, firstLsn, nextLsn, bytes, segments, vchannels, watermark } = group
  return [name, state, firstLsn, nextLsn, bytesText(bytes), segments, vchannels, isoOfTick(watermark)]
}
