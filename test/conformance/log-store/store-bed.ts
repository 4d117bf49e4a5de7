/** What the tests of a log store work with: a subject, one log of it opened, and a few words. */
import type {
  AppendedRange,
  LogStore,
  LogStoreOpener,
  LogStoreRecord,
  StoreFrame,
} from '../../../src/log-store/log-store.ts'
import { numberedBody } from '../../log-store/encode-body.ts'

export interface LogStoreSubject {
  /** Each one opens the same logs, as another process would that does not see the first one's locks. */
  opener(): LogStoreOpener
  /** From now on no flush becomes durable until the function that it gives is called. */
  holdFlushes(): () => void
  /** The next flush fails. */
  failNextFlush(): void
  dispose(): Promise<void>
}

export class StoreBed {
  readonly #makeSubject: () => Promise<LogStoreSubject>
  subject!: LogStoreSubject
  /** Log "0", at first opened at owner term 1. */
  store!: LogStore

  constructor(makeSubject: () => Promise<LogStoreSubject>) {
    this.#makeSubject = makeSubject
  }

  /** Before each test. */
  async setUp(): Promise<void> {
    this.subject = await this.#makeSubject()
    this.store = await this.subject.opener().open('0', 1)
  }

  async tearDown(): Promise<void> {
    await this.store.close().catch(() => {})
    await this.subject.dispose()
  }

  /** Records with the payloads `prefix`-0, `prefix`-1, ... as one frame. */
  async append(vchannel: string, prefix: string, count = 1, target = this.store): Promise<AppendedRange> {
    return target.append(await numberedBody(vchannel, prefix, count))
  }
}

export const text = (record: LogStoreRecord) => Buffer.from(record.payload).toString()

export async function collect(frames: AsyncIterable<StoreFrame>): Promise<LogStoreRecord[]> {
  const records: LogStoreRecord[] = []
  for await (const frame of frames) records.push(...frame)
  return records
}

export async function texts(frames: AsyncIterable<StoreFrame>): Promise<string[]> {
  return (await collect(frames)).map(text)
}

/** The frames of `iterator` until `count` records were seen. */
export async function take(iterator: AsyncIterator<StoreFrame>, count: number): Promise<LogStoreRecord[]> {
  const records: LogStoreRecord[] = []
  while (records.length < count) {
    const { value, done } = await iterator.next()
    if (done) break
    records.push(...(value as StoreFrame))
  }
  return records
}

/** Lets everything run that can run without the flush that is held: a bounded number of turns of the event loop. */
export async function settled(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
}
