/**
 * What the WAL's pipeline costs: the same appends on the bare engine and on a WAL with all its built-in stages (limits,
 * exclusive lock, deduplication, transactions), one after the other in each round, on logs of the same kind.
 */
import { mkdirSync } from 'node:fs'
import { importBuilt } from './harness/build.mjs'
import { measureInFlight } from './harness/in-flight.mjs'
import { makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog, SEGMENT_BYTES, warmUp } from './harness/warm-log.mjs'

const BATCH_RECORDS = 1024
const CASES = [
  { kind: 'batch', recordBytes: 100, records: BATCH_RECORDS, inFlight: 8 },
  { kind: 'batch', recordBytes: 1024, records: BATCH_RECORDS, inFlight: 8 },
  { kind: 'batch', recordBytes: 100, records: 16, inFlight: 512 },
  { kind: 'single', recordBytes: 100, records: 1, inFlight: 1024 },
  { kind: 'single', recordBytes: 1024, records: 1, inFlight: 1024 },
  { kind: 'single, with a key', recordBytes: 100, records: 1, inFlight: 1024 },
]
const RETENTION = { bytes: 256 * MIB }

export const pipeline = {
  name: 'pipeline',
  summary: 'the WAL with all its stages against the bare engine (aim: 0.8 of its batch append rate)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(1024 * MIB)
    const roundMs = context.roundMs(1)
    const { openWal } = await importBuilt(context.dist, 'src/wal/index.js')
    const bare = await openBenchLog(context, context.folder('log'), { retention: RETENTION })
    const wal = await openBenchWal(context, openWal, context.folder('wal'))
    await warmUp(bare)
    await warmUp({ log: wal.asLog, settled: wal.settled })
    context.noteDisk()

    const rows = []
    for (const one of CASES) {
      const records = makeRecords(Math.max(1024, one.records * 4), one.recordBytes)
      const rounds = []
      for (let round = 0; round < context.rounds; round++) {
        const engine = await measure(bare, engineAppends(bare.log, records, one), one, roundMs)
        const ours = await measure(wal, walAppends(wal.wal, records, one), one, roundMs)
        rounds.push({ engine, ours, ratio: ours.recordsPerSecond / engine.recordsPerSecond })
      }
      const of = (value) => median(rounds.map(value))
      rows.push({
        kind: one.kind,
        recordBytes: one.recordBytes,
        records: one.records,
        inFlight: one.inFlight,
        engine: of(({ engine }) => engine.recordsPerSecond),
        wal: of(({ ours }) => ours.recordsPerSecond),
        ratio: of(({ ratio }) => ratio),
        engineP50Ms: of(({ engine }) => engine.p50Ms),
        walP50Ms: of(({ ours }) => ours.p50Ms),
      })
    }
    context.noteDisk()
    await wal.close()
    await bare.close()
    context.show({
      title: `Appends on the engine and on the WAL (medians of ${context.rounds} rounds of ${roundMs / 1000} s)`,
      columns,
      rows,
      notes: [
        'a call: records of one append. ratio: the median of the rounds, each against the engine beside it.',
        'With a key each record is looked up and remembered: the engine beside it appends the same records without one.',
      ],
    })
  },
}

const columns = [
  { key: 'kind', title: 'appends', format: 'text' },
  { key: 'recordBytes', title: 'record B', format: 'count' },
  { key: 'records', title: 'a call', format: 'count' },
  { key: 'inFlight', title: 'calls in flight', format: 'count' },
  { key: 'engine', title: 'engine records/s', format: 'count' },
  { key: 'wal', title: 'WAL records/s', format: 'count' },
  { key: 'ratio', title: 'ratio', format: 'ratio' },
  { key: 'engineP50Ms', title: 'engine p50 ms', format: 'milliseconds' },
  { key: 'walP50Ms', title: 'WAL p50 ms', format: 'milliseconds' },
]

async function openBenchWal(context, openWal, directory) {
  const { engine } = context
  const environment = engine.nodeEnvironment()
  mkdirSync(directory, { recursive: true })
  const pool = await engine.openFilePool(environment, directory)
  const wal = await openWal(directory, {
    environment,
    pool,
    segmentBytes: SEGMENT_BYTES,
    writeWay: context.way,
    retention: RETENTION,
  })
  return {
    wal,
    asLog: { append: (records) => wal.append(records), statistics: () => ({}) },
    settled: () => pool.settled(),
    async close() {
      await wal.close()
      await pool.close()
    },
  }
}

function batchesOf(records, count) {
  const batches = []
  for (let at = 0; at + count <= records.length; at += count) batches.push(records.slice(at, at + count))
  return batches
}

function engineAppends(log, records, one) {
  const calls = batchesOf(records, one.records)
  let next = 0
  return () => log.append(calls[next++ % calls.length])
}

let keys = 0

function walAppends(wal, records, one) {
  let next = 0
  if (one.records > 1) {
    const calls = batchesOf(records, one.records)
    return () => wal.append(calls[next++ % calls.length])
  }
  if (one.kind === 'single') return () => wal.append(records[next++ % records.length])
  return () => wal.append(records[next++ % records.length], { idempotencyKey: `key ${keys++}` })
}

async function measure(opened, start, one, roundMs) {
  await opened.settled()
  const measured = await measureInFlight({
    start,
    inFlight: one.inFlight,
    warmMs: roundMs * 0.3,
    measureMs: roundMs,
    statistics: () => ({}),
  })
  return {
    recordsPerSecond: (measured.appends * one.records * 1000) / measured.ms,
    p50Ms: measured.latencies.percentile(0.5),
  }
}
