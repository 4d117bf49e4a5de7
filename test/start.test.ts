/**
 * scripts/start.sh and build.sh in a small tree of their own, with stand-ins for npm and the compiler: what is
 * installed and built again, and what is not.
 */
import { execFile } from 'node:child_process'
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const execute = promisify(execFile)
let root: string

const fakeNpm = `#!/bin/bash
echo "$1 \${!#}" >>calls
case $1 in
  ci) rm -rf node_modules; mkdir -p node_modules/.bin; cp fake-tsc node_modules/.bin/tsc ;;
  run) bash scripts/build.sh ;;
esac
`

// Fails on a source that holds the word "wrong", as the compiler does on a type error.
const fakeTsc = `#!/bin/bash
! grep -rq wrong src && mkdir -p "\${!#}" && cp src/main.ts "\${!#}/main.js"
`

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'tidelog-start-'))
  for (const folder of ['src', 'native-free-storage', 'bin', 'fake-bin']) await mkdir(join(root, folder))
  await cp('scripts', join(root, 'scripts'), { recursive: true })
  for (const file of ['package-lock.json', 'tsconfig.json', 'tsconfig.build.json'])
    await writeFile(join(root, file), '{}')
  await writeFile(join(root, 'src/main.ts'), 'first')
  await writeFile(join(root, 'bin/tidelog.js'), 'console.log(process.ppid, process.argv.slice(2).join(" "))')
  await writeFile(join(root, 'fake-bin/npm'), fakeNpm, { mode: 0o755 })
  await writeFile(join(root, 'fake-tsc'), fakeTsc, { mode: 0o755 })
})

afterEach(() => rm(root, { recursive: true }))

/** Starts once; which calls of npm that took, and what the daemon printed. */
async function start(...flags: string[]): Promise<{ calls: string[]; stdout: string; failed: boolean }> {
  await writeFile(join(root, 'calls'), '')
  const env = { ...process.env, PATH: `${join(root, 'fake-bin')}:${process.env.PATH}` }
  const result = await execute('bash', [join(root, 'scripts/start.sh'), ...flags], { env }).then(
    ({ stdout }) => ({ stdout, failed: false }),
    () => ({ stdout: '', failed: true }),
  )
  const calls = (await readFile(join(root, 'calls'), 'utf8')).split('\n').filter(Boolean)
  return { ...result, calls: calls.map((call) => call.split(' ')[0]!) }
}

describe('npm start', () => {
  it('installs and builds the first time, and neither the second time', async () => {
    expect((await start()).calls).toEqual(['ci', 'run'])
    expect((await start()).calls).toEqual([])
  })

  it('becomes the daemon itself, and passes the flags on', async () => {
    // The parent of the daemon is this process, not a shell in between.
    expect((await start('--data', 'x')).stdout).toBe(`${process.pid} serve --data x\n`)
  })

  it('builds again when a source changed, came or went, or the settings of the compiler changed', async () => {
    await start()
    await appendFile(join(root, 'src/main.ts'), ' edited')
    expect((await start()).calls).toEqual(['run'])
    await writeFile(join(root, 'native-free-storage/added.ts'), '')
    expect((await start()).calls).toEqual(['run'])
    await rm(join(root, 'native-free-storage/added.ts'))
    expect((await start()).calls).toEqual(['run'])
    await writeFile(join(root, 'tsconfig.build.json'), '{ }')
    expect((await start()).calls).toEqual(['run'])
    await rm(join(root, 'dist'), { recursive: true })
    expect((await start()).calls).toEqual(['run'])
  })

  it('installs again when the lock file changed or the packages are gone', async () => {
    await start()
    await writeFile(join(root, 'package-lock.json'), '{ }')
    expect((await start()).calls).toEqual(['ci', 'run'])
    await rm(join(root, 'node_modules'), { recursive: true })
    expect((await start()).calls).toEqual(['ci'])
  })

  it('does not start after a failed build, keeps the last good one, and tries again the next time', async () => {
    await start()
    await writeFile(join(root, 'src/main.ts'), 'wrong')
    for (const attempt of [1, 2])
      expect(await start(), `attempt ${attempt}`).toMatchObject({ failed: true, calls: ['run'] })
    expect(await readFile(join(root, 'dist/main.js'), 'utf8')).toBe('first')
  })
})
