/** What a benchmark gets: the engine, its options, a directory of its own, and the tables it fills. */
import { lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { printTable } from './table.mjs'

export class Context {
  /** The engine's border. @type {any} */
  engine
  /** The build that is measured. @type {string} */
  dist
  /** How the engine writes: what its probe found. @type {any} */
  way
  /** Length of one measured round. @type {number | undefined} */
  seconds
  /** @type {number} */
  rounds
  /** Empty at the start of each benchmark, and removed at its end. @type {string} */
  directory
  /** @type {import('./table.mjs').Table[]} */
  tables = []
  diskBytesMax = 0

  constructor({ engine, dist, way, seconds, rounds, directory }) {
    this.engine = engine
    this.dist = dist
    this.way = way
    this.seconds = seconds
    this.rounds = rounds
    this.directory = directory
  }

  /** @param {number} byDefault seconds */
  roundMs(byDefault) {
    return (this.seconds ?? byDefault) * 1000
  }

  /** Prints a table and keeps it for `--json`. @param {import('./table.mjs').Table} table */
  show(table) {
    printTable(table)
    this.tables.push(table)
  }

  /** A new directory. @param {string} name */
  folder(name) {
    const path = `${this.directory}/${name}`
    mkdirSync(path)
    return path
  }

  /** Removes what a part of the benchmark left. @param {string} path */
  remove(path) {
    this.noteDisk()
    rmSync(path, { recursive: true, force: true })
  }

  /** Looks how much lies on the disk: the greatest that was seen is printed. */
  noteDisk() {
    this.diskBytesMax = Math.max(this.diskBytesMax, allocatedBytes(this.directory, new Set()))
  }

  /** Throws when there is not so much free. @param {number} bytes */
  async needs(bytes) {
    const { bsize, bavail } = await statfs(this.directory)
    if (bsize * bavail < bytes) {
      throw new Error(`${Math.ceil(bytes / 2 ** 20)} MiB have to be free in ${this.directory}; see --dir`)
    }
  }
}

/** @param {string} directory @param {Set<number>} seen inodes: a file with two names counts once @returns {number} */
function allocatedBytes(directory, seen) {
  let sum = 0
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = `${directory}/${entry.name}`
    if (entry.isDirectory()) sum += allocatedBytes(path, seen)
    else {
      const found = lstatSync(path, { throwIfNoEntry: false })
      if (found === undefined || seen.has(found.ino)) continue
      seen.add(found.ino)
      sum += found.blocks * 512
    }
  }
  return sum
}
