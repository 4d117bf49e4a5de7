/** `producers list`: the producers with an identity that the daemon knows. */
import type { Command } from 'commander'
import { nearNames } from '../../daemon/units.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { didYouMean } from '../did-you-mean.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { textTable } from '../text-table.ts'
import { usageError } from '../usage-error.ts'
import { msOfTick } from '../wall-time.ts'

interface ProducersOptions {
  server?: string
  json?: boolean
}

const jsonHelp =
  'one JSON object a line: {"id","vchannel","group","producer","epoch","lastSequence","lastLsn","lastTimeTick"}'

export function addProducers(program: Command, context: CommandContext): void {
  const producers = program
    .command('producers')
    .description('list the producers with an identity')
    .addHelpText('after', examples('tidelog producers list', 'tidelog producers list --json'))
  producers
    .command('list', { isDefault: true })
    .description('the producers that the daemon knows: epoch, and the last record of each')
    .argument('[nothing...]')
    .addOption(serverOption())
    .option('--json', jsonHelp)
    .action(async (operands: string[], options: ProducersOptions) => {
      if (operands.length > 0) refuseOperand(operands[0]!)
      await list(options, context)
    })
}

function refuseOperand(operand: string): never {
  const hint = didYouMean(nearNames(operand, ['list']))
  throw usageError(`unknown command ${JSON.stringify(operand)} of producers; ${hint || 'there is list'}`)
}

async function list(options: ProducersOptions, context: CommandContext): Promise<void> {
  await withClient(options.server, context, async (client) => {
    const rows = await client.producers()
    if (options.json) {
      for (const row of rows) {
        await context.out.write(`${JSON.stringify({ ...row, lastTimeTick: String(row.lastTimeTick) })}\n`)
      }
    } else if (rows.length === 0) {
      context.notes.line('There is no producer with an identity. Begin one: tidelog produce VCHANNEL --producer ID.')
    } else {
      const cells = rows.map(({ id, vchannel, epoch, lastSequence, lastLsn, lastTimeTick }) => {
        const last = lastSequence === 0 ? ['-', '-'] : [String(lastLsn), new Date(msOfTick(lastTimeTick)).toISOString()]
        return [id, vchannel, epoch, lastSequence, ...last]
      })
      await context.out.write(textTable(['ID', 'VCHANNEL', 'EPOCH', 'SEQUENCE', 'LAST LSN', 'LAST APPEND'], cells))
    }
  })
}
