/** `vchannels`: list them, create one. */
import type { Command } from 'commander'
import { nearNames } from '../../daemon/units.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { didYouMean } from '../did-you-mean.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { printable, textTable } from '../text-table.ts'
import { usageError } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'

interface VchannelsOptions {
  server?: string
  json?: boolean
}

export function addVchannels(program: Command, context: CommandContext): void {
  const vchannels = program
    .command('vchannels')
    .description('list the vchannels, or create one')
    .addHelpText('after', examples('tidelog vchannels', 'tidelog vchannels create orders', 'tidelog vchannels --json'))

  vchannels
    .command('list', { isDefault: true })
    .description('all vchannels, sorted by name')
    .argument('[nothing...]')
    .addOption(serverOption())
    .option('--json', 'one JSON object a line: {"vchannel","group","createdMs"}')
    .action(async (operands: string[], options: VchannelsOptions) => {
      if (operands.length > 0) refuseOperand(operands[0]!)
      await list(options, context)
    })

  vchannels
    .command('create')
    .description('create vchannels; they are durable when this ends. One that exists is left as it is')
    .argument('<vchannel...>', 'names of 1 to 255 bytes')
    .addOption(serverOption())
    .option('--json', 'one JSON object a line, as list prints it')
    .action((names: string[], options: VchannelsOptions) => create(names, options, context))
}

function refuseOperand(operand: string): never {
  const hint = didYouMean(nearNames(operand, ['list', 'create']))
  throw usageError(`unknown command ${JSON.stringify(operand)} of vchannels; ${hint || 'there are list and create'}`)
}

interface VchannelRow {
  name: string
  group: number
  createdMs: number
}

async function list(options: VchannelsOptions, context: CommandContext): Promise<void> {
  await withClient(options.server, context, async (client) => {
    const rows = await client.vchannels()
    if (options.json) {
      for (const row of rows) await context.out.write(`${jsonLine(row)}\n`)
    } else if (rows.length === 0) {
      context.notes.line('There is no vchannel yet. Create one: tidelog vchannels create NAME, or produce to it.')
    } else {
      const cells = rows.map(({ name, group, createdMs }) => [name, group, new Date(createdMs).toISOString()])
      await context.out.write(textTable(['VCHANNEL', 'GROUP', 'CREATED'], cells))
    }
  })
}

async function create(names: string[], options: VchannelsOptions, context: CommandContext): Promise<void> {
  for (const name of names) requireVchannelName(name)
  await withClient(options.server, context, async (client) => {
    for (const name of names) {
      const row = await client.createVchannel(name)
      await context.out.write(options.json ? `${jsonLine(row)}\n` : `${printable(row.name)}\n`)
    }
  })
}

function jsonLine({ name, group, createdMs }: VchannelRow): string {
  return JSON.stringify({ vchannel: name, group, createdMs })
}
