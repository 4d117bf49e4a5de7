/** What the figures depend on: printed above them. */
import { readFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import os from 'node:os'

/** @param {any} engine @param {string} directory where the benchmark writes */
export async function machineFacts(engine, directory) {
  const { fileSystem } = await engine.nodeEnvironment().disk.identify(directory)
  const { bsize, bavail } = await statfs(directory)
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model.trim() ?? 'unknown',
    cores: cpus.length,
    memoryBytes: os.totalmem(),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    threadPool: process.env.UV_THREADPOOL_SIZE ?? '4 (default)',
    fileSystem,
    device: deviceOf(directory),
    freeBytes: bsize * bavail,
    load: os.loadavg(),
  }
}

/** @param {Awaited<ReturnType<typeof machineFacts>>} facts */
export function printFacts(facts) {
  const gib = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`
  console.log(`machine: ${facts.cpu}, ${facts.cores} cores, ${gib(facts.memoryBytes)} memory, ${facts.system}`)
  console.log(`node ${facts.node}, libuv threads ${facts.threadPool}`)
  console.log(`disk: ${facts.fileSystem} on ${facts.device}, ${gib(facts.freeBytes)} free`)
  printLoad('load before', facts.load)
}

/** Figures of a busy machine are noise. @param {string} when @param {number[]} load */
export function printLoad(when, load) {
  const [oneMinute = 0] = load
  const busy = oneMinute > 0.5 * os.cpus().length ? ': BUSY, the figures are noise' : ''
  console.log(`${when}: ${load.map((value) => value.toFixed(2)).join(' ')}${busy}`)
}

/** The device that the longest mount point above `directory` names. @param {string} directory */
function deviceOf(directory) {
  try {
    let best = { point: '', device: 'unknown' }
    for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
      const [device = '', point = ''] = line.split(' ')
      const above = directory === point || directory.startsWith(point === '/' ? '/' : `${point}/`)
      if (above && point.length >= best.point.length) best = { point, device }
    }
    return best.device
  } catch {
    return 'unknown'
  }
}
