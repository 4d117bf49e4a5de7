/**
 * States of WALs as version 1 of their encoding has them (FORMAT 12.1): the content of snapshots. They never change: every
 * later version reads them, and as long as 1 is the one that is written, the same bytes come out. Each is a description (`.json`) and the bytes (`.hex`, see hex-dump.ts). The description says
 * of which log it is the state, and what stands in the bytes; `"5n"` is a bigint.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { loadChecksum } from '../../../native-free-storage/index.ts'
import { defaultKeyWindow, type KeyWindow } from '../../../src/wal/deduplication/key-table.ts'
import type { Effect } from '../../../src/wal/effect.ts'
import { WalState } from '../../../src/wal/state/wal-state.ts'
import { formatHexDump, parseHexDump } from '../../native-free-storage/format/hex-dump.ts'
import { type DocumentedState, readDocumentedState } from './documented-state.ts'

const directory = new URL('../../golden/v1-wal-state/', import.meta.url)

interface Description {
  about: string
  keyWindow: Partial<KeyWindow>
  /** The state was lost up to here; null: it begins with the log. */
  lost: { lsn: number; timeTick: bigint } | null
  frames: { baseLsn: number; baseTimeTick: bigint; effects: Effect[] }[]
  state: DocumentedState
}

const names = readdirSync(directory)
  .filter((name) => name.endsWith('.json'))
  .map((name) => name.slice(0, -'.json'.length))

function described(name: string): Description {
  return JSON.parse(readFileSync(new URL(`${name}.json`, directory), 'utf8'), (_key, value: unknown) =>
    typeof value === 'string' && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value,
  )
}

function bytesOf(name: string): Buffer {
  return parseHexDump(readFileSync(new URL(`${name}.hex`, directory), 'utf8'))
}

/** From the records, as it is when they are appended or read back. */
function made({ keyWindow, lost, frames }: Description): WalState {
  const window = { ...defaultKeyWindow, ...keyWindow }
  const state = lost === null ? WalState.empty(window) : WalState.lost(lost.lsn, lost.timeTick, window)
  for (const { effects, baseLsn, baseTimeTick } of frames) state.apply(effects, baseLsn, baseTimeTick)
  return state
}

beforeAll(loadChecksum)

describe('golden states of a WAL, version 1', () => {
  it('have every kind of state in them', () => {
    const states = names.map((name) => described(name).state)
    const outcomes = new Set(states.flatMap(({ ended }) => ended.map(({ outcome }) => outcome)))
    expect([...outcomes].sort()).toEqual([0, 1, 2])
    const sequences = states.flatMap(({ producers }) => producers.map(({ lastSequence }) => lastSequence))
    expect([-1, 0, 1].every((sign) => sequences.some((sequence) => Math.sign(sequence) === sign))).toBe(true)
    const horizons = states.flatMap(({ keys, keyFloor }) => keys.map(({ horizon }) => horizon > keyFloor))
    expect(new Set(horizons)).toEqual(new Set([true, false]))
    const parts = states.map(({ open, spans, lostBelow, keyFloor, producers, keys }) => {
      const windows = producers.flatMap(({ window }) => window)
      return [open.length, spans.length, lostBelow, Number(keyFloor), windows.length, keys.length]
    })
    for (const index of parts[0]!.keys()) expect(parts.some((counts) => counts[index]! > 0)).toBe(true)
  })

  it.each(names)('%s is what the document says that it is', (name) => {
    expect(readDocumentedState(bytesOf(name))).toEqual(described(name).state)
  })

  it.each(names)('%s is read, and is the state of its log', (name) => {
    const description = described(name)
    const window = { ...defaultKeyWindow, ...description.keyWindow }
    const state = WalState.decode(bytesOf(name), window)
    // Compared in the form of today, whatever its version.
    expect(formatHexDump(state.encode())).toBe(formatHexDump(made(description).encode()))
    for (const { outcome, ...ended } of description.state.ended) {
      const names = ['committed', 'rolled-back', 'exclusive', 'expired']
      const { lsn, timeTick, transaction } = ended
      expect(state.transactions.ended(transaction)).toMatchObject({ outcome: names[outcome], lsn, timeTick })
    }
  })

  it.each(names)('%s is written byte by byte the same', (name) => {
    expect(formatHexDump(made(described(name)).encode())).toBe(formatHexDump(bytesOf(name)))
  })
})
