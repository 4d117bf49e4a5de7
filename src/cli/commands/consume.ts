/** `consume`: prints the records of vchannels, from a position on, and follows. */
import { type Command, Option } from 'commander'
import type { Client, ConsumedRecord, ConsumePosition, RecordPosition } from '../../client/types.ts'
import { nearNames } from '../../daemon/units.ts'
import { TidelogError } from '../../errors.ts'
import { type CommandContext, examples } from '../command-context.ts'
import { CursorFile } from '../cursor-file.ts'
import { didYouMean } from '../did-you-mean.ts'
import { formatHelp, parseFormatTemplate } from '../format-template.ts'
import { isBefore, placeOfLast, type RecordPlace } from '../last-records.ts'
import { LowestTick } from '../lowest-tick.ts'
import { parseTypes } from '../message-types.ts'
import { encodeEnvelope } from '../record-envelope.ts'
import { serverOption } from '../server-address.ts'
import { withClient } from '../server-connection.ts'
import { parseStartPosition, type StartPosition } from '../start-position.ts'
import { parseCount, parseTick, usageError } from '../usage-error.ts'
import { requireVchannelName } from '../vchannel-argument.ts'

interface ConsumeOptions {
  server?: string
  from: string
  untilCaughtUp?: boolean
  limit?: number
  wait?: boolean
  json?: boolean
  format?: string
  types?: number[]
  afterTick?: bigint
  ticks?: boolean
  ticksEvery?: number
  state?: string
}

type Piece = string | Uint8Array

/** How often `--wait` asks for a vchannel that does not exist yet: first, and at most. */
const waitMs = { least: 50, most: 1000 }

export function addConsume(program: Command, context: CommandContext): void {
  program
    .command('consume')
    .description('print the records of vchannels: from the earliest on, and following')
    .argument('<vchannel...>', 'one or more')
    .addOption(serverOption())
    .option('--from <POSITION>', 'earliest, latest, last:N, lsn:N, tick:T or an ISO time', 'earliest')
    .option('--until-caught-up', 'end when everything that was durable at the start has been printed')
    .option('--limit <N>', 'end after N records', (text) => parseCount(text, '--limit'))
    .option('--wait', 'wait for a vchannel that does not exist yet')
    .option('--types <LIST>', 'only these, by number or by name: 2,3,ManualFlush', parseTypes)
    .option('--after-tick <T>', 'only what has a greater time tick', (text) => parseTick(text, '--after-tick'))
    .option(
      '--ticks',
      'with --json: also {"tick"} lines; every record with such a tick or a lower one stands before it',
    )
    .option('--ticks-every <MS>', 'at most one of them in so many milliseconds', (text) =>
      parseCount(text, '--ticks-every', 86_400_000),
    )
    .option('--state <FILE>', 'keeps the place in FILE: started again, it goes on behind the last printed record')
    .addOption(new Option('--json', 'one JSON object a record').conflicts('format'))
    .option('--format <TEMPLATE>', 'percent verbs, as in kcat; nothing is added behind a record')
    .addHelpText(
      'after',
      `
Without --json and --format: the payload and a line feed, byte for byte.
--json: {"vchannel","lsn","timeTick","type","properties","payload","position"}, or "payloadBase64" where it is not
UTF-8. Records of a transaction come one after the other, with "transaction" and the tick of its commit. "position" is
where to go on behind the record.
last:N is the last N records of each vchannel. lsn:N, tick:T and a time mean "at or after"; a time without an
offset is local time. With --wait and --until-caught-up, a vchannel that does not exist holds nothing.
With --state, --from counts for vchannels that FILE does not name yet. A death at any moment, SIGKILL too, leaves nothing
out; it repeats at most what was printed and not noted yet.

${formatHelp}
${examples(
  'tidelog consume orders --from last:10',
  'tidelog consume orders refunds --from 2026-01-31T12:00:00Z --until-caught-up --json | jq .payload',
  "tidelog consume orders --format '%t %o %T %s\\n'",
  'tidelog consume orders --state orders.state --json >> orders.ndjson',
  'tidelog consume orders --types Insert,Delete --after-tick 463856467968163841 --ticks --ticks-every 1000 --json',
)}`,
    )
    .action((vchannels: string[], options: ConsumeOptions) => runConsume(vchannels, options, context))
}

async function runConsume(names: string[], options: ConsumeOptions, context: CommandContext): Promise<void> {
  for (const name of names) requireVchannelName(name)
  if ((options.ticks || options.ticksEvery !== undefined) && !options.json) {
    throw usageError('--ticks and --ticks-every print lines of JSON: they go with --json')
  }
  const run = new ConsumeRun([...new Set(names)], options, context)
  if (options.limit === 0) return
  const unwatch = options.untilCaughtUp ? () => {} : await context.out.watchReader()
  try {
    await withClient(options.server, context, (client) => run.run(client))
  } finally {
    unwatch()
  }
}

class ConsumeRun {
  readonly #names: readonly string[]
  readonly #options: ConsumeOptions
  readonly #context: CommandContext
  readonly #start: StartPosition
  readonly #print: (record: ConsumedRecord) => Piece[]
  /** The limit is reached, or another stream failed. */
  readonly #done = new AbortController()
  readonly #stop: AbortSignal
  /** Of all streams; null: ticks are not wanted. */
  readonly #ticks: LowestTick | null
  #cursor: CursorFile | null = null
  #left: number

  constructor(names: readonly string[], options: ConsumeOptions, context: CommandContext) {
    this.#names = names
    this.#options = options
    this.#context = context
    this.#start = parseStartPosition(options.from)
    this.#print = printer(options)
    this.#left = options.limit ?? Number.POSITIVE_INFINITY
    const wantsTicks = options.ticks === true || options.ticksEvery !== undefined
    this.#ticks = wantsTicks
      ? new LowestTick((tick) => {
          // Bounded by the ticks of one turn: the next record waits for the output.
          context.out.write(`{"tick":"${tick}"}\n`)?.catch(() => {})
        })
      : null
    this.#stop = AbortSignal.any([this.#done.signal, context.interrupt.signal, context.out.gone])
  }

  async run(client: Client): Promise<void> {
    try {
      await this.#openCursor()
      const { known, unknown } = await lookUp(client, this.#names, this.#stop)
      if (unknown.length > 0 && !this.#options.wait) throw await unknownError(client, unknown)
      const streams = await this.#streams(client, known)
      if (unknown.length > 0 && !this.#options.untilCaughtUp) streams.push(this.#waitFor(client, unknown))
      await Promise.all(streams.map((stream) => this.#endAllOnFailure(stream)))
    } catch (error) {
      // Why it was stopped is known: the limit, Ctrl-C, or nobody reads any more.
      if (!this.#stop.aborted || this.#failure) throw this.#failure ?? error
    } finally {
      await this.#cursor?.close()
    }
  }

  async #openCursor(): Promise<void> {
    const { state, types } = this.#options
    if (state === undefined) return
    const { out } = this.#context
    this.#cursor = await CursorFile.open(state, types, async () => {
      await out.flush()
      return !out.gone.aborted
    })
  }

  /** With a state each group is a stream of its own, and so is each place at which its vchannels go on. */
  async #streams(client: Client, known: ReadonlyMap<string, number>): Promise<Promise<void>[]> {
    const cursor = this.#cursor
    if (cursor === null)
      return [this.#stream(client, [...known.keys()], await this.#position(client, [...known.keys()]))]
    const parts = new Map<string, { vchannels: string[]; at: RecordPosition | undefined }>()
    for (const [vchannel, group] of known) {
      const at = cursor.positionOf(vchannel)
      const key = JSON.stringify([group, at?.lsn, at?.skip])
      const part = parts.get(key)
      if (part === undefined) parts.set(key, { vchannels: [vchannel], at })
      else part.vchannels.push(vchannel)
    }
    const begins: [string[], ReadFrom][] = []
    for (const { vchannels, at } of parts.values()) {
      begins.push([vchannels, at === undefined ? await this.#position(client, vchannels) : { from: at }])
    }
    return begins.map(([vchannels, from]) => this.#stream(client, vchannels, from))
  }

  #failure: unknown

  async #endAllOnFailure(stream: Promise<void>): Promise<void> {
    try {
      await stream
    } catch (error) {
      if (!this.#stop.aborted) this.#failure = error
      this.#done.abort()
      throw error
    }
  }

  async #stream(client: Client, vchannels: readonly string[], position: ReadFrom): Promise<void> {
    if (vchannels.length === 0) return
    const { types, afterTick, ticksEvery } = this.#options
    const ticks = this.#ticks?.add()
    const stream = client.consume(vchannels, {
      from: position.from,
      untilCaughtUp: this.#options.untilCaughtUp === true,
      types,
      afterTick,
      ticksEveryMs: ticksEvery,
      onTick: ticks === undefined ? undefined : (tick) => ticks.raise(tick),
      signal: this.#stop,
      onGap: ({ firstLsn, count, reason }) => {
        this.#context.notes.line(`note: LSN ${firstLsn} to ${firstLsn + count - 1} hold no records (${reason})`)
      },
    })
    for await (const record of stream) {
      const notBefore = position.notBefore?.get(record.vchannel)
      if (notBefore !== undefined && isBefore(record, notBefore)) continue
      for (const piece of this.#print(record)) {
        const behind = this.#context.out.write(piece)
        if (behind !== undefined) await behind
      }
      this.#cursor?.note(vchannels, record.position)
      if (--this.#left <= 0) {
        this.#done.abort()
        return
      }
    }
  }

  /** Where to begin; with `last:N`, the places from which on each vchannel counts. */
  async #position(client: Client, vchannels: readonly string[]): Promise<ReadFrom> {
    if (this.#start.kind === 'at') return { from: this.#start.position }
    const notBefore = new Map<string, RecordPlace>()
    for (const vchannel of vchannels) {
      const options = { types: this.#options.types, signal: this.#stop }
      const place = await placeOfLast(client, vchannel, this.#start.count, options)
      if (place !== null) notBefore.set(vchannel, place)
    }
    if (this.#start.count === 0) return { from: 'latest' }
    // A vchannel without records has nothing to leave out, wherever the others begin.
    const [least] = [...notBefore.values()].map(({ timeTick }) => timeTick).sort((a, b) => (a < b ? -1 : 1))
    return least === undefined ? { from: 'earliest' } : { from: { timeTick: least }, notBefore }
  }

  /** Reads those that do not exist yet from their first record on: it comes after the start of the command. */
  async #waitFor(client: Client, names: readonly string[]): Promise<void> {
    this.#context.notes.line(`Waiting for ${names.join(', ')} ...`)
    const streams: Promise<void>[] = []
    let missing = names
    let delayMs = waitMs.least
    while (missing.length > 0) {
      await aborted(this.#stop, delayMs)
      delayMs = Math.min(waitMs.most, delayMs * 2)
      const { known, unknown } = await lookUp(client, missing, this.#stop)
      missing = unknown
      const from = this.#start.kind === 'at' && this.#start.position !== 'latest' ? this.#start.position : 'earliest'
      for (const vchannels of this.#cursor === null ? [[...known.keys()]] : byGroup(known)) {
        streams.push(this.#endAllOnFailure(this.#stream(client, vchannels, { from })))
      }
    }
    await Promise.all(streams)
  }
}

interface ReadFrom {
  from: ConsumePosition
  notBefore?: ReadonlyMap<string, RecordPlace>
}

function printer(options: ConsumeOptions): (record: ConsumedRecord) => Piece[] {
  if (options.json) return (record) => [`${encodeEnvelope(record)}\n`]
  if (options.format !== undefined) return parseFormatTemplate(options.format)
  return (record) => [record.payload, '\n']
}

async function lookUp(
  client: Client,
  names: readonly string[],
  signal: AbortSignal,
): Promise<{ known: Map<string, number>; unknown: string[] }> {
  /** Each with its group. */
  const known = new Map<string, number>()
  const unknown: string[] = []
  for (const name of names) {
    try {
      known.set(name, (await client.vchannel(name, { signal })).group)
    } catch (error) {
      if (!(error instanceof TidelogError) || (error.code as string) !== 'VCHANNEL_UNKNOWN') throw error
      unknown.push(name)
    }
  }
  return { known, unknown }
}

function byGroup(known: ReadonlyMap<string, number>): string[][] {
  const groups = new Map<number, string[]>()
  for (const [name, group] of known) {
    const names = groups.get(group)
    if (names === undefined) groups.set(group, [name])
    else names.push(name)
  }
  return [...groups.values()]
}

async function unknownError(client: Client, unknown: readonly string[]): Promise<TidelogError<'VCHANNEL_UNKNOWN'>> {
  const known = (await client.vchannels()).map(({ name }) => name)
  const parts = unknown.map((name) => {
    const hint = didYouMean(nearNames(name, known))
    return `there is no vchannel ${JSON.stringify(name)}${hint ? `; ${hint}` : ''}`
  })
  return new TidelogError('VCHANNEL_UNKNOWN', parts.join('\n'))
}

/** Waits; throws ABORTED when the signal comes first. */
function aborted(signal: AbortSignal, delayMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const stopped = () => {
      clearTimeout(timer)
      reject(new TidelogError('ABORTED', 'stopped while waiting for a vchannel', { cause: signal.reason }))
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', stopped)
      resolve()
    }, delayMs)
    if (signal.aborted) stopped()
    else signal.addEventListener('abort', stopped, { once: true })
  })
}
