#!/usr/bin/env node
// Runs the on-demand suites in turn, with new seeds in each round, and adds up what was reached.
//
//   npm run soak -- [--minutes N] [--seed N] [--suite NAME]...     default: 30 minutes, seed 1, all suites
//
// A failure prints what to type to see it again and makes the exit status 1; the other suites go on. SIGINT ends it
// with what was reached.
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const repository = dirname(dirname(fileURLToPath(import.meta.url)))

/**
 * `runs` is what one round does of each file (TIDELOG_RUNS); `stride` how far one round moves the seed: a suite whose
 * runs have consecutive seeds moves by all of them. `count` finds what a round has reached in what the suite prints.
 *
 * @typedef {{ name: string, files: string[], runs: number, stride: number, count: RegExp | null, unit: string, budget?: string, only?: string }} Suite
 */

/** @type {Suite[]} */
const suites = [
  {
    name: 'crash-states',
    files: ['test/simulation/log-crash-states.test.ts', 'test/simulation/log-crash-states-other-ways.test.ts'],
    runs: 4_000,
    stride: 1,
    count: /crash states: (\d+) distinct/g,
    unit: 'distinct states',
  },
  {
    name: 'random',
    files: ['test/simulation/log-random.test.ts'],
    runs: 4_000,
    stride: 4_000,
    count: /random programs: (\d+) seeds/g,
    unit: 'seeds',
  },
  {
    name: 'damage',
    files: ['test/simulation/log-random-damage.test.ts'],
    runs: 2_000,
    stride: 2_000,
    count: /random damage: (\d+) seeds/g,
    unit: 'seeds',
  },
  {
    name: 'deaths',
    files: ['test/simulation/log-deaths.test.ts'],
    runs: 2_000,
    stride: 1,
    count: null,
    unit: 'deaths of a process',
  },
  {
    name: 'rivals',
    files: ['test/simulation/log-rivals.test.ts'],
    runs: 60,
    stride: 1,
    count: null,
    unit: 'rivalries of each kind',
  },
  {
    name: 'model',
    files: ['test/simulation/log-model.test.ts'],
    runs: 800,
    stride: 1,
    count: /model: (\d+) runs/g,
    unit: 'runs',
  },
  {
    name: 'scans',
    files: ['test/wal/scan/scan-model.test.ts'],
    runs: 2_000,
    stride: 1,
    count: /random scans: (\d+) logs/g,
    unit: 'logs, several scans of each',
    only: 'random scans',
  },
  {
    name: 'wal-model',
    files: ['test/simulation/wal-model.test.ts'],
    runs: 800,
    stride: 1,
    count: /WAL model: (\d+) runs/g,
    unit: 'runs',
  },
  {
    name: 'decoders',
    files: [
      'test/native-free-storage/format/hostile.test.ts',
      'test/protocol/hostile.test.ts',
      'test/streaming-node/hostile-files.test.ts',
    ],
    runs: 20_000,
    stride: 1,
    count: null,
    unit: 'inputs of each decoder',
  },
  {
    name: 'bit-flips',
    files: ['test/native-free-storage/maintenance/bit-flips.test.ts'],
    runs: 20_000,
    stride: 1,
    count: /4 MiB: (\d+)/g,
    unit: 'flipped bits of 4 MiB',
    budget: 'soak',
    only: 'flipped bits of a 4 MiB log',
  },
  {
    name: 'repair',
    files: [
      'test/native-free-storage/maintenance/repair-random.test.ts',
      'test/native-free-storage/maintenance/salvage.test.ts',
    ],
    runs: 150,
    stride: 150,
    count: null,
    unit: 'damaged logs each',
  },
]

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: '1' },
    suite: { type: 'string', multiple: true },
    help: { type: 'boolean', short: 'h' },
  },
})
const minutes = Number(values.minutes)
const firstSeed = Number(values.seed)
const names = suites.map(({ name }) => name)
const usage = `npm run soak -- [--minutes N] [--seed N] [--suite NAME]...   suites: ${names.join(', ')}`
if (values.help) {
  console.log(usage)
  process.exit(0)
}
const unknown = values.suite?.find((name) => !names.includes(name))
if (!(minutes > 0) || !Number.isSafeInteger(firstSeed) || unknown !== undefined) {
  console.error(unknown === undefined ? usage : `no suite is called "${unknown}"\n${usage}`)
  process.exit(2)
}
const chosen = suites.filter(({ name }) => values.suite === undefined || values.suite.includes(name))

/** @type {Map<string, { rounds: number, reached: number, seeds: [number, number] | null, seconds: number, failures: string[] }>} */
const results = new Map(
  chosen.map(({ name }) => [name, { rounds: 0, reached: 0, seeds: null, seconds: 0, failures: [] }]),
)
/** @type {import('node:child_process').ChildProcess | null} */
let child = null
let stopping = false
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.on(signal, () => {
    if (stopping) process.exit(130)
    stopping = true
    child?.kill('SIGTERM')
  })
}

/**
 * @param {Suite} suite
 * @param {number} seed
 * @returns {Promise<{ status: number | null, output: string }>}
 */
function round({ files, runs, budget = 'ci', only }, seed) {
  const env = { ...process.env, TIDELOG_BUDGET: budget, TIDELOG_SEED: String(seed), TIDELOG_RUNS: String(runs) }
  const vitest = join(repository, 'node_modules/vitest/vitest.mjs')
  // A group of its own: an interrupt of the terminal comes to us alone.
  child = spawn(
    process.execPath,
    [vitest, 'run', ...files, '--no-color', ...(only === undefined ? [] : ['-t', only])],
    {
      cwd: repository,
      env: { ...env, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8')
    // What the suites print is a few lines a round; of a failure the beginning is enough.
    stream?.on('data', (/** @type {string} */ text) => {
      if (output.length < 4_000_000) output += text
    })
  }
  return new Promise((resolve, reject) => {
    child?.on('error', reject)
    child?.on('close', (status) => resolve({ status, output }))
  })
}

const deadline = performance.now() + minutes * 60_000
let failed = false
for (let turn = 0; !stopping && performance.now() < deadline; turn++) {
  for (const suite of chosen) {
    if (stopping || performance.now() >= deadline) break
    const result = /** @type {NonNullable<ReturnType<typeof results.get>>} */ (results.get(suite.name))
    const seed = firstSeed + turn * suite.stride
    const began = performance.now()
    const { status, output } = await round(suite, seed)
    const seconds = (performance.now() - began) / 1000
    if (stopping) break
    result.rounds++
    result.seconds += seconds
    result.seeds = [result.seeds?.[0] ?? seed, seed + suite.stride - 1]
    const reached =
      suite.count === null
        ? suite.runs
        : [...output.matchAll(suite.count)].reduce((sum, [, count]) => sum + Number(count), 0)
    result.reached += reached
    const left = Math.max(0, Math.round((deadline - performance.now()) / 60_000))
    console.log(
      `${suite.name}, seed ${seed}: ${reached} ${suite.unit} in ${seconds.toFixed(0)} s${status === 0 ? '' : ', FAILED'}; ${left} minutes left`,
    )
    if (status === 0) continue
    failed = true
    const again = new Set(output.match(/TIDELOG_SEED=\S+ (?:TIDELOG_\w+=\S+ )*npx vitest run \S+/g) ?? [])
    if (again.size === 0) {
      again.add(
        `TIDELOG_BUDGET=ci TIDELOG_SEED=${seed} TIDELOG_RUNS=${suite.runs} npx vitest run ${suite.files.join(' ')}`,
      )
    }
    const words = output.split('\n').filter((line) => /^\s*(FAIL|×|.*Error:|.*Failure:)/.test(line))
    const failure = `${[...again].map((line) => line.replace(/:$/, '')).join('\n')}\n${words.slice(0, 12).join('\n')}`
    result.failures.push(failure)
    console.log(failure)
  }
}

console.log(`\n${stopping ? 'interrupted' : `${minutes} minutes`}, seeds from ${firstSeed}:`)
for (const [name, { rounds, reached, seeds, seconds, failures }] of results) {
  const suite = suites.find((candidate) => candidate.name === name)
  const from = seeds === null ? '' : `, seeds ${seeds[0]} to ${seeds[1]}`
  console.log(
    `${name}: ${reached} ${suite?.unit} in ${rounds} rounds and ${seconds.toFixed(0)} s${from}, ${failures.length} failures`,
  )
}
if (failed) process.exitCode = 1
