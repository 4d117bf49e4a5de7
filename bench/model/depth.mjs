#!/usr/bin/env node
import { randomFillSync } from 'node:crypto'
// A model of the engine's writing, without records: synced writes at adjacent positions of a prepared file, so and so
// many in flight from Node's thread pool, each on a descriptor of its own, against the synchronous loop. It shows what
// the machine itself gives for depth. bench/README.md.
import fs from 'node:fs'
import os from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { printLoad } from '../harness/machine.mjs'
import { prepareFile, rawPrepared } from '../harness/raw.mjs'
import { median, Samples } from '../harness/statistics.mjs'
import { printTable } from '../harness/table.mjs'

const { O_RDWR, O_DSYNC } = fs.constants
const FILE_BYTES = 64 * 1024 * 1024
const SIZES = [4096, 16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024]
const DEPTHS = [1, 2, 3, 4]

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '0.3' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), '..', 'results') },
    help: { type: 'boolean', short: 'h' },
  },
})
if (options.help) {
  console.log('npm run bench:model -- [--seconds N] [--rounds N] [--dir DIR]')
  process.exit(0)
}
const forMs = Number(options.seconds) * 1000
const parent = resolve(options.dir)
fs.mkdirSync(parent, { recursive: true })
const directory = fs.mkdtempSync(join(parent, 'model-'))
const path = join(directory, 'file')

console.log(['npm run bench:model --', ...process.argv.slice(2)].join(' '))
console.log(`machine: ${os.cpus()[0]?.model.trim()}, ${os.cpus().length} cores, node ${process.version}`)
printLoad('load before', os.loadavg())
try {
  prepareFile(path, FILE_BYTES)
  const rows = []
  for (const writeBytes of SIZES) {
    const loop = []
    const byDepth = DEPTHS.map(() => [])
    for (let round = 0; round < Number(options.rounds); round++) {
      loop.push(rawPrepared({ paths: [path], fileBytes: FILE_BYTES, writeBytes, mode: 'dsync', forMs }))
      for (const [index, depth] of DEPTHS.entries()) byDepth[index].push(await inFlight(writeBytes, depth))
    }
    const raw = median(loop.map(({ bytesPerSecond }) => bytesPerSecond))
    rows.push({
      writeBytes,
      way: 'sync loop',
      bytesPerSecond: raw,
      p50Ms: median(loop.map(({ latencies }) => latencies.percentile(0.5))),
      p99Ms: median(loop.map(({ latencies }) => latencies.percentile(0.99))),
      ratio: 1,
    })
    for (const [index, depth] of DEPTHS.entries()) {
      const bytesPerSecond = median(byDepth[index].map((found) => found.bytesPerSecond))
      rows.push({
        writeBytes,
        way: `${depth} in flight`,
        bytesPerSecond,
        p50Ms: median(byDepth[index].map(({ latencies }) => latencies.percentile(0.5))),
        p99Ms: median(byDepth[index].map(({ latencies }) => latencies.percentile(0.99))),
        ratio: bytesPerSecond / raw,
      })
    }
  }
  printTable({
    title: `Writes with O_DSYNC on a prepared file of ${FILE_BYTES / 2 ** 20} MiB (medians of ${options.rounds} rounds of ${options.seconds} s)`,
    columns: [
      { key: 'writeBytes', title: 'write KiB', format: 'kibibytes' },
      { key: 'way', title: 'way', format: 'text' },
      { key: 'bytesPerSecond', title: 'MB/s', format: 'megabytes' },
      { key: 'p50Ms', title: 'p50 ms', format: 'milliseconds' },
      { key: 'p99Ms', title: 'p99 ms', format: 'milliseconds' },
      { key: 'ratio', title: 'to the loop', format: 'ratio' },
    ],
    rows,
    notes: [],
  })
  console.log()
  printLoad('load after', os.loadavg())
} finally {
  fs.rmSync(directory, { recursive: true, force: true })
}

/** @param {number} writeBytes @param {number} depth */
async function inFlight(writeBytes, depth) {
  const bytes = randomFillSync(Buffer.allocUnsafeSlow(writeBytes))
  const latencies = new Samples()
  const descriptors = Array.from({ length: depth }, () => fs.openSync(path, O_RDWR | O_DSYNC))
  let position = 0
  let written = 0
  const began = performance.now()
  const writer = async (descriptor) => {
    while (performance.now() - began < forMs) {
      const at = position
      position = (position + writeBytes) % FILE_BYTES
      const issued = performance.now()
      await new Promise((done, fail) => {
        fs.write(descriptor, bytes, 0, writeBytes, at, (error, count) => {
          if (error) fail(error)
          else if (count === writeBytes) done(undefined)
          else fail(new Error(`a write wrote ${count} of ${writeBytes} bytes`))
        })
      })
      latencies.add(performance.now() - issued)
      written += writeBytes
    }
  }
  await Promise.all(descriptors.map(writer))
  const ms = performance.now() - began
  for (const descriptor of descriptors) fs.closeSync(descriptor)
  return { bytesPerSecond: (written / ms) * 1000, latencies }
}
