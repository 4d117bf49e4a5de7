#!/usr/bin/env node
// What single steps of the hot paths cost, without a disk (tinybench). bench/README.md.
import os from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Bench } from 'tinybench'
import { importBuilt } from '../harness/build.mjs'
import { printLoad } from '../harness/machine.mjs'
import { makeRecords } from '../harness/records.mjs'
import { printTable } from '../harness/table.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '0.3' },
    dist: { type: 'string', default: join(here, '..', '..', 'dist') },
    help: { type: 'boolean', short: 'h' },
  },
})
if (options.help) {
  console.log(`npm run bench:micro -- [PART OF A NAME…] [--seconds N] [--dist DIR]`)
  process.exit(0)
}

const dist = resolve(options.dist)
const built = (file) => importBuilt(dist, `${file}.js`)
const { planBody } = await built('native-free-storage/format/body-plan')
const { writeBody } = await built('native-free-storage/format/body-writer')
const { openBodyHead, verifySection } = await built('native-free-storage/format/body-head')
const { hash64, loadChecksum } = await built('native-free-storage/format/checksum')
const { decodeFrameHeader, encodeFrameHeader, FrameKind } = await built('native-free-storage/format/frame-header')
const { SegmentIndexBuilder } = await built('native-free-storage/segment/sparse-index')
const message = await built('src/protocol/message')
const produce = await built('src/protocol/produce-messages')
await loadChecksum()

const KIB = 1024
const MIB = 1024 * KIB
/** @type {{ name: string, bytes?: number, count?: number, run: () => unknown }[]} */
const cases = []

for (const bytes of [96, KIB, 16 * KIB, 256 * KIB, MIB, 4 * MIB]) {
  const source = Buffer.alloc(bytes, 0x5a)
  cases.push({ name: `hash64 of ${sizeOf(bytes)}`, bytes, run: () => hash64(source) })
}

const properties = { id: '4711', source: 'bench' }
const bodies = [
  { what: '1 record of 100 B', records: makeRecords(1, 100) },
  { what: '1,024 records of 100 B', records: makeRecords(1024, 100) },
  { what: '1,024 records of 1 KiB', records: makeRecords(1024, KIB) },
  { what: '64 records of 16 KiB', records: makeRecords(64, 16 * KIB) },
  { what: '1,024 of 100 B, properties', records: makeRecords(1024, 100).map((record) => ({ ...record, properties })) },
  { what: '1,024 of 100 B, 1,000 names', records: makeRecords(1024, 100, (index) => `tenant-${index % 1000}`) },
]
for (const { what, records } of bodies) {
  const plan = planBody(records)
  const target = Buffer.alloc(plan.bodyBytes)
  const bodyHash = writeBody(plan, target, 0)
  const count = records.length
  const bytes = plan.bodyBytes
  cases.push({ name: `plan body, ${what}`, bytes, count, run: () => planBody(records) })
  cases.push({ name: `write body, ${what}`, bytes, count, run: () => writeBody(plan, target, 0) })
  cases.push({
    name: `read body, ${what}`,
    bytes,
    count,
    run: () => {
      const head = openBodyHead(target, target.length, count, bodyHash)
      for (let vchannel = 0; vchannel < head.vchannelCount; vchannel++) {
        const start = head.sectionOffset(vchannel)
        if (!verifySection(head, vchannel, target.subarray(start, start + head.sectionLength(vchannel)))) {
          throw new Error('the section does not have its hash')
        }
      }
      return head
    },
  })
}

const header = {
  kind: FrameKind.records,
  flags: 0,
  totalLength: 2048,
  bodyLength: 1024,
  nodeSectionLength: 0,
  recordCount: 1,
  ownerTerm: 1,
  incarnation: 2,
  baseLsn: 1_000_000,
  baseTimeTick: 460_000_000_000_000_000n,
  position: 4096,
  durablePosition: 4096,
  chain: 0x0123_4567_89ab_cdefn,
  bodyHash: 0xfedc_ba98_7654_3210n,
  nodeHash: 0n,
}
const headerBytes = Buffer.alloc(96)
const salt = 0x1122_3344_5566_7788n
encodeFrameHeader(headerBytes, 0, header, salt)
if (decodeFrameHeader(headerBytes, 0, 96, salt, 4096) === null) throw new Error('the frame header does not decode')
cases.push({ name: 'encode frame header', run: () => encodeFrameHeader(headerBytes, 0, header, salt) })
cases.push({ name: 'decode frame header', run: () => decodeFrameHeader(headerBytes, 0, 96, salt, 4096) })

for (const names of [1, 16, 1000]) {
  const vchannels = Array.from({ length: names }, (_, index) => `tenant-${index}`)
  let index = new SegmentIndexBuilder(salt)
  let position = 4096
  let baseLsn = 0
  cases.push({
    name: `index a frame of ${names} vchannels`,
    count: names,
    run: () => {
      index.addFrame({ position, baseLsn, baseTimeTick: 1n, recordCount: names, kind: FrameKind.records, vchannels })
      position += 64 * KIB
      baseLsn += names
      // As many frames as a segment of 64 MiB holds.
      if (position > 64 * MIB) {
        index = new SegmentIndexBuilder(salt)
        position = 4096
      }
    },
  })
}

const produceBody = Buffer.alloc(produce.PRODUCE_BODY_AT + KIB)
const produceFields = { group: 1, producer: 2, generation: 3, recordCount: 1, bodyHash: 5n, barrierTick: 0n }
const produced = { firstLsn: 1, lastLsn: 2, firstTimeTick: 3n, lastTimeTick: 4n }
cases.push({
  name: 'encode PRODUCE (without its body)',
  run: () => produce.writeProduce(produceBody, 7, produceFields),
})
cases.push({
  name: 'decode PRODUCE (without its body)',
  run: () => {
    const found = message.decodeHeader(produceBody, 0, MIB)
    const meta = produceBody.subarray(message.MESSAGE_HEADER_BYTES, message.MESSAGE_HEADER_BYTES + found.metaLength)
    message.checkMeta(found, meta)
    return produce.decodeProduce(meta)
  },
})
cases.push({ name: 'encode PRODUCED', run: () => produce.encodeProduced(7, produced) })

const wanted = cases.filter(({ name }) => filters.length === 0 || filters.some((part) => name.includes(part)))
const bench = new Bench({ time: Number(options.seconds) * 1000, warmupTime: 100 })
for (const { name, run } of wanted) {
  bench.add(name, () => {
    run()
  })
}
console.log(['npm run bench:micro --', ...process.argv.slice(2)].join(' '))
console.log(`machine: ${os.cpus()[0]?.model.trim()}, ${os.cpus().length} cores, node ${process.version}`)
printLoad('load before', os.loadavg())
await bench.run()

const rows = wanted.map(({ name, bytes, count }) => {
  const result = bench.getTask(name)?.result
  if (result === undefined || result.state !== 'completed') throw new Error(`${name}: ${result?.state}`)
  const perSecond = 1000 / result.latency.p50
  return {
    name,
    p50Us: result.latency.p50,
    p99Us: result.latency.p99,
    perSecond,
    bytesPerSecond: bytes === undefined ? undefined : bytes * perSecond,
    recordUs: count === undefined ? undefined : result.latency.p50 / count,
  }
})
printTable({
  title: 'Steps of the hot paths (p50 and p99 of single runs)',
  columns: [
    { key: 'name', title: 'step', format: 'text' },
    { key: 'p50Us', title: 'p50 us', format: 'microsecondsFine' },
    { key: 'p99Us', title: 'p99 us', format: 'microsecondsFine' },
    { key: 'bytesPerSecond', title: 'MB/s', format: 'megabytes' },
    { key: 'recordUs', title: 'us each', format: 'microsecondsFine' },
  ],
  rows,
  notes: [
    'MB/s: bytes of the body, or hashed. us each: for each record (each vchannel of the index).',
    'The clock is read around each run: of steps below a microsecond it is a good part.',
  ],
})
console.log()
printLoad('load after', os.loadavg())

/** @param {number} bytes */
function sizeOf(bytes) {
  if (bytes >= MIB) return `${bytes / MIB} MiB`
  return bytes >= KIB ? `${bytes / KIB} KiB` : `${bytes} B`
}
