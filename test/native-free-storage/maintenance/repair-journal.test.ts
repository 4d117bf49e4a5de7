import { beforeAll, describe, expect, it } from 'vitest'
import { hash64, loadChecksum } from '../../../native-free-storage/index.ts'
import {
  decodeJournal,
  encodeJournal,
  JOURNAL_BYTES_MAX,
  journalName,
  parseJournalName,
  type RepairJournal,
} from '../../../native-free-storage/maintenance/repair-journal.ts'

const journal: RepairJournal = {
  number: 3,
  runMs: 1_700_000_000_000,
  mode: 'tail',
  moved: [
    { name: '00000000000000000007-00000000000000ab.seg', kept: '00000000000000000007-00000000000000ab.seg.0a1b2c3d' },
  ],
  made: ['00000000000000000007-00000000000000cd.seg'],
  stays: ['00000000000000000000-00000000000000ef.seg'],
  publishes: true,
  before: { firstLsn: 0, nextLsn: 9, tailId: '00000000000000ab' },
  after: { firstLsn: 0, nextLsn: 9, tailId: null },
}

/** With a right checksum, whatever it says. */
function signed(value: unknown): Buffer {
  const text = JSON.stringify(value)
  return Buffer.from(`{"checksum":"${hash64(Buffer.from(text)).toString(16).padStart(16, '0')}","journal":${text}}\n`)
}

beforeAll(loadChecksum)

describe('the journal of a repair', () => {
  it('comes back as it was written, under a name with its number', () => {
    expect(decodeJournal(encodeJournal(journal))).toEqual(journal)
    expect(parseJournalName(journalName(3))).toBe(3)
    expect(parseJournalName('REPAIR-3.json')).toBe(null)
  })

  it('is believed only when every bit of it is right', () => {
    const bytes = encodeJournal(journal)
    for (let at = 0; at < bytes.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const changed = Buffer.from(bytes)
        changed[at]! ^= 1 << bit
        expect(decodeJournal(changed), `byte ${at}, bit ${bit}`).toBe(null)
      }
    }
    for (let length = 0; length < bytes.length; length++) expect(decodeJournal(bytes.subarray(0, length))).toBe(null)
  })

  it('names no file outside of the directory, and none of the lock', () => {
    const version = { version: 1, ...journal }
    expect(decodeJournal(signed(version))).toEqual(journal)
    for (const name of [
      '../LEASE',
      'a/b',
      '',
      '.',
      '..',
      '/etc/passwd',
      'LOCK',
      'LOCK.spare',
      'a\u0000b',
      'x'.repeat(300),
      7,
      null,
    ]) {
      expect(decodeJournal(signed({ ...version, made: [name] })), String(name)).toBe(null)
      expect(decodeJournal(signed({ ...version, stays: [name] })), String(name)).toBe(null)
      expect(decodeJournal(signed({ ...version, moved: [{ name, kept: 'a' }] })), String(name)).toBe(null)
      expect(decodeJournal(signed({ ...version, moved: [{ name: 'a', kept: name }] })), String(name)).toBe(null)
    }
    expect(decodeJournal(signed({ ...version, moved: [{ name: 'a', kept: journalName(1) }] }))).toBe(null)
    expect(decodeJournal(signed({ ...version, version: 2 }))).toBe(null)
    expect(decodeJournal(signed({ ...version, after: { ...journal.after, nextLsn: -1 } }))).toBe(null)
    expect(decodeJournal(signed(null))).toBe(null)
  })

  it('is bounded', () => {
    expect(decodeJournal(Buffer.alloc(JOURNAL_BYTES_MAX + 1, 0x20))).toBe(null)
    const made = Array.from({ length: 200_001 }, (_, index) => `f${index}`)
    expect(decodeJournal(signed({ version: 1, ...journal, made }))).toBe(null)
  })
})
