/** `txn list`: the transactions that are open. */
import type { Command } from 'commander'
import { nearNames } from '../../daemon/units.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { didYouMean } from '../did-you-mean.ts'
import { bytesText } from '../notes.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { textTable } from '../text-table.ts'
import { usageError } from '../usage-error.ts'

interface TxnOptions {
  server?: string
  json?: boolean
}

const jsonHelp =
  'one JSON object a line: {"transaction","group","vchannel","state","bodies","bytes","ageMs","leftMs","keepaliveMs"}'

export function addTxn(program: Command, context: CommandContext): void {
  const txn = program
    .command('txn')
    .description('list the open transactions')
    .addHelpText('after', examples('tidelog txn list', 'tidelog txn list --json'))
  txn
    .command('list', { isDefault: true })
    .description('the open transactions: how long they are, and when they expire')
    .argument('[nothing...]')
    .addOption(serverOption())
    .option('--json', jsonHelp)
    .action(async (operands: string[], options: TxnOptions) => {
      if (operands.length > 0) refuseOperand(operands[0]!)
      await list(options, context)
    })
}

function refuseOperand(operand: string): never {
  const hint = didYouMean(nearNames(operand, ['list']))
  throw usageError(`unknown command ${JSON.stringify(operand)} of txn; ${hint || 'there is list'}`)
}

async function list(options: TxnOptions, context: CommandContext): Promise<void> {
  await withClient(options.server, context, async (client) => {
    const rows = await client.transactions()
    if (options.json) {
      for (const row of rows) await context.out.write(`${JSON.stringify(row)}\n`)
    } else if (rows.length === 0) {
      context.notes.line('There is no open transaction.')
    } else {
      const cells = rows.map(({ transaction, vchannel, state, bodies, bytes, ageMs, leftMs }) => [
        transaction,
        vchannel,
        state,
        bodies,
        bytesText(bytes),
        seconds(ageMs),
        seconds(leftMs),
      ])
      const header = ['TRANSACTION', 'VCHANNEL', 'STATE', 'RECORDS', 'BYTES', 'AGE', 'EXPIRES IN']
      await context.out.write(textTable(header, cells))
    }
  })
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
