/**
 * Proves that the house rules bite: each case plants one wrong module in a small correct tree and expects the rule
 * that names it. Runs scripts/house-rules.mjs, the same program as the gate.
 */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'

type Files = Record<string, string>

/** A tree that keeps every rule and uses every arrow that the wrong cases come near to. */
const correctTree: Files = {
  'package.json': JSON.stringify({
    type: 'module',
    dependencies: { 'xxhash-wasm': '1.0.0', yaml: '1.0.0' },
    devDependencies: { vitest: '1.0.0' },
  }),
  ...stubPackage('xxhash-wasm'),
  ...stubPackage('yaml'),
  ...stubPackage('vitest'),
  ...stubPackage('undeclared'),
  'native-free-storage/index.ts': "export { frame } from './format/frame.ts'\nexport { disk } from './disk/disk.ts'\n",
  'native-free-storage/format/frame.ts': "import hash from 'xxhash-wasm'\nexport const frame = hash\n",
  'native-free-storage/disk/disk.ts': "import { open } from 'node:fs/promises'\nexport const disk = open\n",
  'src/index.ts': "export { connect } from './client/connect.ts'\nexport { serve } from './daemon/serve.ts'\n",
  'src/errors.ts': "export { disk as root } from '../native-free-storage/index.ts'\n",
  'src/cli/main.ts': "import { serve } from '../daemon/serve.ts'\nexport const main = serve\n",
  'src/daemon/serve.ts': "import { node } from '../streaming-node/node.ts'\nexport const serve = node\n",
  'src/streaming-node/node.ts': "import { store } from '../log-store/store.ts'\nexport const node = store\n",
  'src/log-store/store.ts': "import { frame } from '../../native-free-storage/index.ts'\nexport const store = frame\n",
  'src/protocol/codec.ts': 'export const codec = 1\n',
  'src/client/connect.ts': "import { codec } from '../protocol/codec.ts'\nexport const connect = codec\n",
  'src/observability/metrics.ts': 'export type Metrics = number\nexport const metrics = 1\n',
  'test/some.test.ts': "import { it } from 'vitest'\nexport const test = it\n",
}

function stubPackage(name: string): Files {
  return {
    [`node_modules/${name}/package.json`]: JSON.stringify({ name, version: '1.0.0', type: 'module', main: 'index.js' }),
    [`node_modules/${name}/index.js`]: 'export default 1\nexport const it = 1\n',
  }
}

const importing = (specifier: string): string =>
  `import * as imported from '${specifier}'\nexport const use = imported\n`

const wrong: [rule: string, path: string, code: string][] = [
  ['engine-stands-alone', 'native-free-storage/log/wrong.ts', importing('../../src/errors.ts')],
  ['engine-stands-alone', 'native-free-storage/log/wrong.ts', importing('yaml')],
  ['format-is-pure', 'native-free-storage/format/wrong.ts', importing('node:crypto')],
  ['format-is-pure', 'native-free-storage/format/wrong.ts', importing('../disk/disk.ts')],
  ['files-only-through-disk', 'native-free-storage/log/wrong.ts', importing('node:fs/promises')],
  ['files-only-through-disk', 'native-free-storage/log/wrong.ts', importing('node:fs')],
  ['files-only-at-the-edges', 'src/streaming-node/wrong.ts', importing('node:fs')],
  ['engine-only-by-its-border', 'src/log-store/wrong.ts', importing('../../native-free-storage/disk/disk.ts')],
  ['arrows-point-down-daemon', 'src/daemon/wrong.ts', importing('../cli/main.ts')],
  ['arrows-point-down-streaming-node', 'src/streaming-node/wrong.ts', importing('../daemon/serve.ts')],
  ['arrows-point-down-log-store', 'src/log-store/wrong.ts', importing('../protocol/codec.ts')],
  ['arrows-point-down-protocol', 'src/protocol/wrong.ts', importing('../client/connect.ts')],
  ['arrows-point-down-client', 'src/client/wrong.ts', importing('../streaming-node/node.ts')],
  ['client-without-server', 'src/client/wrong.ts', importing('../log-store/store.ts')],
  ['observability-knows-only-types', 'src/observability/wrong.ts', importing('../../native-free-storage/index.ts')],
  ['root-of-src-is-shared', 'src/wrong.ts', importing('./client/connect.ts')],
  ['nothing-imports-the-entry', 'src/cli/wrong.ts', importing('../index.ts')],
  ['no-test-in-product', 'src/cli/wrong.ts', importing('../../test/some.test.ts')],
  ['no-development-dependency-in-product', 'src/cli/wrong.ts', importing('vitest')],
  ['no-development-dependency-in-product', 'src/cli/wrong.ts', importing('undeclared')],
  ['no-unresolvable', 'src/cli/wrong.ts', importing('./absent.ts')],
]

const directories: string[] = []
afterEach(async () => {
  await Promise.all(directories.splice(0).map((path) => rm(path, { recursive: true })))
})

async function check(files: Files): Promise<{ exitCode: number | null; output: string }> {
  const root = await mkdtemp(join(tmpdir(), 'tidelog-house-rules-'))
  directories.push(root)
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, dirname(path)), { recursive: true })
    await writeFile(join(root, path), content)
  }
  const child = spawn(process.execPath, ['scripts/house-rules.mjs', root], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      output += chunk
    })
  }
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve)
  })
  return { exitCode, output }
}

describe('the house rules', () => {
  it('accept a tree that keeps them', async () => {
    const { exitCode, output } = await check(correctTree)
    expect(output).toContain('no violation')
    expect(exitCode).toBe(0)
  })

  it('each find the module that breaks them', async () => {
    // One tree holds all the wrong modules, under names of their own: starting the checker costs more than checking.
    const files = { ...correctTree }
    const expected = wrong.map(([rule, path, code], index) => {
      const planted = path.replace('wrong.ts', `wrong-${index}.ts`)
      files[planted] = code
      return `${rule}: ${planted} -> `
    })
    const { exitCode, output } = await check(files)
    expect(exitCode).toBe(1)
    for (const line of expected) expect(output).toContain(line)
    // And nothing else: the correct modules beside them stay unnamed.
    for (const line of output.split('\n').filter((text) => text.includes(' -> ')))
      expect(line).toMatch(/: \S*wrong-\d+/)
  })

  it('find a cycle, also one of types', async () => {
    const { exitCode, output } = await check({
      ...correctTree,
      'src/daemon/one.ts': "import type { Two } from './two.ts'\nexport type One = Two | 1\n",
      'src/daemon/two.ts': "import type { One } from './one.ts'\nexport type Two = One | 2\n",
    })
    expect(output).toContain('no-cycles: src/daemon/one.ts -> src/daemon/two.ts -> src/daemon/one.ts')
    expect(exitCode).toBe(1)
  })

  it('let observability name the types of what it observes', async () => {
    const { exitCode } = await check({
      ...correctTree,
      'src/observability/watch.ts':
        "import type { node } from '../streaming-node/node.ts'\nexport type Node = typeof node\n",
    })
    expect(exitCode).toBe(0)
  })

  it('fail when there is nothing to check', async () => {
    const { exitCode, output } = await check({ 'package.json': '{}', 'src/readme.md': 'no code' })
    expect(output).toContain('nothing was checked')
    expect(exitCode).toBe(1)
  })

  it('fail when a source file was not read', async () => {
    // The checker takes this name for an installed package and passes it over, and its forbidden import with it.
    const { exitCode, output } = await check({
      ...correctTree,
      'src/client/list-node_modules.ts': importing('node:fs'),
    })
    expect(output).toContain('not read: src/client/list-node_modules.ts')
    expect(exitCode).toBe(1)
  })
})
