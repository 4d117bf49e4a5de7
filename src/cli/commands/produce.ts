/**
 * `produce`: records from standard input or a file to one vchannel.
 *
 * What is written is always a beginning of the input: at the first record that is not acknowledged (a bad line, a
 * refusal, a lost connection) nothing more is sent, so that the log never has a hole where the input has none. With
 * `--json` every record of the input gets its line all the same; those behind the first failure are FAILED_BEFORE.
 */
import { type Command, Option } from 'commander'
import type { Client } from '../../client/types.ts'
import { type ErrorCode, TidelogError } from '../../errors.ts'
import { AcknowledgementReport } from '../acknowledgement-report.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { bytesText, progressBar } from '../notes.ts'
import { type InputItem, type InputMode, readInput } from '../produce-input.ts'
import { openSink, type ProduceSink } from '../produce-sink.ts'
import { ProduceSource } from '../produce-source.ts'
import { serverOption } from '../server-address.ts'
import { openClient } from '../server-connection.ts'
import { printable } from '../text-table.ts'
import { parseCount, usageError } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'

interface ProduceOptions {
  server?: string
  lines?: boolean
  ndjson?: boolean
  raw?: boolean
  envelope?: boolean
  type: number
  json?: boolean
  transaction?: boolean
  keyProperty?: string
  producer?: string
  windowLostIsFine?: boolean
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
    .addOption(
      new Option(
        '--transaction',
        'the whole input in one transaction: visible at its end, all of it or nothing',
      ).conflicts(['keyProperty', 'producer']),
    )
    .addOption(
      new Option(
        '--key-property <NAME>',
        'idempotency key of each record: the property of its envelope, or the field of its JSON (--ndjson)',
      ).conflicts('producer'),
    )
    .option(
      '--producer <ID>',
      'exactly once: record n of the input has sequence n of this producer, and what is in the log is not sent again',
    )
    .option('--window-lost-is-fine', 'with --producer: go on although the daemon cannot tell whether it wrote before')
    .option('--json', 'one JSON object a record, in the order of the input, as soon as it is acknowledged')
    .addHelpText(
      'after',
      `
What is written is always a beginning of the input: at the first record that fails, nothing more is sent.
With --json: {"index","vchannel","lsn","timeTick"} for a record that is durable, {"index","error":{"code",
"retriable","outcome":"not-written"|"unknown"}} for one that is not; any of those makes the exit code 1. A record that
was in the log before has "duplicate":true. With --transaction a line has "transaction" and no tick, and the last line is
{"vchannel","transaction","committed":true,"records","lsn","timeTick"}; without it nothing is visible.
${examples(
  'echo hello | tidelog produce greetings',
  'tidelog produce events --ndjson events.ndjson',
  'tidelog consume orders --json --until-caught-up | tidelog produce copy --envelope --json',
  'tidelog produce orders --transaction batch.txt',
  'tidelog produce events --ndjson --key-property id events.ndjson',
  'tidelog produce words --producer loader-7 words.txt    # again after a crash: it goes on where it was',
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
  if (options.keyProperty !== undefined && !options.ndjson && !options.envelope) {
    throw usageError('--key-property takes the key from a JSON field or a property: it wants --ndjson or --envelope')
  }
  if (options.windowLostIsFine && options.producer === undefined) {
    throw usageError('--window-lost-is-fine goes with --producer')
  }
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
  #committed = false

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
    let sink: ProduceSink | undefined
    try {
      client = await openClient(this.#options.server, this.#context)
      sink = await openSink(client, this.#vchannel, this.#options)
      if (this.#source.isTerminal) this.#context.notes.line('One record a line; end with Ctrl-D.')
      await this.#send(sink, client.recordBytesMax)
      await this.#finish(sink)
    } catch (error) {
      // A failure of the connection, the input or the output, not of a record: it stands for all that follow.
      if (this.#index > 0 || isOurs(error, 'USAGE')) throw error
      this.#failed = notWritten(error)
      await this.#tellRest()
    } finally {
      await sink?.abandon()
      await client?.close()
    }
    await this.#report.end()
    this.#conclude()
  }

  /** What is to be done when every record is durable. */
  async #finish(sink: ProduceSink): Promise<void> {
    if (!this.#options.transaction) return
    await this.#report.end()
    if (this.#failed !== undefined || this.#report.anyFailure || this.#context.interrupt.happened) return
    const finished = await sink.finish()
    if (finished === null) return
    this.#committed = true
    if (this.#options.json) await this.#context.out.write(`${JSON.stringify(finished.json)}\n`)
    else this.#context.notes.line(finished.text)
  }

  async #send(sink: ProduceSink, recordBytesMax: number): Promise<void> {
    const { json } = this.#options
    for await (const items of this.#items(recordBytesMax)) {
      for (const item of items) {
        if (this.#context.interrupt.happened) return
        await this.#sendOne(sink, item)
      }
      if (this.#failed !== undefined || this.#report.anyFailure) {
        if (!json || this.#source.isTerminal) return
        this.#source.closeAfter(restOfInputMs)
      }
      this.#showProgress()
    }
  }

  async #sendOne(sink: ProduceSink, item: InputItem): Promise<void> {
    const report = this.#report
    const index = this.#index++
    if (this.#failed !== undefined || report.anyFailure) report.refused(index, this.#failedBefore())
    else if ('error' in item) {
      this.#failed = item.error
      report.refused(index, item.error)
    } else {
      try {
        const { acknowledged } = await sink.submit(item.record)
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
    const { type, keyProperty } = this.#options
    return readInput(this.#source, { mode: modeOf(this.#options), type, keyProperty, recordBytesMax })
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
    const { acknowledgedCount, duplicateCount, firstLsn, lastLsn, firstFailure } = this.#report
    const { notes } = this.#context
    const name = printable(this.#vchannel)
    if (!this.#options.json) {
      const range = firstLsn === undefined ? '' : `, LSN ${firstLsn} to ${lastLsn}`
      const before = duplicateCount === 0 ? '' : `; ${duplicateCount} of them were in the log before`
      const durable = `${acknowledgedCount} ${acknowledgedCount === 1 ? 'record' : 'records'} durable on ${name}${range}`
      if (!this.#options.transaction) notes.line(`${durable}${before}`)
      else if (!this.#committed) notes.line(`nothing of the transaction is or will be visible on ${name}`)
    }
    if (!firstFailure) return
    const { index, error } = firstFailure
    const all = this.#options.transaction ? '; nothing of the transaction is or will be visible' : ''
    const cut = this.#source.wasCut ? '; the rest of the input was not read' : ''
    throw withPlace(error, `record ${index} of the input (counted from 0) was not acknowledged${cut}${all}`)
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
