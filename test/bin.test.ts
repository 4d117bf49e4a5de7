/** bin/tidelog.js, in a package folder of its own with a stand-in for the compiled CLI. */
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

let packageRoot: string

beforeEach(async () => {
  packageRoot = await mkdtemp(join(tmpdir(), 'tidelog-bin-'))
  await cp('bin', join(packageRoot, 'bin'), { recursive: true })
  await writeFile(join(packageRoot, 'package.json'), '{ "type": "module" }')
})

afterEach(() => rm(packageRoot, { recursive: true }))

async function writeMain(code: string): Promise<void> {
  await mkdir(join(packageRoot, 'dist/src/cli'), { recursive: true })
  await writeFile(join(packageRoot, 'dist/src/cli/main.js'), code)
}

interface Result {
  exitCode: number | string
  stdout: string
  stderr: string
}

function run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Result> {
  const { UV_THREADPOOL_SIZE: _, ...inherited } = process.env
  return new Promise((resolve) => {
    const options = { env: { ...inherited, ...env } }
    execFile(process.execPath, [join(packageRoot, 'bin/tidelog.js'), ...args], options, (error, stdout, stderr) => {
      resolve({ exitCode: error?.code ?? 0, stdout, stderr })
    })
  })
}

describe('bin/tidelog.js', () => {
  it('hands its arguments to the CLI and ends with the status that it gives', async () => {
    await writeMain('export async function main(argv) { console.log(JSON.stringify(argv)); return 8 }')
    expect(await run(['dump', '--json'])).toEqual({ exitCode: 8, stdout: '["dump","--json"]\n', stderr: '' })
  })

  it('says what to do next when the package is not built', async () => {
    const { exitCode, stdout, stderr } = await run(['serve'])
    expect(exitCode).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toContain('is not built')
    expect(stderr).toContain('Next: run "npm start"')
  })

  it('fails with the error when the CLI throws', async () => {
    await writeMain("export async function main() { throw new Error('a defect') }")
    const { exitCode, stderr } = await run([])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('a defect')
  })

  // The pool's size is fixed at its first use, which a loader of modules may well be: so count the threads that exist.
  const countPoolThreads = `
    import { pbkdf2 } from 'node:crypto'
    import { readdirSync } from 'node:fs'
    const threads = () => readdirSync('/proc/self/task').length
    export async function main() {
      await Promise.all(Array.from({ length: 32 }, () => new Promise((resolve) => pbkdf2('', '', 1, 1, 'sha1', resolve))))
      console.log(threads())
      return 0
    }`

  it.runIf(process.platform === 'linux')('gives the thread pool 8 threads, or as many as the user says', async () => {
    await writeMain(countPoolThreads)
    const [byDefault, four, twelve] = await Promise.all([
      run([]),
      run([], { UV_THREADPOOL_SIZE: '4' }),
      run([], { UV_THREADPOOL_SIZE: '12' }),
    ])
    expect(Number(byDefault.stdout) - Number(four.stdout)).toBe(4)
    expect(Number(twelve.stdout) - Number(four.stdout)).toBe(8)
  })
})
