/** What a WAL has written, as its store gives it back; and what an append was refused with. */
import { expect } from 'vitest'
import type { LogStore, LogStoreRecord } from '../../src/log-store/log-store.ts'

export const bytes = (text: string) => Buffer.from(text)

export async function records(store: LogStore): Promise<LogStoreRecord[]> {
  const all: LogStoreRecord[] = []
  for await (const frame of store.read({ from: 'earliest' })) all.push(...frame)
  return all
}

export async function texts(store: LogStore): Promise<string[]> {
  return (await records(store)).map(({ payload }) => Buffer.from(payload).toString())
}

export async function refusal(
  promise: Promise<unknown>,
): Promise<{ code?: string; outcome?: string; message: string }> {
  return await promise.then(
    () => expect.fail('it was not refused'),
    (error) => error,
  )
}
