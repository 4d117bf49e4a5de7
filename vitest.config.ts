import { defineConfig } from 'vitest/config'
import { budgetName } from './test/budget.ts'
import { mutantLoader } from './test/simulation/mutant-loader.ts'
import { mutantsOfWal } from './test/simulation/wal-mutants.ts'
import { mutantsOfParts } from './test/wal/part-mutants.ts'
import { mutantsOfScans } from './test/wal/scan/scan-mutants.ts'

const timeoutMs = { small: 60_000, ci: 600_000, soak: 86_400_000 }[budgetName()]

export default defineConfig({
  plugins: [undefined, mutantsOfScans, mutantsOfWal, mutantsOfParts].map((set) => mutantLoader(set)),
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    pool: 'forks',
    // Many suites wait for child processes and disks rather than for a processor.
    maxWorkers: 3,
    // The files of a worker share their modules: loading them anew for each file takes a third of the time of all. No suite
    // changes a module.
    isolate: false,
  },
})
