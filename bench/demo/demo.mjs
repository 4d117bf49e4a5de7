// `npm run demo`: real input through a daemon that is killed on the way.
//
// 341,479 word vectors (GloVe, 100 dimensions) go as Insert messages over four vchannels into a daemon that this program
// starts: one process produces them, exactly once, by producers with an identity; another one tails them. On the way the
// daemon is killed with SIGKILL and started again, and so is the process that produces. At the end a fresh consumer, a
// process of its own, reads everything back and compares each vector bit by bit with the source, and `verify` reads the
// files at rest.
//
// Exit status 0 only if every word is there, once, in order, unchanged, and each acknowledged one at its LSN and tick. How
// that comes about stands in word-lane.mjs. SIGKILL takes the process, not what it has handed to the operating system:
// what a power cut may leave is the simulated disk's matter (test/simulation/).
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { killChildren, verifyFiles, verifyProblems } from '../harness/daemon-process.mjs'
import { within } from '../harness/deadline.mjs'
import { DiskWatch, diskBytes, mebibytes } from '../harness/disk-use.mjs'
import { Random } from '../harness/random.mjs'
import { AcknowledgedWords } from './acknowledged-words.mjs'
import { startChild } from './child.mjs'
import { KilledDaemon } from './killed-daemon.mjs'
import { KilledProducer } from './killed-producer.mjs'
import { VECTOR_BYTES, wordCount } from './word-vectors.mjs'
import { vchannelOf } from './words.mjs'

const CHILD_LIMIT_MS = 600_000
const TAIL_START_LIMIT_MS = 30_000
const PROGRESS_INTERVAL_MS = 1_000
const DISK_LOOK_INTERVAL_MS = 500

const usage = `npm run demo [-- FLAGS]

  --kills N           SIGKILLs of the daemon, spread over the words (default 1: in the middle)
  --producer-kills N  SIGKILLs of the process that produces (default 1)
  --words N           so many words instead of all
  --seed N            decides when they are killed (default: a new one, printed)
  --keep              leaves the data directory where it is`

// Whatever still runs when the verdict is known has nothing to add.
process.exit(await main())

/** @returns {Promise<number>} */
async function main() {
  const options = readFlags()
  if (typeof options === 'number') return options
  const directory = await mkdtemp(join(tmpdir(), 'tidelog-demo-'))
  const interrupted = new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => resolve(130))
  })
  try {
    return await Promise.race([run({ ...options, directory }), /** @type {Promise<number>} */ (interrupted)])
  } catch (error) {
    console.error(error)
    return 1
  } finally {
    killChildren()
    if (options.keep) console.log(`kept        ${directory}`)
    else await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** The flags, or the exit status. */
function readFlags() {
  try {
    const { values } = parseArgs({
      options: {
        kills: { type: 'string', default: '1' },
        'producer-kills': { type: 'string', default: '1' },
        words: { type: 'string' },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    const { keep, help } = values
    if (help) return told()
    const kills = count(values.kills, '--kills', 0)
    const words = values.words === undefined ? Number.POSITIVE_INFINITY : count(values.words, '--words', 1)
    const producerKills = count(values['producer-kills'], '--producer-kills', 0)
    return { kills, producerKills, words, seed: count(values.seed, '--seed', 0), keep }
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
 * @param {{ kills: number, producerKills: number, words: number, seed: number, directory: string }} options
 * @returns {Promise<number>} the exit status
 */
async function run({ kills, producerKills, words, seed, directory }) {
  const total = Math.min(words, await wordCount())
  const data = join(directory, 'data')
  console.log(`words       ${grouped(total)} of ${VECTOR_BYTES} bytes each, seed ${seed}`)
  const watch = new DiskWatch(directory, DISK_LOOK_INTERVAL_MS)
  const daemon = new KilledDaemon(data)
  const address = await daemon.start()
  console.log(`daemon      ${address}, data in ${data}`)

  let tailed = 0
  /** @type {(value?: unknown) => void} */
  let follows = () => {}
  const following = new Promise((resolve) => {
    follows = resolve
  })
  const tail = startChild('tail.mjs', [address], ({ seen }) => {
    tailed = seen ?? tailed
    follows()
  })
  await Promise.race([within(following, TAIL_START_LIMIT_MS, 'the start of the tail'), tail.failed])
  const acknowledged = new AcknowledgedWords(total)
  const progress = setInterval(() => {
    console.log(`            ${grouped(acknowledged.count)} acknowledged, ${grouped(tailed)} tailed`)
  }, PROGRESS_INTERVAL_MS)
  const produced = await Promise.race([
    produce({ address, daemon, acknowledged, kills, producerKills, seed }),
    tail.failed,
    daemon.failed,
  ])
  clearInterval(progress)
  await daemon.restarted()

  tail.send({ ends: Object.fromEntries(produced.ends) })
  const { done: tailing } = await tail.result(CHILD_LIMIT_MS)
  console.log(`            ${grouped(acknowledged.count)} acknowledged, ${grouped(tailing.seen)} tailed`)

  const acknowledgedPath = join(directory, 'acknowledged')
  await acknowledged.save(acknowledgedPath)
  const read = await startChild('read-back.mjs', [address, acknowledgedPath]).result(CHILD_LIMIT_MS)
  await daemon.stop()
  await watch.look()
  watch.stop()
  const verified = await verifyFiles(data)
  const restBytes = await diskBytes(data)

  const { tookMs, producer } = produced
  console.log(`produced    ${rate(total, tookMs)} in ${seconds(tookMs)}, outages and reading the source included`)
  for (const [index, known] of producer.resumed.slice(1).entries()) {
    const there = known.reduce((sum, words) => sum + words, 0)
    console.log(
      `SIGKILL p${index + 1}  of the process that produces; its producers went on behind ${grouped(there)} words`,
    )
  }
  for (const [index, kill] of daemon.kills.entries()) {
    console.log(
      `SIGKILL ${index + 1}   at ${grouped(kill.words)} acknowledged words; listening again after ` +
        `${milliseconds(kill.listeningMs)}, next acknowledgement after ${milliseconds(kill.acknowledgedMs)}`,
    )
  }
  console.log(
    `tailed      ${rate(tailing.seen, tailing.tookMs)}, ${tailing.reconnects} reconnects, ${tailing.p50Ms} ms p50 and ` +
      `${tailing.p99Ms} ms p99 from time tick to delivery, outages included`,
  )
  console.log(
    `read back   ${rate(read.records, read.tookMs)}, ${mebibytes((read.payloadBytes / read.tookMs) * 1000)}/s of ` +
      `vectors, in ${seconds(read.tookMs)}; ${grouped(read.repeated)} repeated, ${grouped(read.outOfOrder)} out of order`,
  )
  console.log(
    `disk        ${mebibytes(read.payloadBytes)} of vectors, ${mebibytes(logBytes(verified))} of log, ` +
      `${mebibytes(restBytes)} at rest with what is prepared, ${mebibytes(watch.peakBytes)} at most`,
  )

  const problems = [...read.examples, ...verifyProblems(verified)]
  const wrong = read.missing + read.repeated + read.changed + read.foreign
  if (read.missing > 0) problems.push(`${read.missing} words are missing, or not where they were acknowledged`)
  if (read.repeated > 0) problems.push(`${read.repeated} words are there more than once`)
  if (read.outOfOrder > 0) problems.push(`${read.outOfOrder} words are out of order`)
  if (read.changed > 0) problems.push(`${read.changed} records were changed`)
  if (read.foreign > 0) problems.push(`${read.foreign} records were not produced by the demo`)
  // What was acknowledged to a process that died before it could tell is known by its producers.
  const untold = Array.from({ length: total }, (_, id) => id).filter((id) => !acknowledged.has(id))
  const never = untold.filter((id) => !producer.wasThere(id)).length
  if (never > 0) problems.push(`${never} words were never acknowledged`)
  if (tailing.outOfOrder > 0) problems.push(`the tail was given ${tailing.outOfOrder} records out of order or twice`)
  if (tailing.sum !== read.sum) problems.push(`the tail was given other records than the read-back (${tailing.seen})`)
  console.log(
    `verify      ${verified.report.clean ? 'clean' : 'NOT CLEAN'}, status ${verified.status}, in ${seconds(verified.tookMs)}`,
  )
  for (const problem of problems) console.log(`PROBLEM     ${problem}`)
  console.log(
    problems.length === 0
      ? `VERDICT     ok: all ${grouped(total)} words are there exactly once, none is missing, none double, every bit is that of ` +
          `the source, after ${times(kills)} of the daemon and ${times(producerKills)} of the process that produces ` +
          `(seed ${seed})`
      : `VERDICT     FAILED: ${wrong} of ${grouped(total)} words missing, double or changed, ${problems.length} problems ` +
          `(seed ${seed})`,
  )
  return problems.length === 0 ? 0 : 1
}

/**
 * @param {{ address: string, daemon: KilledDaemon, acknowledged: AcknowledgedWords, kills: number,
 *   producerKills: number, seed: number }} options
 */
async function produce({ address, daemon, acknowledged, kills, producerKills, seed }) {
  const total = acknowledged.words
  const random = new Random(seed)
  const daemonKillsAt = killsAt(kills, total, random)
  const producerKillsAt = killsAt(producerKills, total, random)
  /** @type {Map<string, number>} */
  const ends = new Map()
  const producer = new KilledProducer(address, total, {
    onConnected: () => daemon.connected(),
    onAcknowledged: (id, lsn, timeTick) => {
      acknowledged.add(id, lsn, timeTick)
      const vchannel = vchannelOf(id)
      ends.set(vchannel, Math.max(lsn, ends.get(vchannel) ?? -1))
      daemon.acknowledged()
      if (acknowledged.count >= (daemonKillsAt[0] ?? Number.POSITIVE_INFINITY)) {
        daemonKillsAt.shift()
        daemon.kill(() => acknowledged.count)
      }
      if (acknowledged.count >= (producerKillsAt[0] ?? Number.POSITIVE_INFINITY)) {
        producerKillsAt.shift()
        producer.kill()
      }
    },
  })
  const startedMs = performance.now()
  producer.start()
  await producer.finished()
  return { ends, tookMs: performance.now() - startedMs, producer }
}

/**
 * Each in the middle of its share of the words, give or take a tenth of it.
 * @param {number} kills @param {number} total @param {Random} random @returns {number[]}
 */
function killsAt(kills, total, random) {
  return Array.from({ length: kills }, (_, index) =>
    Math.floor((total * (index + 1 + (random.between(0, 200) - 100) / 1000)) / (kills + 1)),
  )
}

/** @param {number} kills @returns {string} */
function times(kills) {
  return `${kills} SIGKILL${kills === 1 ? '' : 's'}`
}

/** @param {{ report: import('../harness/daemon-process.mjs').VerifyReport }} verified @returns {number} */
function logBytes({ report }) {
  return report.logs.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** @param {number} number @returns {string} */
function grouped(number) {
  return number.toLocaleString('en')
}

/** @param {number} words @param {number} tookMs @returns {string} */
function rate(words, tookMs) {
  return `${grouped(Math.round((words / tookMs) * 1000))} words/s`
}

/** @param {number} ms @returns {string} */
function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`
}

/** @param {number | null} ms @returns {string} */
function milliseconds(ms) {
  return ms === null ? 'the end' : `${Math.round(ms)} ms`
}
