// The daemon on the lossy disk:  node lossy-daemon.mjs LOSSY FLAGS...   (started by epoch.mjs; LOSSY is JSON)
//
// The built daemon, with the flags of `serve`, but that its disk keeps in memory what was not synced. Without the
// kernel's lock, which would look for its file on the real file system.
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createLogger, startDaemon } from 'tidelog'
import { DiskError, nodeEnvironment } from 'tidelog/storage'
import { importBuilt } from '../harness/build.mjs'
import { LossyDisk } from './lossy-disk.mjs'

const dist = fileURLToPath(new URL('../../dist', import.meta.url))
const [lossy = '', ...args] = process.argv.slice(2)
const { loadConfig } = await importBuilt(dist, 'src/daemon/config.js')
const { settings } = await importBuilt(dist, 'src/daemon/settings.js')

/** @type {Record<string, { type: 'string' }>} */
const options = {}
for (const { name } of settings) options[name] = { type: 'string' }
const { values: flags } = parseArgs({ args, options })
const { config } = await loadConfig({ flags, environment: {} })

mkdirSync(config.data, { recursive: true, mode: 0o700 })
const { disk: inner } = nodeEnvironment()
const disk = new LossyDisk(
  config.data,
  inner,
  (code, operation, path, cause) => new DiskError(code, operation, path, { cause }),
  JSON.parse(lossy),
)
const logger = createLogger({ level: 'warn', format: 'text', write: (line) => process.stderr.write(`${line}\n`) })
const daemon = await startDaemon(config, { environment: nodeEnvironment({ disk }), logger })
process.once('SIGTERM', async () => {
  const { clean } = await daemon.stop()
  // What was not synced is lost by a stop in order as well.
  process.exit(clean ? 0 : 1)
})
disk.startLying()
const { host, port } = daemon.addresses.tcp
process.stdout.write(`${JSON.stringify({ listen: `tcp://${host}:${port}` })}\n`)
