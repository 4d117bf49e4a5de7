#!/usr/bin/env node
// Checks package-lock.json: complete for every platform, and free of addresses, so that it serves whatever registry
// the one who installs is set to.
//
//   node scripts/lock-file.mjs          says what is wrong; status 1
//   node scripts/lock-file.mjs --fix    puts it right (run it after an `npm install` that changed the file)
//
// Complete: npm leaves out an optional package of another platform that it could not get while it wrote the file, and
// `npm ci` then refuses the file on every platform. Such a package has its platform in its name and its version pinned
// by its parent, which is all that npm needs to pass it over where it does not belong.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * @typedef {{ version: string, resolved?: string, dev?: boolean, optional?: boolean, os?: string[], cpu?: string[],
 *   libc?: string[], optionalDependencies?: Record<string, string> }} Entry
 */

const file = join(dirname(dirname(fileURLToPath(import.meta.url))), 'package-lock.json')
const lock = JSON.parse(readFileSync(file, 'utf8'))
/** @type {Record<string, Entry>} */
const entries = lock.packages

/** @type {string[]} */
const problems = []

for (const [path, entry] of Object.entries(entries)) {
  if (!entry.resolved) continue
  problems.push(`has an address: ${path}`)
  delete entry.resolved
}

for (const [path, parent] of Object.entries(entries)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    if (isPresent(path, name)) continue
    problems.push(`has no entry: ${name}, an optional dependency of ${path || 'the package itself'}`)
    entries[`node_modules/${name}`] = entryOfPlatformPackage(name, version, parent)
  }
}

for (const problem of problems) console.error(`package-lock.json ${problem}`)
if (problems.length > 0 && process.argv.includes('--fix')) {
  const sorted = Object.entries(entries).sort(([a], [b]) => a.localeCompare(b, 'en'))
  writeFileSync(file, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`)
  console.error(`package-lock.json: ${problems.length} places put right`)
} else if (problems.length > 0) {
  console.error('Next: node scripts/lock-file.mjs --fix')
  process.exitCode = 1
}

/**
 * Whether a package that stands at `path` finds `name`, in a folder of its own or of one above it.
 * @param {string} path
 * @param {string} name
 */
function isPresent(path, name) {
  for (let folder = path; ; ) {
    if (`${folder}${folder && '/'}node_modules/${name}` in entries) return true
    if (folder === '') return false
    folder = folder.slice(0, Math.max(folder.lastIndexOf('/node_modules/'), 0))
  }
}

/**
 * @param {string} name
 * @param {string} version
 * @param {Entry} parent
 * @returns {Entry}
 */
function entryOfPlatformPackage(name, version, parent) {
  if (!/^\d+[.]\d+[.]\d+/.test(version)) throw new Error(`${name} is pinned to no exact version: ${version}`)
  const part =
    /(android|darwin|freebsd|linux|openharmony|sunos|win32)-(arm64|arm|ia32|ppc64|riscv64|s390x|x64)\b(.*)$/.exec(name)
  const [, os, cpu, rest] = part ?? []
  if (!os || !cpu) throw new Error(`${name} does not name a platform: install it where it can be had`)
  const libc = rest?.includes('musl') ? 'musl' : rest?.includes('gnu') ? 'glibc' : undefined
  return {
    version,
    cpu: [cpu],
    ...(parent.dev ? { dev: true } : {}),
    ...(libc ? { libc: [libc] } : {}),
    optional: true,
    os: [os],
  }
}
