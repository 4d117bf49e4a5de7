#!/usr/bin/env node
// Starts the CLI; nothing else.
//
// This one file is CommonJS (bin/package.json says so) because libuv reads UV_THREADPOOL_SIZE at the first use of its
// pool, and Node 20 reads an ES module through that pool before the module's first line runs. Measured: set in an ES
// module the value is ignored on Node 20 (4 threads); set here it counts on 20, 22 and 24 (8 threads).
'use strict'

const { existsSync } = require('node:fs')
const { dirname, join } = require('node:path')

// Synced writes hold a pool thread each: with libuv's 4, four writes in flight would leave none for reads.
process.env.UV_THREADPOOL_SIZE ??= '8'

const packageRoot = dirname(__dirname)
const main = join(packageRoot, 'dist', 'src', 'cli', 'main.js')

if (existsSync(main)) {
  import('../dist/src/cli/main.js')
    .then((cli) => cli.main(process.argv.slice(2)))
    .then(
      (exitCode) => {
        process.exitCode = exitCode
      },
      (error) => {
        console.error(error)
        process.exitCode = 1
      },
    )
} else {
  console.error(`tidelog is not built: ${main} is missing. Nothing was read or written.`)
  console.error(
    `Next: run "npm start" in ${packageRoot}, which builds and starts the daemon; "npm run build" only builds.`,
  )
  process.exitCode = 1
}
