/**
 * `produce`: records from standard input or a file to one vchannel.
 *
 * What is written is always a beginning of the input: at the first record that is not acknowledged (a bad line, a
 * refusal, a lost connection) nothing more is sent, so that the log never has a hole where the input has none. With
 * `--json` every record of the input gets its line all the same; those behind the first failure are FAILED_BEFORE.
 */
import { type Command, Option } from 'commander'
import type { Client, Producer } from '../../client/types.ts'
import { type ErrorCode, TidelogError } from '../../errors.ts'
import { AcknowledgementReport } from '../acknowledgement-report.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { bytesText, progressBar } from '../notes.ts'
import { type InputItem, type InputMode, readInput } from '../produce-input.ts'
import { ProduceSource } from '../produce-source.ts'
import { serverOption } from '../server-address.ts'
import { openClient } from '../server-connection.ts'
import { printable } from '../text-table.ts'
import { parseCount } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'

interface ProduceOptions {
  server?: string
  lines?: boolean
  ndjson?: boolean
  raw?: boolean
  envelope?: boolean
  type: number
  json?: boolean
}

/** Behind the first failure the rest of the input is read, to tell of it, for at most this long. */
const restOfInputMs = 5_000

const typeMax = 65_535

export function addProduce(program: Command, context: CommandContext): void {
  const modes = ['lines', 'ndjson', 'raw', 'envelope']
  const modeOption = (name: string, description: string) =>
    new Option(`--${name}`, description).conflicts(modes.filter((other) => other !== name))
  program
    .command('produce')
    .description('append records to a vchannel, from standard input or a file')
    .argument('<vchannel>', 'created when it does not exist')
    .argument('[file]', 'instead of standard input')
    .addOption(serverOption())
    .addOption(modeOption('lines', 'one record a line, split at LF only; any bytes (the default)'))
    .addOption(modeOption('ndjson', 'the same, and each line is checked to be JSON'))
    .addOption(modeOption('raw', 'the whole input is one record'))
    .addOption(modeOption('envelope', 'each line is an object as `consume --json` prints it'))
    .option('--type <N>', 'type of the records, 0 to 65535', (text) => parseCount(text, '--type', typeMax), 0)
    .option('--json', 'one JSON object a record, in the order of the input, as soon as it is acknowledged')
    .addHelpText(
      'after',
      `
What is written is always a beginning of the input: at the first record that fails, nothing more is sent.
With --json: {"index","vchannel","lsn","timeTick"} for a record that is durable, {"index","error":{"code",
"retriable","outcome":"not-written"|"unknown"}} for one that is not; any of those makes the exit code 1.
${examples(
  'echo hello | tidelog produce greetings',
  'tidelog produce events --ndjson events.ndjson',
  'tidelog consume orders --json --until-caught-up | tidelog produce copy --envelope --json',
)}`,
    )
    .action((vchannel: string, file: string | undefined, options: ProduceOptions) =>
      runProduce(vchannel, file, options, context),
    )
}

async function runProduce(
  vchannel: string,
  file: string | undefined,
  options: ProduceOptions,
  context: CommandContext,
): Promise<void> {
  requireVchannelName(vchannel)
  const source = await ProduceSource.open(file, context)
  const { signal } = context.interrupt
  const stop = () => source.close()
  signal.addEventListener('abort', stop)
  const report = new AcknowledgementReport(vchannel, options.json === true, context.out)
  try {
    await new ProduceRun(vchannel, source, options, report, context).run()
  } finally {
    signal.removeEventListener('abort', stop)
    source.close()
  }
}

class ProduceRun {
  readonly #vchannel: string
  readonly #source: ProduceSource
  readonly #options: ProduceOptions
  readonly #report: AcknowledgementReport
  readonly #context: CommandContext
  /** Records of the input so far. */
  #index = 0
  /** The first failure that concerns all that follows; undefined while records are sent. */
  #failed: unknown

  constructor(
    vchannel: string,
    source: ProduceSource,
    options: ProduceOptions,
    report: AcknowledgementReport,
    context: CommandContext,
  ) {
    this.#vchannel = vchannel
    this.#source = source
    this.#options = options
    this.#report = report
    this.#context = context
  }

  async run(): Promise<void> {
    let client: Client | undefined
    try {
      client = await openClient(this.#options.server, this.#context)
      const producer = await client.producer(this.#vchannel)
      if (this.#source.isTerminal) this.#context.notes.line('One record a line; end with Ctrl-D.')
      await this.#send(producer, client.recordBytesMax)
    } catch (error) {
      // A failure of the connection, the input or the output, not of a record: it stands for all that follow.
      if (this.#index > 0 || isOurs(error, 'USAGE')) throw error
      this.#failed = notWritten(error)
      await this.#tellRest()
    } finally {
      await client?.close()
    }
    await this.#report.end()
    this.#conclude()
  }

  async #send(producer: Producer, recordBytesMax: number): Promise<void> {
    const { json } = this.#options
    for await (const items of this.#items(recordBytesMax)) {
      for (const item of items) {
        if (this.#context.interrupt.happened) return
        await this.#sendOne(producer, item)
      }
      if (this.#failed !== undefined || this.#report.anyFailure) {
        if (!json || this.#source.isTerminal) return
        this.#source.closeAfter(restOfInputMs)
      }
      this.#showProgress()
    }
  }

  async #sendOne(producer: Producer, item: InputItem): Promise<void> {
    const report = this.#report
    const index = this.#index++
    if (this.#failed !== undefined || report.anyFailure) report.refused(index, this.#failedBefore())
    else if ('error' in item) {
      this.#failed = item.error
      report.refused(index, item.error)
    } else {
      try {
        const { acknowledged } = await producer.submit(item.record)
        report.submitted(index, acknowledged)
      } catch (error) {
        this.#failed = error
        report.refused(index, error)
      }
    }
    if (report.isFull) await report.room()
  }

  /** Nothing can be sent: says so of every record of the input. */
  async #tellRest(): Promise<void> {
    if (!this.#options.json || this.#source.isTerminal) throw this.#failed
    this.#source.closeAfter(restOfInputMs)
    for await (const items of this.#items(recordBytesMaxUnknown)) {
      for (const _item of items) {
        this.#report.refused(this.#index++, this.#failed)
        if (this.#report.isFull) await this.#report.room()
      }
    }
    // No record at all: it still has failed.
    if (this.#index === 0) throw this.#failed
  }

  #items(recordBytesMax: number): AsyncGenerator<InputItem[]> {
    return readInput(this.#source, { mode: modeOf(this.#options), type: this.#options.type, recordBytesMax })
  }

  #failedBefore(): TidelogError<'FAILED_BEFORE'> {
    return new TidelogError('FAILED_BEFORE', 'a record before it was not acknowledged, so it was not sent', {
      outcome: 'not-written',
      retriable: true,
    })
  }

  #showProgress(): void {
    this.#context.notes.progress(() => {
      const { readBytes, totalBytes } = this.#source
      const bar = totalBytes === undefined ? '' : `${progressBar(readBytes, totalBytes)} `
      return `${bar}${bytesText(readBytes)} read, ${this.#report.acknowledgedCount} records durable`
    })
  }

  #conclude(): void {
    const { acknowledgedCount, firstLsn, lastLsn, firstFailure } = this.#report
    const { notes } = this.#context
    const name = printable(this.#vchannel)
    if (!this.#options.json) {
      const range = acknowledgedCount === 0 ? '' : `, LSN ${firstLsn} to ${lastLsn}`
      notes.line(`${acknowledgedCount} ${acknowledgedCount === 1 ? 'record' : 'records'} durable on ${name}${range}`)
    }
    if (!firstFailure) return
    const { index, error } = firstFailure
    const cut = this.#source.wasCut ? '; the rest of the input was not read' : ''
    throw withPlace(error, `record ${index} of the input (counted from 0) was not acknowledged${cut}`)
  }
}

/** Without a daemon its limit is not known: enough to count lines with. */
const recordBytesMaxUnknown = 16 * 1024 * 1024

function modeOf({ ndjson, raw, envelope }: ProduceOptions): InputMode {
  if (ndjson) return 'ndjson'
  if (raw) return 'raw'
  return envelope ? 'envelope' : 'lines'
}

function isOurs(error: unknown, code: ErrorCode): boolean {
  return error instanceof TidelogError && error.code === (code as string)
}

/** The same failure, of a record that never left. */
function notWritten(error: unknown): unknown {
  if (!(error instanceof TidelogError)) return error
  const { code, message, retriable, cause } = error as TidelogError<ErrorCode>
  return new TidelogError<ErrorCode>(code, message, { retriable, cause, outcome: 'not-written' })
}

/** The same failure, with what it means for the input in front. */
function withPlace(error: unknown, place: string): unknown {
  if (!(error instanceof TidelogError)) return error
  const { code, retriable, outcome, lsn, cause } = error as TidelogError<ErrorCode>
  return new TidelogError<ErrorCode>(code, `${place}: ${error.message}`, { retriable, outcome, lsn, cause })
}
