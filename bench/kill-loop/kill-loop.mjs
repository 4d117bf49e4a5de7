// `npm run kill-loop -- --rounds 200`: SIGKILL under load, round after round.
//
// A daemon under load is killed at a random time; `verify` reads its files at rest; it is started again, and everything
// is read back and compared with a ledger. The load (load.mjs), the ledger (ledger.mjs) and the daemon are processes of
// their own; an acknowledgement counts when the ledger has it. What is checked stands in ledger-book.mjs: nothing that
// was acknowledged, or that a reader was given, is lost, moved or changed; nothing that was refused is there; no LSN or
// time tick is given twice; batches are whole; the tail is given everything once, in order, and no watermark lies.
//
// The way to write, its depth, the size of segments, pool and cache change from round to round; some rounds kill the
// daemon again while it recovers; some truncate at the same time. After some rounds the directory is given up for a new
// one, so that disk use is bounded; every fourth is at durability `os`.
//
// SIGKILL takes the process and leaves the operating system's cache of pages as it is: writes that were not synced survive
// it. With `--lossy` they do not: the daemon runs on a disk that keeps in memory what was not synced (lossy-disk.mjs), so
// that writes are lost, torn and out of order, and names are gone, as after a power cut. `--lie` breaks that disk's
// word, to show that the loop bites. All crash states of short runs are shown on the simulated disk: test/simulation/.
//
// The seed decides the times, flags, records and choices; how the processes interleave is the machine's.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { killChildren } from '../harness/daemon-process.mjs'
import { pause } from '../harness/deadline.mjs'
import { DiskWatch, mebibytes } from '../harness/disk-use.mjs'
import { Random } from '../harness/random.mjs'
import { Epoch } from './epoch.mjs'

const usage = `npm run kill-loop [-- FLAGS]

  --rounds N           default 20
  --seed N             default: a new one, printed
  --fresh-every N      rounds in one data directory (default 10)
  --rate MIB           payload a second that the load appends at most (default 8)
  --lossy              writes and names that were not synced are lost at the kill; strict and ext4-like by turns
  --lie sync|directory with --lossy: a broken disk, on which acknowledged records get lost; the loop has to say so
  --keep               leaves the directories where they are`

const KILL_AFTER_MS_LEAST = 10
const KILL_AFTER_MS_MOST = 600
const KILL_IN_RECOVERY_PART = 0.2
const KILL_IN_RECOVERY_MS_MOST = 700
const OS_EVERY = 4
const DISK_LOOK_INTERVAL_MS = 250

// Whatever still runs when the verdict is known has nothing to add.
process.exit(await main())

/** @returns {Promise<number>} */
async function main() {
  const options = readFlags()
  if (typeof options === 'number') return options
  // Short: it holds a Unix socket, whose path may have 107 bytes.
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-kill-'))
  const interrupted = new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => resolve(130))
  })
  let status = 1
  try {
    status = await Promise.race([run({ ...options, directory }), /** @type {Promise<number>} */ (interrupted)])
  } catch (error) {
    console.error(error)
  }
  killChildren()
  if (options.keep || (status === 1 && options.lie === undefined)) console.log(`kept: ${directory}`)
  else await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  return status
}

/** The flags, or the exit status. */
function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: 'string', default: '20' },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        'fresh-every': { type: 'string', default: '10' },
        rate: { type: 'string', default: '8' },
        lossy: { type: 'boolean', default: false },
        lie: { type: 'string' },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) return told()
    const lie = /** @type {'sync' | 'directory' | undefined} */ (values.lie)
    if (lie !== undefined && lie !== 'sync' && lie !== 'directory') throw new Error('--lie is sync or directory')
    if (lie !== undefined && !values.lossy) throw new Error('--lie needs --lossy')
    return {
      lossy: values.lossy,
      lie,
      rounds: count(values.rounds, '--rounds', 1),
      seed: count(values.seed, '--seed', 0),
      freshEvery: count(values['fresh-every'], '--fresh-every', 1),
      bytesPerSecond: count(values.rate, '--rate', 1) * 1024 * 1024,
      keep: values.keep,
    }
  } catch (error) {
    console.error(`${/** @type {Error} */ (error).message}\n\n${usage}`)
    return 2
  }
}

/** @returns {number} the exit status */
function told() {
  console.log(usage)
  return 0
}

/** @param {string} text @param {string} flag @param {number} least @returns {number} */
function count(text, flag, least) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least || text.trim() === '') {
    throw new Error(`${flag} is an integer from ${least} on, not ${JSON.stringify(text)}`)
  }
  return value
}

/**
 * @param {{ rounds: number, seed: number, freshEvery: number, bytesPerSecond: number, directory: string, keep: boolean,
 *   lossy: boolean, lie: 'sync' | 'directory' | undefined }} options
 * @returns {Promise<number>} the exit status
 */
async function run({ rounds, seed, freshEvery, bytesPerSecond, directory, keep, lossy, lie }) {
  const what = `kill-loop${lossy ? ', unsynced writes are lost' : ''}${lie === undefined ? '' : `, the disk lies (${lie})`}`
  console.log(`${what}: ${rounds} rounds, seed ${seed}, a new directory every ${freshEvery}, in ${directory}`)
  const startedMs = performance.now()
  const random = new Random(seed)
  const watch = new DiskWatch(directory, DISK_LOOK_INTERVAL_MS)
  const totals = { rounds: 0, kills: 0, acknowledged: 0, unknown: 0, notWritten: 0, read: 0 }
  /** @type {string[]} */
  const problems = []
  let recoveryMsMost = 0
  for (let epochNumber = 0; totals.rounds < rounds && problems.length === 0; epochNumber++) {
    const durability = !lossy && epochNumber % OS_EVERY === OS_EVERY - 1 ? 'os' : 'disk'
    const names = lie === 'directory' || epochNumber % 2 === 0 ? 'strict' : 'ext4'
    const epoch = new Epoch(join(directory, String(epochNumber)), {
      random,
      durability,
      lossy: lossy ? { names, lie } : null,
    })
    await epoch.start(daemonFlags(random), bytesPerSecond)
    for (let left = Math.min(freshEvery, rounds - totals.rounds); left > 0 && problems.length === 0; left--) {
      const killAfterMs = random.between(KILL_AFTER_MS_LEAST, KILL_AFTER_MS_MOST)
      const killInRecoveryMs = random.chance(KILL_IN_RECOVERY_PART) ? random.between(0, KILL_IN_RECOVERY_MS_MOST) : null
      const flags = daemonFlags(random)
      await pause(killAfterMs)
      const result = await epoch.round(flags, { killInRecoveryMs })
      totals.rounds++
      totals.read += result.records
      recoveryMsMost = Math.max(recoveryMsMost, result.listeningMs)
      problems.push(...result.problems, ...(epoch.report?.problems ?? []))
      console.log(
        `round ${totals.rounds}: killed after ${killAfterMs} ms${killInRecoveryMs === null ? '' : `, again ${killInRecoveryMs} ms into the start`}; ` +
          `verify ${Math.round(result.verifyMs)} ms; ${lossy ? names : durability} ${flags.join(' ')}; listening after ` +
          `${Math.round(result.listeningMs)} ms; ${result.records} records read in ${Math.round(result.lookMs)} ms, ` +
          `${epoch.report?.acknowledgedRecords} acknowledged`,
      )
    }
    if (problems.length === 0) {
      problems.push(...(await epoch.finish()), ...(epoch.report?.problems ?? []))
      totals.read += epoch.report?.records ?? 0
    }
    totals.kills += epoch.kills
    totals.acknowledged += epoch.report?.acknowledgedRecords ?? 0
    totals.unknown += epoch.report?.unknownRecords ?? 0
    totals.notWritten += epoch.report?.notWrittenRecords ?? 0
    await watch.look()
    if (problems.length === 0 && !keep) await epoch.remove()
  }
  watch.stop()
  for (const problem of problems) console.log(`PROBLEM ${problem}`)
  const verdict = problems.length === 0 ? 'ok, nothing acknowledged was lost, changed or moved' : 'FAILED'
  console.log(
    `${what}: ${verdict}: ${totals.rounds} rounds, ${totals.kills} SIGKILLs, ${totals.acknowledged} records ` +
      `acknowledged, ${totals.unknown} unknown, ${totals.notWritten} not written, ${totals.read} compared; slowest start ` +
      `${Math.round(recoveryMsMost)} ms; ${mebibytes(watch.peakBytes)} of disk at most; ` +
      `${Math.round((performance.now() - startedMs) / 1000)} s; seed ${seed}`,
  )
  return problems.length === 0 ? 0 : 1
}

/** The suites of CI run in each way to write: their environment decides then. */
/** @param {Random} random @returns {string[]} */
function daemonFlags(random) {
  const mode = random.pick(['dsync', 'fdatasync'])
  const depth = random.pick(['1', '2', '4'])
  return [
    ...['--write-mode', process.env.TIDELOG_TEST_WRITE_MODE || mode],
    ...['--write-depth', process.env.TIDELOG_TEST_WRITE_DEPTH || depth],
    ...['--segment-bytes', random.pick(['256KiB', '1MiB', '16MiB'])],
    ...['--pool-bytes', random.pick(['0', '4MiB', '64MiB'])],
    ...['--cache-bytes', random.pick(['0', '1MiB', '64MiB'])],
  ]
}
