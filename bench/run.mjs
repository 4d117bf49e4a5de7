#!/usr/bin/env node
// The benchmarks that need a disk, each side by side with a raw loop in the same run. bench/README.md.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { append } from './append.mjs'
import { burst } from './burst.mjs'
import { catchUp } from './catch-up.mjs'
import { compact } from './compact.mjs'
import { filteredScan } from './filtered-scan.mjs'
import { importEngine } from './harness/build.mjs'
import { Context } from './harness/context.mjs'
import { machineFacts, printFacts, printLoad } from './harness/machine.mjs'
import { idle } from './idle.mjs'
import { open } from './open.mjs'
import { pipeline } from './pipeline.mjs'
import { single } from './single.mjs'
import { sustained } from './sustained.mjs'
import { tail } from './tail.mjs'
import { vchannel } from './vchannel.mjs'

const benches = [append, burst, sustained, single, pipeline, catchUp, tail, open, vchannel, idle, filteredScan, compact]
const here = dirname(fileURLToPath(import.meta.url))

const usage = `npm run bench -- [NAME…] [--seconds N] [--rounds N] [--dir DIR] [--json FILE]

${benches.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`).join('\n')}

  --seconds N         length of a measured round (default: 1, of sustained 10)
  --rounds N          rounds of each case; medians are printed (default: 3)
  --dir DIR           where to write; a folder in it is made and removed (default: bench/results)
  --json FILE         the same figures for a program
  --write-mode M      dsync or fdatasync, --write-depth N: as the engine's options (default: its probe chooses)
  --dist DIR          another build of the engine (default: dist)`

const { values: options, positionals: names } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: join(here, 'results') },
    json: { type: 'string' },
    dist: { type: 'string', default: join(here, '..', 'dist') },
    'write-mode': { type: 'string' },
    'write-depth': { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})

if (options.help) {
  console.log(usage)
  process.exit(0)
}
const unknown = names.filter((name) => !benches.some((bench) => bench.name === name))
if (unknown.length > 0) {
  console.error(`no benchmark is called ${unknown.join(', ')}\n\n${usage}`)
  process.exit(2)
}

/** @param {string} name @returns {number | undefined} */
function positive(name) {
  const text = options[name]
  if (text === undefined) return undefined
  const value = Number(text)
  if (!(value > 0)) {
    console.error(`--${name} ${text} is not a number above 0`)
    process.exit(2)
  }
  return value
}

const seconds = positive('seconds')
const rounds = Math.ceil(positive('rounds') ?? 3)
const writeDepth = positive('write-depth')

const parent = resolve(options.dir)
mkdirSync(parent, { recursive: true })
const root = mkdtempSync(join(parent, 'run-'))
const remove = () => rmSync(root, { recursive: true, force: true })
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.once(signal, () => {
    remove()
    process.exit(130)
  })
}

try {
  const dist = resolve(options.dist)
  const engine = await importEngine(dist)
  const commandLine = ['npm run bench --', ...process.argv.slice(2)].join(' ')
  console.log(commandLine)
  const machine = await machineFacts(engine, root)
  printFacts(machine)
  const way = await engine.probeWriteWay(engine.nodeEnvironment(), root, {
    override: { mode: options['write-mode'], depth: writeDepth },
  })
  console.log(`the engine writes: ${way.mode}, ${way.depth} in flight (${way.reason})`)

  const results = []
  for (const { name, run } of benches.filter((bench) => names.length === 0 || names.includes(bench.name))) {
    const directory = join(root, name)
    mkdirSync(directory)
    const context = new Context({ engine, dist, way, seconds, rounds, directory })
    const began = performance.now()
    await run(context)
    context.noteDisk()
    rmSync(directory, { recursive: true, force: true })
    const tookSeconds = (performance.now() - began) / 1000
    const diskMib = Math.round(context.diskBytesMax / 2 ** 20)
    console.log(`  (${name}: ${tookSeconds.toFixed(0)} s, at most ${diskMib} MiB on disk, removed)`)
    results.push({ name, tables: context.tables, seconds: tookSeconds, diskBytesMax: context.diskBytesMax })
  }
  console.log()
  printLoad('load after', os.loadavg())
  if (options.json !== undefined) {
    const text = JSON.stringify({ commandLine, machine, writeWay: way, loadAfter: os.loadavg(), results }, undefined, 1)
    writeFileSync(options.json, `${text}\n`)
  }
} finally {
  remove()
}
