/** A thing that a user can do with a WAL: done to the WAL on its disk, and to a list in memory. */
import type fc from 'fast-check'
import { expect } from 'vitest'
import { MessageType } from '../../src/message/message-type.ts'
import type { WalModel } from './wal-model.ts'

export interface WalCommand extends fc.AsyncCommand<WalModel, WalModel> {
  run(model: WalModel): Promise<void>
}

/** What is appended: LSN and payload come at the time. */
export interface Drawn {
  vchannel: string
  type: number
  bytes: number
}

/** Longer than the keepalive of a short transaction, and than no other wait of a run. */
export const LAPSE_MS = 120_000
export const HOUR_MS = 3_600_000

export function pick<T>(list: readonly T[], share: number): T | undefined {
  return list[Math.floor((share * list.length) / 1_000)]
}

export function messageOf(model: WalModel, { vchannel, type, bytes }: Drawn) {
  const text = model.text(bytes)
  const header = type === MessageType.insert ? { collection_id: 7, partitions: [{ rows: 1 }] } : undefined
  return { expected: { vchannel, type, text }, message: { vchannel, type, header, payload: Buffer.from(text) } }
}

/** An error with one of these codes. */
export const withCode = (...codes: string[]) => expect.objectContaining({ code: expect.toBeOneOf(codes) })

export abstract class WalStep implements WalCommand {
  abstract act(model: WalModel): Promise<void>

  check(_model: Readonly<WalModel>): boolean {
    return true
  }

  /** Whether the whole list is compared behind it, and not only at the next command that says so. */
  get looks(): boolean {
    return false
  }

  async run(model: WalModel): Promise<void> {
    await this.act(model)
    model.watermark()
    if (this.looks) await model.verify()
  }
}
