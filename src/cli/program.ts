/** The commands put together: what `tidelog --help` shows. */
import { Command } from 'commander'
import type { CommandContext } from './command-context.ts'
import { addBackup } from './commands/backup.ts'
import { addCompact } from './commands/compact.ts'
import { addConfig } from './commands/config.ts'
import { addConsume } from './commands/consume.ts'
import { addDescribe } from './commands/describe.ts'
import { addDoctor } from './commands/doctor.ts'
import { addDump } from './commands/dump.ts'
import { addProduce } from './commands/produce.ts'
import { addProducers } from './commands/producers.ts'
import { addReindex } from './commands/reindex.ts'
import { addRepair } from './commands/repair.ts'
import { addSalvage } from './commands/salvage.ts'
import { addServe } from './commands/serve.ts'
import { addStatus } from './commands/status.ts'
import { addTruncate } from './commands/truncate.ts'
import { addTxn } from './commands/txn.ts'
import { addVchannels } from './commands/vchannels.ts'
import { addVerify } from './commands/verify.ts'
import { exitCodeHelp } from './exit-codes.ts'
import { defaultServer } from './server-address.ts'

const environmentHelp = `Environment:
  TIDELOG_SERVER  what --server is when it is not given (default ${defaultServer})
  TIDELOG_...     every configuration key of serve; see "tidelog config show --origin"
  NO_COLOR        no colour, also on a terminal`

const startHelp = `Start here:
  $ tidelog serve --data ./data
  $ echo hello | tidelog produce greetings
  $ tidelog consume greetings --from earliest`

/** The whole program. Its actions set `context.exitCode`; whatever is wrong is thrown. */
export function buildProgram(context: CommandContext, version: string): Command {
  const program = new Command('tidelog')
    .description('A durable, ordered log service: a daemon, its clients, and tools for its files.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void context.out.write(text),
      writeErr: (text) => context.notes.line(text.replace(/\n$/, '')),
      // The error is thrown as well, and reported in one place.
      outputError: () => {},
    })
    .addHelpText('after', `\n${startHelp}\n\n${environmentHelp}\n\n${exitCodeHelp}`)
  for (const add of [
    addServe,
    addProduce,
    addConsume,
    addVchannels,
    addTxn,
    addProducers,
    addStatus,
    addTruncate,
    addDescribe,
    addDump,
    addVerify,
    addRepair,
    addSalvage,
    addReindex,
    addCompact,
    addBackup,
    addDoctor,
    addConfig,
  ]) {
    add(program, context)
  }
  return program
}
