/**
 * The directories of the simulated disk: names as openers see them, names that are durable, and each change in
 * between.
 *
 * `strict`: a change of names becomes durable only by a sync of its directory, and at a power loss each change is
 * kept or lost for itself. A rename into another directory may leave both names, but never neither.
 * `ext4`: changes reach the journal in order, so a power loss keeps the first few of them; a sync of any directory
 * writes the journal up to there, and so does the sync of a file, up to the last change of its own names.
 */
import type { Chooser } from './choices.ts'
import { type PowerLossOptions, SimFile } from './sim-file.ts'

export type NameMode = 'strict' | 'ext4'

export type SimNode = SimFile | SimDirectory

export class SimDirectory {
  readonly names = new Map<string, SimNode>()
  readonly durable = new Map<string, SimNode>()
}

interface Effect {
  directory: SimDirectory
  name: string
  node: SimNode | null
  done: boolean
}

export interface NameChange {
  order: number
  description: string
  /** A name that appears comes before the one that goes. */
  effects: Effect[]
  inFlight: boolean
}

export class SimNames {
  readonly mode: NameMode
  readonly root: SimDirectory
  #pending: NameChange[] = []

  constructor(mode: NameMode, root: SimDirectory = new SimDirectory()) {
    this.mode = mode
    this.root = root
  }

  get pending(): readonly NameChange[] {
    return this.#pending
  }

  find(path: string): SimNode | undefined {
    let node: SimNode | undefined = this.root
    for (const name of parts(path)) {
      if (!(node instanceof SimDirectory)) return undefined
      node = node.names.get(name)
    }
    return node
  }

  /** The directory that holds the last name of a path. */
  parent(path: string): { directory: SimDirectory; name: string } | undefined {
    const names = parts(path)
    const name = names.pop()
    const directory = this.find(names.join('/'))
    return name !== undefined && directory instanceof SimDirectory ? { directory, name } : undefined
  }

  /** Carries the change out in the cache's view; it stays pending until a sync. */
  change(order: number, description: string, effects: Omit<Effect, 'done'>[]): NameChange {
    const change = {
      order,
      description,
      effects: effects.map((effect) => ({ ...effect, done: false })),
      inFlight: true,
    }
    for (const { directory, name, node } of effects) {
      const old = directory.names.get(name)
      if (old instanceof SimFile) old.names--
      if (node instanceof SimFile) node.names++
      if (node === null) directory.names.delete(name)
      else directory.names.set(name, node)
    }
    this.#pending.push(change)
    return change
  }

  /** Makes a directory and its parents durable at once: for the setting of a test. */
  prepare(path: string): SimDirectory {
    let directory = this.root
    for (const name of parts(path)) {
      let next = directory.names.get(name)
      if (next === undefined) {
        next = new SimDirectory()
        directory.names.set(name, next)
        directory.durable.set(name, next)
      }
      if (!(next instanceof SimDirectory)) throw new Error(`${path}: ${name} is a file`)
      directory = next
    }
    return directory
  }

  /** What a sync of `directory` that begins now makes durable. */
  syncable(directory: SimDirectory): NameChange[] {
    const touches = (change: NameChange) => change.effects.some((effect) => effect.directory === directory)
    if (this.mode === 'strict') return this.#pending.filter((change) => !change.inFlight && touches(change))
    const last = this.#pending.findLastIndex((change) => !change.inFlight && touches(change))
    return this.#pending.slice(0, last + 1)
  }

  /** What a sync of `file` that begins now makes durable besides its content. */
  syncableWith(file: SimFile): NameChange[] {
    if (this.mode === 'strict') return []
    const last = this.#pending.findLastIndex(
      (change) => !change.inFlight && change.effects.some((effect) => effect.node === file),
    )
    return this.#pending.slice(0, last + 1)
  }

  /** `directory` undefined: all effects of the changes. */
  makeDurable(changes: readonly NameChange[], directory?: SimDirectory): void {
    for (const change of changes) {
      if (!this.#pending.includes(change)) continue
      const leaves = change.effects.some((effect) => effect.directory === directory && effect.node === null)
      for (const effect of change.effects) {
        if (effect.done) continue
        const own = directory === undefined || this.mode === 'ext4' || effect.directory === directory
        if (!own && !(leaves && effect.node !== null)) continue
        enter(effect.directory.durable, effect)
        effect.done = true
      }
    }
    this.#pending = this.#pending.filter((change) => change.effects.some((effect) => !effect.done))
  }

  /** The tree as it is found after a power loss, all of it durable. */
  afterPowerLoss(nextId: () => number, chooser: Chooser, options: PowerLossOptions): SimNames {
    const views = new Map<SimDirectory, Map<string, SimNode>>()
    const view = (directory: SimDirectory) => {
      let names = views.get(directory)
      if (names === undefined) {
        names = new Map(directory.durable)
        views.set(directory, names)
      }
      return names
    }
    for (const change of this.#pending) {
      const left = change.effects.filter((effect) => !effect.done)
      const divisible = this.mode === 'strict' && left.length === 2 && left[0]!.directory !== left[1]!.directory
      const fate = chooser.choose(divisible ? 3 : 2, 'name')
      if (fate === 0 && this.mode === 'ext4') break
      if (fate === 0) continue
      for (const effect of left) {
        if (fate === 2 && effect.node === null) continue
        enter(view(effect.directory), effect)
      }
    }
    const found = new Map<SimNode, SimNode>()
    const copy = (node: SimNode): SimNode => {
      const known = found.get(node)
      if (known !== undefined) return known
      if (node instanceof SimFile) {
        const file = node.afterPowerLoss(nextId(), chooser, options)
        found.set(node, file)
        return file
      }
      const directory = new SimDirectory()
      found.set(node, directory)
      for (const [name, child] of view(node)) {
        const childCopy = copy(child)
        if (childCopy instanceof SimFile) childCopy.names++
        directory.names.set(name, childCopy)
        directory.durable.set(name, childCopy)
      }
      return directory
    }
    return new SimNames(this.mode, copy(this.root) as SimDirectory)
  }

  /** Every file once. */
  files(): Set<SimFile> {
    return new Set([...this.paths()].map(([, file]) => file))
  }

  /** Every name of a file. */
  *paths(directory: SimDirectory = this.root, path = ''): Generator<[string, SimFile]> {
    for (const [name, node] of directory.names) {
      if (node instanceof SimDirectory) yield* this.paths(node, `${path}/${name}`)
      else yield [`${path}/${name}`, node]
    }
  }
}

function enter(names: Map<string, SimNode>, effect: Effect): void {
  if (effect.node === null) names.delete(effect.name)
  else names.set(effect.name, effect.node)
}

function parts(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}
