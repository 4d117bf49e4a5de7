/** Producers that go on until they are stopped, and what became of each record: compared with what is read later. */
import { expect } from 'vitest'
import type { Client } from '../../src/client/types.ts'

export interface Outcomes {
  /** LSN of each payload that was acknowledged. */
  lsns: Map<string, number>
  /** Everything below may have been truncated. */
  floor: number
  /** Payloads, in the order in which they were acknowledged. */
  acknowledged: string[]
  notWritten: string[]
  unknown: string[]
  /** By code. */
  errors: Map<string, { code: string; message: string; retriable: boolean; outcome: string | undefined }>
}

export class FaultLedger {
  readonly #vchannels = new Map<string, Outcomes>()
  #running: Promise<void>[] = []
  #stopping = false
  #count = 0

  of(vchannel: string): Outcomes {
    let outcomes = this.#vchannels.get(vchannel)
    if (outcomes === undefined) {
      outcomes = { lsns: new Map(), floor: 0, acknowledged: [], notWritten: [], unknown: [], errors: new Map() }
      this.#vchannels.set(vchannel, outcomes)
    }
    return outcomes
  }

  /** Appends one record; false when it was not acknowledged. */
  async append(client: Client, vchannel: string, bytes = 100): Promise<boolean> {
    const outcomes = this.of(vchannel)
    const name = `${vchannel}/${this.#count++}/`
    try {
      const { lsn } = await client.append(vchannel, { payload: Buffer.from(name.padEnd(bytes, '.')) })
      outcomes.acknowledged.push(name)
      outcomes.lsns.set(name, lsn)
      return true
    } catch (error) {
      const { code, message, retriable, outcome } = error as {
        code: string
        message: string
        retriable: boolean
        outcome?: string
      }
      outcomes.errors.set(code, { code, message, retriable, outcome })
      if (outcome === 'not-written') outcomes.notWritten.push(name)
      else outcomes.unknown.push(name)
      return false
    }
  }

  /** `producers` appends at a time, until `stop`. */
  produce(client: Client, vchannel: string, { producers = 4, bytes = 100 } = {}): void {
    for (let index = 0; index < producers; index++) {
      this.#running.push(
        (async () => {
          while (!this.#stopping) {
            // A refusal is answered at once: other work has to get its turn.
            if (!(await this.append(client, vchannel, bytes))) await new Promise((resolve) => setImmediate(resolve))
          }
        })(),
      )
    }
  }

  /** Settles when every append is settled. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
    this.#running = []
    this.#stopping = false
  }

  /** All that was acknowledged is there, once; nothing that was refused is; nothing that was never sent. */
  async compare(client: Client): Promise<void> {
    for (const [vchannel, { lsns, floor, acknowledged, notWritten, unknown }] of this.#vchannels) {
      const read: string[] = []
      for await (const { payload } of client.consume(vchannel, { untilCaughtUp: true })) {
        read.push(Buffer.from(payload).toString().replace(/\.*$/, ''))
      }
      const there = new Set(read)
      expect(read.length, `${vchannel}: a record is there twice`).toBe(there.size)
      expect(
        acknowledged.filter((name) => !there.has(name) && lsns.get(name)! >= floor),
        `${vchannel}: acknowledged and lost`,
      ).toEqual([])
      expect(
        notWritten.filter((name) => there.has(name)),
        `${vchannel}: refused and there`,
      ).toEqual([])
      const sent = new Set([...acknowledged, ...unknown])
      expect(
        read.filter((name) => !sent.has(name)),
        `${vchannel}: never sent`,
      ).toEqual([])
    }
  }
}
