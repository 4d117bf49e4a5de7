// The house rules: which part may import which. Run by scripts/house-rules.mjs, which also fails when a file was not
// read; test/house-rules.test.ts proves that each rule fires.

const engineBorder = '^native-free-storage/index[.]ts$'
const builtinFileAccess = '^(node:)?fs(/promises)?$'

/**
 * The folders of src/, and what each may import besides itself, the engine's border and the files that stand directly
 * in src/. Arrows point down; folders of one level do not know each other, but for the daemon, which starts them all.
 */
const layers = {
  cli: ['daemon', 'client', 'log-store', 'protocol', 'message', 'observability'],
  daemon: [
    'gateway',
    'streaming-node',
    'streaming-coord',
    'wal',
    'log-store',
    'client',
    'protocol',
    'message',
    'observability',
  ],
  gateway: ['streaming-node', 'streaming-coord', 'client', 'protocol', 'message', 'observability'],
  'streaming-node': ['wal', 'log-store', 'protocol', 'message', 'observability'],
  'streaming-coord': ['wal', 'log-store', 'protocol', 'message', 'observability'],
  client: ['protocol', 'message', 'observability'],
  wal: ['log-store', 'message', 'observability'],
  'log-store': ['message', 'observability'],
  protocol: ['message'],
  message: [],
  observability: [],
}

const layerRules = Object.entries(layers).map(([folder, below]) => ({
  name: `arrows-point-down-${folder}`,
  comment: `src/${folder}/ may import ${below.length ? below.join(', ') : 'no other folder of src/'}.`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: {
    path: '^src/[^/]+/',
    pathNot: [folder, ...below].map((name) => `^src/${name}/`),
    // Types of any part may be named by what observes it.
    ...(folder === 'observability' ? { dependencyTypesNot: ['type-only'] } : {}),
  },
}))

module.exports = {
  forbidden: [
    {
      name: 'engine-stands-alone',
      comment:
        'native-free-storage/ imports Node built-ins and xxhash-wasm, and nothing from src/: it can be lifted out.',
      severity: 'error',
      from: { path: '^native-free-storage/' },
      to: { pathNot: ['^native-free-storage/', '(^|/)node_modules/xxhash-wasm/'], dependencyTypesNot: ['core'] },
    },
    {
      name: 'format-is-pure',
      comment: 'format/ does no I/O: it imports format/ and xxhash-wasm (the checksum), not even a built-in.',
      severity: 'error',
      from: { path: '^native-free-storage/format/' },
      to: { pathNot: ['^native-free-storage/format/', '(^|/)node_modules/xxhash-wasm/'] },
    },
    {
      name: 'files-only-through-disk',
      comment: 'In the engine only disk/ touches the file system, so that a simulation can stand in for it.',
      severity: 'error',
      from: { path: '^native-free-storage/', pathNot: '^native-free-storage/disk/' },
      to: { path: builtinFileAccess },
    },
    {
      name: 'files-only-at-the-edges',
      comment:
        'In src/ nothing above the log store knows a file; only cli/ and daemon/ touch input, configuration, sockets.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(cli|daemon|log-store)/' },
      to: { path: builtinFileAccess },
    },
    {
      name: 'engine-only-by-its-border',
      comment: 'src/ and bin/ reach the engine through native-free-storage/index.ts.',
      severity: 'error',
      from: { path: '^(src|bin)/' },
      to: { path: '^native-free-storage/', pathNot: engineBorder },
    },
    ...layerRules,
    {
      name: 'client-without-server',
      comment: 'A client never carries a server part, not even by way of another module.',
      severity: 'error',
      from: { path: '^src/client/' },
      to: {
        path: '^src/(streaming-node|streaming-coord|daemon|log-store|wal|gateway|cli)/',
        reachable: true,
      },
    },
    {
      name: 'observability-knows-only-types',
      comment: 'Everything in src/ may import observability/; it imports nothing of src/ or the engine but types.',
      severity: 'error',
      from: { path: '^src/observability/' },
      to: { path: '^(src|native-free-storage)/', pathNot: '^src/observability/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'root-of-src-is-shared',
      comment:
        'A file directly in src/ is for every folder, so it imports no folder; index.ts, the entry, gathers them.',
      severity: 'error',
      from: { path: '^src/[^/]+$', pathNot: '^src/index[.]ts$' },
      to: { path: '^src/([^/]+/|index[.]ts$)' },
    },
    {
      name: 'nothing-imports-the-entry',
      comment: 'src/index.ts is for users of the package.',
      severity: 'error',
      from: { path: '^(src|native-free-storage)/' },
      to: { path: '^src/index[.]ts$' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-test-in-product',
      comment: 'Product code imports no test, benchmark, example or script.',
      severity: 'error',
      from: { path: '^(native-free-storage|src|bin)/' },
      to: { path: '^(test|bench|examples|scripts)/' },
    },
    {
      name: 'no-development-dependency-in-product',
      comment: 'What product code imports is a dependency, and is declared.',
      severity: 'error',
      from: { path: '^(native-free-storage|src|bin)/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-unresolvable',
      severity: 'error',
      from: { path: '^(native-free-storage|src|test|scripts)/' },
      to: { couldNotResolve: true },
    },
  ],
  options: {
    // Imports of types count too: they are arrows.
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'types', 'node', 'default'] },
  },
}
