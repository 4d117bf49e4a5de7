/** The version of this package, from its own package.json: beside `src/` in the repository, above `dist/` when built. */
import { readFileSync } from 'node:fs'

export function packageVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as Record<
        string,
        unknown
      >
      if (name === 'tidelog' && typeof version === 'string') return version
    } catch {
      // The other place.
    }
  }
  return 'unknown'
}
