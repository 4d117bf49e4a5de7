/**
 * Serves the engine once more with a piece of its text replaced: `import('./hunts.ts?mutant=NAME')` gives the module, and
 * behind it every module that reaches an edited one, in a copy of its own. What does not reach one is shared, so that an
 * error keeps its class. The product knows nothing of it: this is a plugin of the test runner.
 *
 * An edit whose text is not there exactly once fails the import: a mutant that changes nothing would prove nothing.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'vitest/config'
import type { Edit } from './mutant.ts'
import { mutants } from './mutants.ts'

/** Mutants of one part of the sources. */
export interface MutantSet {
  /** What stands before the name of one in an import: `?mutant=`. */
  readonly marker: string
  /** Of which the files of the edits are named. */
  readonly base: string
  /** Folders whose modules are looked at: a module elsewhere is shared. */
  readonly trees: readonly string[]
  readonly mutants: Readonly<Record<string, { readonly edits: readonly Edit[] }>>
}

const ofEngine: MutantSet = {
  marker: '?mutant=',
  base: 'native-free-storage',
  trees: ['native-free-storage', 'test/simulation'],
  mutants,
}

const root = fileURLToPath(new URL('../..', import.meta.url))

export function mutantLoader(set: MutantSet = ofEngine): Plugin {
  const { marker } = set
  const base = join(root, set.base)
  const editsOf = (name: string): readonly Edit[] => {
    const edits = set.mutants[name]?.edits
    if (edits === undefined) throw new Error(`there is no mutant "${name}"`)
    return edits
  }
  const split = (id: string): [path: string, mutant: string | undefined] => {
    const at = id.indexOf(marker)
    return at < 0 ? [id, undefined] : [id.slice(0, at), decodeURIComponent(id.slice(at + marker.length))]
  }
  const affectedBy = new Map<string, ReadonlySet<string>>()
  const affected = (name: string): ReadonlySet<string> => {
    let files = affectedBy.get(name)
    if (files === undefined) {
      files = reaching(
        editsOf(name).map(({ file }) => join(base, file)),
        set.trees.map((tree) => join(root, tree)),
      )
      affectedBy.set(name, files)
    }
    return files
  }
  return {
    name: `tidelog-mutants${marker}`,
    enforce: 'pre',
    async resolveId(source, importer) {
      const [path, own] = split(source)
      const [from, inherited] = importer === undefined ? [undefined, undefined] : split(importer)
      const name = own ?? inherited
      if (name === undefined || !path.startsWith('.') || from === undefined) return undefined
      const file = resolve(dirname(from), path)
      return affected(name).has(file) ? `${file}${marker}${name}` : file
    },
    load(id) {
      const [file, name] = split(id)
      if (name === undefined) return undefined
      let text = readFileSync(file, 'utf8')
      for (const edit of editsOf(name)) {
        if (join(base, edit.file) === file) text = edited(text, edit, name)
      }
      return { code: text, map: null }
    },
  }
}

function edited(text: string, { file, replace, by }: Edit, name: string): string {
  const count = text.split(replace).length - 1
  if (count !== 1) throw new Error(`the mutant "${name}" finds its text ${count} times in ${file}: ${replace}`)
  return text.replace(replace, () => by)
}

/** The edited files, and all that import them, over however many steps. */
function reaching(files: readonly string[], trees: readonly string[]): ReadonlySet<string> {
  const importers = new Map<string, string[]>()
  for (const file of trees.flatMap(sources)) {
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/(?:from|import)\s+'(\.[^']+)'/g)) {
      const target = resolve(dirname(file), path!)
      importers.set(target, [...(importers.get(target) ?? []), file])
    }
  }
  const found = new Set(files)
  for (const file of found) for (const importer of importers.get(file) ?? []) found.add(importer)
  return found
}

function sources(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .map((name) => join(directory, name))
}
