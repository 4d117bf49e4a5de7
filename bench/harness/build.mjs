/**
 * The compiled engine that is measured: what users run, without a compiler's loader in the figures. Another build can
 * be given (`--dist`), to measure two versions with the same harness.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** @param {string} dist @param {string} file inside it */
export function importBuilt(dist, file) {
  const path = join(dist, file)
  if (!existsSync(path)) throw new Error(`${path} is not there: run \`npm run build\` first, or give --dist`)
  return import(pathToFileURL(path).href)
}

/** The engine's border, as `tidelog/storage` gives it. @param {string} dist */
export async function importEngine(dist) {
  const engine = await importBuilt(dist, 'native-free-storage/index.js')
  await engine.loadChecksum()
  return engine
}
