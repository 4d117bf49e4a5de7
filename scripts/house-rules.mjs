#!/usr/bin/env node
// Checks the house rules (.dependency-cruiser.cjs), and that they were checked at all: dependency-cruiser reports
// success when it has read nothing (with a compiler whose API it does not know, for example).
//
//   node scripts/house-rules.mjs [ROOT]      ROOT: the tree to check, by default this repository
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cruise } from 'dependency-cruiser'

const repository = dirname(dirname(fileURLToPath(import.meta.url)))
const root = resolve(process.argv[2] ?? repository)
const folders = ['native-free-storage', 'src', 'bin', 'test', 'bench', 'examples', 'scripts']
const isSource = /[.](ts|mts|cts|js|mjs|cjs)$/
const hasStaticImport = /^(import|export)\b[^'"()]*\bfrom\s+['"]|^import\s+['"]/m

const { forbidden, options } = createRequire(import.meta.url)(join(repository, '.dependency-cruiser.cjs'))

/** @param {string} folder @returns {string[]} paths from the root of the tree */
function sourcesIn(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && isSource.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !path.includes('node_modules/'))
}

const present = folders.filter((folder) => readdirSync(root).includes(folder))
const sources = present.flatMap(sourcesIn)

const { output } = await cruise(present, { ...options, baseDir: root, validate: true, ruleSet: { forbidden } })
if (typeof output === 'string') throw new Error(`dependency-cruiser gave text instead of a result: ${output}`)

/** @type {string[]} */
const problems = []

const read = new Map(output.modules.map((module) => [module.source, module]))
if (sources.length === 0 || output.summary.totalCruised === 0) {
  problems.push(`nothing was checked: ${sources.length} source files, ${output.summary.totalCruised} modules read`)
}
for (const path of sources) {
  const module = read.get(path)
  if (!module) problems.push(`not read: ${path}`)
  else if (module.dependencies.length === 0 && hasStaticImport.test(readFileSync(join(root, path), 'utf8'))) {
    problems.push(`read without its imports: ${path}`)
  }
}

for (const { rule, from, to, cycle } of output.summary.violations) {
  const path = cycle ? [from, ...cycle.map((step) => step.name)].join(' -> ') : `${from} -> ${to}`
  problems.push(`${rule.name}: ${path}`)
}

for (const problem of problems) console.error(problem)
if (problems.length > 0) {
  console.error(`house rules: ${problems.length} problems in ${sources.length} source files`)
  process.exitCode = 1
} else {
  console.log(
    `house rules: ${sources.length} source files, ${output.summary.totalDependenciesCruised} imports, no violation`,
  )
}
