/**
 * A log of 1,000,000 stored time ticks between 1,000 messages: its size and the time of a catch-up read, before and behind
 * compaction, in one run. The files are in the page cache.
 */
import fs from 'node:fs'
import { makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog } from './harness/warm-log.mjs'

const MESSAGES = 1_000
const TICKS = 1_000_000
const TICKS_A_MESSAGE = TICKS / MESSAGES
const RECORD_BYTES = 1024

export const compact = {
  name: 'compact',
  summary: '1,000,000 stored ticks between 1,000 messages: size and catch-up before and behind compaction',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(1024 * MIB)
    const directory = context.folder('log')
    await write(context, directory)
    const rows = []
    rows.push({ log: 'before', ...(await look(context, directory)) })
    const began = performance.now()
    const report = await context.engine.compactLog(context.engine.nodeEnvironment(), directory)
    const compactMs = performance.now() - began
    rows.push({ log: 'compacted', ...(await look(context, directory)) })
    const [before, after] = rows
    const count = (value) => value.toLocaleString('en')
    context.show({
      title: `${count(report.tickFramesBefore)} stored ticks between ${count(MESSAGES)} messages of ${RECORD_BYTES} B (medians of ${context.rounds} rounds)`,
      columns,
      rows,
      notes: [
        `${count(report.tickFramesAfter)} ticks are left. It took ${Math.round(compactMs)} ms, and read ${Math.round(report.bytesBefore / MIB)} MiB.`,
        `Size: 1/${(before.bytes / after.bytes).toFixed(1)}. Catch-up: 1/${(before.catchUpMs / after.catchUpMs).toFixed(1)}.`,
        'Ticks were appended 1,000 at a time and share flushes; a tick that is stored alone takes 512 B, not 96.',
      ],
    })
    context.remove(directory)
  },
}

const columns = [
  { key: 'log', title: 'log', format: 'text' },
  { key: 'bytes', title: 'MB', format: 'megabytes' },
  { key: 'segments', title: 'segments', format: 'count' },
  { key: 'catchUpMs', title: 'catch-up ms', format: 'milliseconds' },
  { key: 'tickReadMs', title: 'with ticks ms', format: 'milliseconds' },
]

async function write(context, directory) {
  const records = makeRecords(64, RECORD_BYTES)
  const options = { compaction: { enabled: false } }
  const opened = await openBenchLog(context, directory, options)
  const { log } = opened
  for (let message = 0; message < MESSAGES; message++) {
    const appended = [log.append([records[message % records.length]])]
    for (let tick = 0; tick < TICKS_A_MESSAGE; tick++) appended.push(log.appendTick())
    await Promise.all(appended)
  }
  await opened.close()
  // The last segment is never compacted: this one is nearly empty.
  const again = await openBenchLog(context, directory, options)
  await again.log.append([records[0]])
  await again.close()
}

/** Size of the segment files, and how long a read from the beginning takes. */
async function look(context, directory) {
  const names = fs.readdirSync(directory).filter((name) => name.endsWith('.seg'))
  const bytes = names.reduce((sum, name) => sum + fs.statSync(`${directory}/${name}`).size, 0)
  const opened = await openBenchLog(context, directory, { compaction: { enabled: false } })
  const plain = []
  const ticked = []
  // The first round is not counted.
  for (let round = -1; round < context.rounds; round++) {
    const found = [await catchUp(opened.log, false), await catchUp(opened.log, true)]
    for (const { records } of found) {
      if (records !== MESSAGES + 1) throw new Error(`${records} records were read of ${MESSAGES + 1}`)
    }
    if (round < 0) continue
    plain.push(found[0].ms)
    ticked.push(found[1].ms)
  }
  await opened.close()
  return { bytes, segments: names.length, catchUpMs: median(plain), tickReadMs: median(ticked) }
}

async function catchUp(log, ticks) {
  const began = performance.now()
  let records = 0
  for await (const frame of log.read({ ticks })) records += frame.recordCount
  return { records, ms: performance.now() - began }
}
