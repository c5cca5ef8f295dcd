/**
 * The arrows between the rooms, and which files may know which library. What is not drawn here is
 * not allowed. ARCHITECTURE.md says why.
 */

/** Each room and the rooms that it may import from, lowest first: an import runs downwards. */
const ARROWS = {
  schemas: [],
  model: ['schemas'],
  versions: ['schemas'],
  activities: ['schemas', 'model', 'versions'],
  pipelines: ['schemas'],
  operations: ['schemas', 'model', 'versions', 'activities', 'pipelines'],
  serving: ['schemas', 'model', 'versions', 'operations'],
};
const LOWER_ROOMS = Object.keys(ARROWS);
ARROWS.infra = LOWER_ROOMS;
ARROWS.bench = [...LOWER_ROOMS, 'infra'];
ARROWS.cli = [...LOWER_ROOMS, 'infra'];
const ROOMS = [...Object.keys(ARROWS), 'test'];

/**
 * The folders of infra, lowest first; each imports only from those before it. `config` is what the
 * operator chose. `setup` prepares the machine; its modules in plain JavaScript run before any
 * package is installed. `local` runs a system on one machine. `processes` are its programs.
 */
const INFRA_FOLDERS = [
  'infra/config/',
  'infra/setup/[^/]+$',
  'infra/setup/provision/',
  'infra/setup/doctor/',
  'infra/local/',
  'infra/processes/',
];

const infraRules = INFRA_FOLDERS.map((folder, i) => ({
  name: `folders-of-infra-${i}`,
  comment: `${folder} imports from no infra folder above it.`,
  severity: 'error',
  from: { path: `^${folder}` },
  to: { path: `^(${[...INFRA_FOLDERS.slice(i + 1), '(?!)'].join('|')})` },
}));

/** A library, and the files that may import it; tests may always. */
const ADAPTERS = [
  {
    library: 'kafkajs',
    files: ['pipelines/kafka/kafka[a-z-]*\\.ts', 'infra/local/kafka\\.ts'],
  },
  { library: 'avsc', files: ['schemas/records/avro(-shape)?\\.ts'] },
  { library: '@tensorflow/tfjs-core', files: ['model/.+'] },
  { library: '@tensorflow/(?!tfjs-core/)[^/]+', files: ['model/tensor/tensorflow\\.ts'] },
  { library: '@aws-sdk/[^/]+', files: ['versions/stores/s3-[^/]+\\.ts'] },
  { library: 'cli-progress', files: ['infra/setup/progress\\.ts'] },
  { library: 'yauzl', files: ['infra/setup/provision/wheel\\.ts'] },
  { library: 'vega(-lite)?', files: ['bench/study/plots\\.ts'] },
  { library: 'fastify', files: ['serving/.+'] },
];

const roomRules = Object.entries(ARROWS).map(([room, allowed]) => {
  const forbidden = ROOMS.filter((other) => other !== room && !allowed.includes(other));
  return {
    name: `arrows-of-${room}`,
    comment: `${room} imports from ${allowed.length === 0 ? 'no other room' : allowed.join(', ')}.`,
    severity: 'error',
    from: { path: `^${room}/` },
    to: {
      path: `^(${forbidden.join('|')})/`,
      // Workflows name activities by their types: the sandbox must never load what they do.
      ...(room === 'pipelines' ? { pathNot: '^activities/' } : {}),
    },
  };
});

const adapterRules = ADAPTERS.map(({ library, files }) => ({
  name: `adapter-of-${library.replace(/\(.*?\)|\[.*$/g, '')}`,
  comment: `Only ${files.join(', ')} may know ${library}.`,
  severity: 'error',
  from: { pathNot: [...files.map((file) => `^${file}$`), '^test/'] },
  to: { path: `(^|/)node_modules/(@types/)?${library}/` },
}));

module.exports = {
  forbidden: [
    ...roomRules,
    ...infraRules,
    ...adapterRules,
    {
      name: 'pipelines-know-activities-by-type',
      comment: 'A workflow bundle that loads activities would carry TensorFlow into the sandbox.',
      severity: 'error',
      from: { path: '^pipelines/' },
      to: { path: '^activities/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-circles-of-folders',
      severity: 'error',
      scope: 'folder',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-imports-of-nothing',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-tests-in-the-product',
      severity: 'error',
      from: { pathNot: '^test/' },
      to: { path: '^node_modules/(vitest|fast-check|@temporalio/testing)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'require', 'node', 'default', 'types'],
      extensions: ['.ts', '.mts', '.mjs', '.js', '.cjs', '.json', '.d.ts'],
      mainFields: ['main', 'types'],
    },
  },
};
