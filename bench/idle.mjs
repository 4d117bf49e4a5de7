/**
 * What a node costs that has nothing to do: 1,000 pchannels at a tick of 10 ms, without a connection and with one that
 * consumes from all of them. The logs must not be written to; the one lease of the clock, which the data directory has,
 * is stated apart.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { importBuilt } from './harness/build.mjs'
import { DaemonProcess } from './harness/daemon-process.mjs'
import { MIB } from './harness/warm-log.mjs'

const PCHANNELS = 1000
const START_LIMIT_MS = 300_000
/** What an opening has begun (markers, files that are prepared) is over then. */
const SETTLE_MS = 3_000
const USER_HERTZ = 100

const FLAGS = [
  '--pchannels',
  String(PCHANNELS),
  '--segment-bytes',
  '64KiB',
  '--pool-bytes',
  '0',
  '--cache-bytes',
  '1MiB',
]

export const idle = {
  name: 'idle',
  summary: '1,000 idle pchannels at a tick of 10 ms: bytes written and CPU (aim: 0 and below 5 % of a core)',

  /** @param {import('./harness/context.mjs').Context} context */
  async run(context) {
    await context.needs(512 * MIB)
    const data = context.folder('data')
    const daemon = new DaemonProcess(data, { flags: [...FLAGS, '--time-tick-interval', '10ms'] })
    const { connect } = await importBuilt(context.dist, 'src/index.js')
    const { address } = await daemon.listening(START_LIMIT_MS)
    const rows = []
    let ticks = 0
    try {
      const client = await connect(address)
      const names = Array.from({ length: PCHANNELS }, (_, index) => `v${String(index).padStart(4, '0')}`)
      await Promise.all(names.map((name) => client.append(name, { payload: Buffer.alloc(10) })))
      await client.close()
      const measureMs = context.roundMs(60)
      rows.push({ case: 'no connection', ...(await measure(daemon, data, measureMs)) })
      const consuming = await connect(address)
      let records = 0
      const consumer = await consuming.consume(names, { from: 'earliest', onTick: () => ticks++ })
      const reading = (async () => {
        for await (const _ of consumer) records++
      })()
      while (records < PCHANNELS) await new Promise((resolve) => setTimeout(resolve, 10))
      rows.push({ case: 'one consumer of all', ...(await measure(daemon, data, measureMs)) })
      await consuming.close()
      await reading.catch(() => {})
    } finally {
      await daemon.stop()
    }
    context.noteDisk()
    context.show({
      title: `Idle: ${PCHANNELS} pchannels, a tick of 10 ms, ${context.roundMs(60) / 1000} s each`,
      columns,
      rows,
      notes: [
        'CPU: user and system time of the daemon, percent of one core. log files: those of all logs and of the catalog',
        'whose length or time of change is another one at the end. bytes to disk: of the whole process, as the kernel has',
        `them; what is there is the lease of the clock, which the data directory has once. ${ticks} watermarks were told.`,
      ],
    })
  },
}

const columns = [
  { key: 'case', title: 'case', format: 'text' },
  { key: 'cpuPercent', title: 'CPU %', format: 'ratio' },
  { key: 'logFiles', title: 'log files written', format: 'count' },
  { key: 'leaseWrites', title: 'lease writes', format: 'count' },
  { key: 'diskBytes', title: 'bytes to disk', format: 'count' },
  { key: 'rssMib', title: 'RSS MiB', format: 'count' },
]

/** @param {DaemonProcess} daemon @param {string} data @param {number} measureMs */
async function measure(daemon, data, measureMs) {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
  const files = new Map()
  stamps(`${data}/pchannels`, files)
  stamps(`${data}/catalog`, files)
  const before = usage(daemon.pid)
  const lease = leaseStamps(data)
  const began = performance.now()
  let leaseWrites = 0
  let seen = lease
  while (performance.now() - began < measureMs) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    const now = leaseStamps(data)
    if (now !== seen) leaseWrites++
    seen = now
  }
  const tookMs = performance.now() - began
  const after = usage(daemon.pid)
  const later = new Map()
  stamps(`${data}/pchannels`, later)
  stamps(`${data}/catalog`, later)
  let logFiles = 0
  for (const [path, stamp] of later) if (files.get(path) !== stamp) logFiles++
  for (const path of files.keys()) if (!later.has(path)) logFiles++
  return {
    cpuPercent: (100 * (after.cpuMs - before.cpuMs)) / tookMs,
    logFiles,
    leaseWrites,
    diskBytes: after.writtenBytes - before.writtenBytes,
    rssMib: after.rssBytes / MIB,
  }
}

/** Length and time of change of each file. @param {string} directory @param {Map<string, string>} into */
function stamps(directory, into) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = `${directory}/${entry.name}`
    if (entry.isDirectory()) {
      stamps(path, into)
      continue
    }
    const found = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (found !== undefined) into.set(path, `${found.size} ${found.mtimeNs}`)
  }
}

/** Of the files that stand in the data directory itself. @param {string} data */
function leaseStamps(data) {
  const all = []
  for (const entry of readdirSync(data, { withFileTypes: true })) {
    if (!entry.isFile()) continue
    const found = statSync(`${data}/${entry.name}`, { bigint: true, throwIfNoEntry: false })
    if (found !== undefined) all.push(`${entry.name} ${found.size} ${found.mtimeNs}`)
  }
  return all.join('\n')
}

/** @param {number | undefined} pid */
function usage(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  const io = readFileSync(`/proc/${pid}/io`, 'utf8')
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return {
    cpuMs: ((Number(fields[11]) + Number(fields[12])) * 1000) / USER_HERTZ,
    writtenBytes: Number(/^write_bytes: (\d+)/m.exec(io)[1]),
    rssBytes: Number(/^VmRSS:\s+(\d+)/m.exec(status)[1]) * 1024,
  }
}
