// Uses the installed package as a stranger would: copied into the folder where the tarball was installed and run there
// with the Node under test. With a major number as its argument it insists on being run by that Node.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const require = createRequire(import.meta.url)
const wantedMajor = process.argv[2]
if (wantedMajor) assert.equal(process.versions.node.split('.')[0], wantedMajor)

try {
  require('fs-ext')
  console.log('fs-ext: loaded')
} catch (error) {
  console.log(`fs-ext: not loadable here, so the lock file stands alone (${/** @type {any} */ (error).code})`)
}

const workDirectory = await mkdtemp(join(tmpdir(), 'tidelog-use-package-'))
try {
  await importAndRequire()
  await useTheEngine(join(workDirectory, 'log'))
  await useTheDaemon(join(workDirectory, 'data'))
} finally {
  await rm(workDirectory, { recursive: true, force: true })
}
console.log(`the package works on Node ${process.version}`)

async function importAndRequire() {
  const nameOf = { tidelog: 'connect', 'tidelog/storage': 'openLog', 'tidelog/wal': 'openWal' }
  for (const [specifier, name] of Object.entries(nameOf)) {
    const imported = await import(specifier)
    assert.equal(typeof imported[name], 'function', `import of ${specifier} gives ${name}`)
    assert.equal(require(specifier)[name], imported[name], `require of ${specifier} gives the same ${name}`)
  }
}

/** @param {string} directory */
async function useTheEngine(directory) {
  const { openLog } = await import(/** @type {string} */ ('tidelog/storage'))
  const texts = ['first', '', 'third: ü']
  const log = await openLog(directory, {})
  const appended = await log.append(texts.map((text) => ({ vchannel: 'orders', payload: Buffer.from(text) })))
  assert.equal(appended.lastLsn - appended.firstLsn, texts.length - 1)
  await log.close()

  const reopened = await openLog(directory, {})
  const read = []
  for await (const frame of reopened.read({ from: 'earliest', vchannels: ['orders'] })) {
    for (const record of frame) read.push(Buffer.from(record.payload).toString())
  }
  assert.deepEqual(read, texts)
  await reopened.close()
}

/** @param {string} data */
async function useTheDaemon(data) {
  const [tcpPort, httpPort] = await Promise.all([freePort(), freePort()])
  const server = `tcp://127.0.0.1:${tcpPort}`
  const daemon = startTidelog([
    'serve',
    ...['--data', data, '--listen', `127.0.0.1:${tcpPort}`, '--http', `127.0.0.1:${httpPort}`],
  ])
  try {
    await untilReady(`http://127.0.0.1:${httpPort}/readyz`, daemon)

    const lines = Array.from({ length: 100 }, (_, index) => `line ${index}`)
    const produced = await tidelog(['produce', 'orders', '--server', server, '--json'], `${lines.join('\n')}\n`)
    assert.equal(produced.length, lines.length, 'one acknowledgement a line')
    assert.ok(produced.every((ack, index) => ack.index === index && Number.isSafeInteger(ack.lsn)))

    const consumed = await tidelog(['consume', 'orders', '--server', server, '--until-caught-up', '--json'])
    assert.deepEqual(
      consumed.map((record) => record.payload),
      lines,
    )
  } finally {
    daemon.child.kill('SIGTERM')
    const killer = setTimeout(() => daemon.child.kill('SIGKILL'), 20_000)
    await daemon.ended
    clearTimeout(killer)
  }
  const { exitCode, stderr } = await daemon.ended
  assert.equal(exitCode, 0, `the daemon drained and ended; it said: ${stderr}`)

  const [report] = await tidelog(['verify', data, '--json'])
  assert.equal(report.clean, true)
}

/**
 * By the link that npm made, with the Node that runs this.
 * @param {string[]} args
 */
function startTidelog(args) {
  const child = spawn(process.execPath, ['node_modules/.bin/tidelog', ...args])
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk
  })
  const ended = once(child, 'close').then(([exitCode]) => ({ exitCode, stdout, stderr }))
  return { child, ended }
}

/**
 * Runs a command to its end; its standard output as JSON.
 * @param {string[]} args
 * @returns {Promise<any[]>}
 */
async function tidelog(args, input = '') {
  const { child, ended } = startTidelog(args)
  child.stdin.end(input)
  const { exitCode, stdout, stderr } = await ended
  assert.equal(exitCode, 0, `tidelog ${args.join(' ')}: ${stderr}`)
  const whole = stdout.trim()
  // One document (verify) or one a line.
  return args[0] === 'verify' ? [JSON.parse(whole)] : whole.split('\n').map((line) => JSON.parse(line))
}

/**
 * @param {string} url
 * @param {ReturnType<typeof startTidelog>} daemon
 */
async function untilReady(url, daemon) {
  let ended = false
  daemon.ended.then(() => {
    ended = true
  })
  for (const deadlineMs = performance.now() + 20_000; performance.now() < deadlineMs; ) {
    if (ended) throw new Error(`the daemon ended before it was ready: ${(await daemon.ended).stderr}`)
    const ready = await fetch(url).then(
      (response) => response.ok,
      () => false,
    )
    if (ready) return
    await sleep(50)
  }
  throw new Error(`${url} did not become ready in 20 s`)
}

/** @returns {Promise<number>} */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  assert.ok(address && typeof address === 'object')
  return address.port
}
