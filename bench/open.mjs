/**
 * How long an open takes with 1, 100 and 1,000 segments of 1 MiB: of a log that was closed, and of one whose process
 * ended without closing it (its directory as it stood right behind the last acknowledgement).
 */
import fs from 'node:fs'
import { makeRecords } from './harness/records.mjs'
import { median } from './harness/statistics.mjs'
import { MIB, openBenchLog } from './harness/warm-log.mjs'

const SEGMENTS = [1, 100, 1000]
const SEGMENT_BYTES = MIB
const RECORDS = makeRecords(64, 1024)
const OPENS_A_ROUND = 3

export const open = {
  name: 'open',
  summary: 'open time with 1, 100 and 1,000 segments of 1 MiB, closed and killed (aim: 1,000 within 1.5 times of 1)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(4096 * MIB)
    const logs = []
    for (const segments of SEGMENTS) {
      const directory = context.folder(`log-${segments}`)
      const killed = context.folder(`killed-${segments}`)
      await build(context, directory, killed, segments)
      logs.push({ segments, directory, killed, closedMs: [], killedMs: [] })
    }
    context.noteDisk()
    const opens = context.rounds * OPENS_A_ROUND
    // In turn, so that all have the same weather. The first turn is not counted.
    for (let turn = -1; turn < opens; turn++) {
      for (const log of logs) {
        const closed = await openOnce(context, log.directory)
        const copy = `${context.directory}/copy`
        copyDirectory(log.killed, copy)
        const killed = await openOnce(context, copy)
        context.remove(copy)
        if (turn < 0) continue
        log.closedMs.push(closed.openMs)
        log.killedMs.push(killed.openMs)
      }
    }
    for (const { directory, killed } of logs) {
      context.remove(directory)
      context.remove(killed)
    }
    const first = logs[0]
    const rows = logs.map(({ segments, closedMs, killedMs }) => ({
      segments,
      closedMs: median(closedMs),
      closedMaxMs: Math.max(...closedMs),
      closedRatio: median(closedMs) / median(first.closedMs),
      killedMs: median(killedMs),
      killedMaxMs: Math.max(...killedMs),
      killedRatio: median(killedMs) / median(first.killedMs),
    }))
    context.show({
      title: `Open time, segments of ${SEGMENT_BYTES / MIB} MiB (medians of ${opens} opens)`,
      columns,
      rows,
      notes: [
        'closed: sealed by close. killed: a copy of the directory taken right behind the last acknowledgement, without',
        'the lock of the living process; its last segment is half full. to 1: against one segment. Aim: 1.5.',
        'How to write was given: the probe, which a new device has once, is not in it.',
      ],
    })
  },
}

const columns = [
  { key: 'segments', title: 'segments', format: 'count' },
  { key: 'closedMs', title: 'closed ms', format: 'milliseconds' },
  { key: 'closedMaxMs', title: 'greatest', format: 'milliseconds' },
  { key: 'closedRatio', title: 'to 1', format: 'ratio' },
  { key: 'killedMs', title: 'killed ms', format: 'milliseconds' },
  { key: 'killedMaxMs', title: 'greatest', format: 'milliseconds' },
  { key: 'killedRatio', title: 'to 1', format: 'ratio' },
]

/** Writes until there are so many segments, the last one half full; leaves a copy of it unclosed, then closes it. */
async function build(context, directory, killed, segments) {
  const opened = await openBenchLog(context, directory, { segmentBytes: SEGMENT_BYTES })
  const { log } = opened
  while (log.statistics().segments < segments) {
    await Promise.all(Array.from({ length: 8 }, () => log.append(RECORDS)))
  }
  for (let batch = 0; batch < 7; batch++) await log.append(RECORDS)
  const found = log.statistics().segments
  // Synchronously behind the acknowledgement: no marker is written in between.
  fs.rmdirSync(killed)
  copyDirectory(directory, killed)
  if (found > segments * 1.02 + 1) throw new Error(`the log has ${found} segments, not ${segments}`)
  await opened.close()
}

async function openOnce(context, directory) {
  const began = performance.now()
  const log = await context.engine.openLog(directory, { writeWay: context.way, segmentBytes: SEGMENT_BYTES })
  const openMs = performance.now() - began
  await log.close()
  return { openMs }
}

/** Sealed segments get a second name, for nothing writes to them; what an open may write to is copied. */
function copyDirectory(from, to) {
  fs.mkdirSync(to)
  const entries = fs.readdirSync(from, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))
  const segments = entries.filter(({ name }) => name.endsWith('.seg'))
  const copied = new Set(segments.slice(-2).map(({ name }) => name))
  for (const entry of entries) {
    const source = `${from}/${entry.name}`
    const target = `${to}/${entry.name}`
    if (entry.name.startsWith('LOCK')) continue
    if (entry.isDirectory()) copyDirectory(source, target)
    else if (/[.](seg|idx)$/.test(entry.name) && !copied.has(entry.name)) fs.linkSync(source, target)
    else fs.copyFileSync(source, target)
  }
}
