import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { configurationReference } from '../../../infra/config/configuration-reference.ts';
import {
  ConfigurationError,
  readConfiguration,
  terminalPreferences,
} from '../../../infra/config/configuration.ts';
import { engineOptions } from '../../../infra/config/engine-options.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-configuration-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const read = (environment: NodeJS.ProcessEnv = {}) => readConfiguration(environment, folder);
const writeFile = (content: unknown, name = 'errata.config.json') =>
  writeFileSync(
    join(folder, name),
    typeof content === 'string' ? content : JSON.stringify(content),
  );

test('an empty environment means one machine with embedded servers and defaults', () => {
  const configuration = read();
  expect(configuration).toMatchObject({
    device: 'cpu',
    model: null,
    lineages: ['default'],
    notices: [],
  });
  expect(configuration.kafka).toMatchObject({
    embedded: true,
    brokers: [],
    ssl: null,
    sasl: null,
  });
  expect(configuration.temporal).toMatchObject({ embedded: true, tls: null, apiKey: null });
  expect(configuration.settings['default']).toEqual(DEFAULT_LINEAGE_SETTINGS);
});

test('all faults are reported at once, each with name, value and expectation', () => {
  const error = faultsOf({
    ERRATA_DEVICE: 'tpu',
    ERRATA_BATCH_EDITS_MAX: 'ten',
    ERRATA_LOCALITY_MIN: '1.5',
    ERRATA_KAFKA_BROKERS: 'kafka',
    ERRATA_LINEAGES: 'default,Über',
  });
  expect(error.faults.map((fault) => fault.name).sort()).toEqual([
    'ERRATA_BATCH_EDITS_MAX',
    'ERRATA_DEVICE',
    'ERRATA_KAFKA_BROKERS',
    'ERRATA_LINEAGES',
    'ERRATA_LOCALITY_MIN',
  ]);
  expect(error.message).toContain('ERRATA_DEVICE is "tpu"; expected cpu or gpu');
  expect(error.message).toContain(
    'ERRATA_BATCH_EDITS_MAX is "ten"; expected a whole number from 1 to 10000',
  );
});

test('a setting of one lineage overrides the setting for all', () => {
  const { settings } = read({
    ERRATA_LINEAGES: 'default,news-desk',
    ERRATA_BATCH_EDITS_MAX: '20',
    ERRATA_NEWS_DESK_BATCH_EDITS_MAX: '5',
  });
  expect(settings['default']!.batch.batchEditsMax).toBe(20);
  expect(settings['news-desk']!.batch.batchEditsMax).toBe(5);
});

test('lineages with the same variables are refused', () => {
  expect(faultsOf({ ERRATA_LINEAGES: 'a-b,a_b' }).faults).toMatchObject([
    { name: 'ERRATA_LINEAGES', value: 'a_b' },
  ]);
});

test('half a client certificate and malformed payload keys are refused', () => {
  expect(
    faultsOf({ ERRATA_KAFKA_SSL_CERTIFICATE: 'c.pem', ERRATA_TEMPORAL_TLS_KEY: 'k.pem' })
      .faults.map(({ name }) => name)
      .sort(),
  ).toEqual(['ERRATA_KAFKA_SSL_KEY', 'ERRATA_TEMPORAL_TLS_CERTIFICATE']);
  const error = faultsOf({ ERRATA_TEMPORAL_PAYLOAD_KEYS: 'hush:tooshort' });
  expect(error.message).toMatch(
    /ERRATA_TEMPORAL_PAYLOAD_KEYS is "\[secret\]"; expected name:key, the key 32 bytes in base64/,
  );
  expect(error.message).not.toContain('tooshort');
});

test('search attributes are on unless payloads are encrypted; histories are archived', () => {
  const keys = `k:${Buffer.alloc(32).toString('base64')}`;
  expect(read()).toMatchObject({
    archiveHistories: true,
    temporal: { searchAttributes: true, retentionDays: 365, pageUrl: null },
  });
  expect(read({ ERRATA_TEMPORAL_PAYLOAD_KEYS: keys }).temporal.searchAttributes).toBe(false);
  expect(
    read({ ERRATA_TEMPORAL_PAYLOAD_KEYS: keys, ERRATA_TEMPORAL_SEARCH_ATTRIBUTES: 'true' }).temporal
      .searchAttributes,
  ).toBe(true);
  expect(read({ ERRATA_TEMPORAL_SEARCH_ATTRIBUTES: 'false' }).temporal.searchAttributes).toBe(
    false,
  );
});

test('a buffer smaller than a batch is refused', () => {
  expect(
    faultsOf({ ERRATA_BATCH_EDITS_MAX: '50', ERRATA_BUFFER_EDITS_MAX: '10' }).faults,
  ).toMatchObject([{ value: '10', expected: expect.stringContaining('50') as string }]);
});

test('the environment overrides the file, the file overrides the default', () => {
  writeFile({
    logLevel: 'warn',
    device: 'gpu',
    batch: { batchWaitMs: 1 },
    lineage: { default: { verdict: { localityMin: 0.9 } } },
  });
  const configuration = read({ ERRATA_LOG_LEVEL: 'error' });
  expect(configuration).toMatchObject({ logLevel: 'error', device: 'gpu' });
  expect(configuration.settings['default']!.batch.batchWaitMs).toBe(1);
  expect(configuration.settings['default']!.verdict.localityMin).toBe(0.9);
  expect([...configuration.given].sort()).toContain('logLevel');
  expect(configuration.given.has('serve.port')).toBe(false);
});

test('a fault in a file is reported with the file and the path', () => {
  writeFile({ kafka: { partitions: 'many' } });
  expect(faultsOf({}).message).toContain(
    `${join(folder, 'errata.config.json')}: kafka.partitions is "many"`,
  );
});

test('a file that is not a JSON object or a missing named file is refused', () => {
  writeFile('{ not json');
  expect(faultsOf({}).faults).toHaveLength(1);
  expect(faultsOf({ ERRATA_CONFIG: 'absent.json' }).faults).toMatchObject([
    { name: 'ERRATA_CONFIG', value: 'absent.json' },
  ]);
});

test('misspelt settings are reported', () => {
  writeFile({ kafka: { broker: 'a:1' } });
  const { notices } = read({ ERRATA_MODLE: 'x' });
  expect(notices).toContain('ERRATA_MODLE is not a setting; did you mean ERRATA_MODEL?');
  expect(notices.join()).toContain('kafka.broker is not a setting; did you mean kafka.brokers?');
});

test('secrets are never shown', () => {
  writeFileSync(join(folder, 'key'), 'hunter-three\n');
  const configuration = read({
    ERRATA_KAFKA_SASL_MECHANISM: 'plain',
    ERRATA_KAFKA_SASL_USERNAME: 'u',
    ERRATA_KAFKA_SASL_PASSWORD: 'hunter-two',
    ERRATA_TEMPORAL_API_KEY_FILE: 'key',
  });
  expect(configuration.kafka.sasl!.password.reveal()).toBe('hunter-two');
  expect(configuration.temporal.apiKey!.reveal()).toBe('hunter-three');
  expect(
    inspect(configuration, { depth: 9, showHidden: true }) +
      JSON.stringify(configuration) +
      String(configuration.kafka.sasl!.password),
  ).not.toMatch(/hunter/);
});

test('a secret in the file is refused without being repeated', () => {
  writeFile({ temporal: { apiKey: 'hunter-two' } });
  const error = faultsOf({});
  expect(error.faults).toHaveLength(1);
  expect(error.message).not.toContain('hunter');
});

test('a schema registry may have a user and an authority, but not half of them', () => {
  expect(read({}).registry).toBeNull();
  const { registry } = read({
    ERRATA_SCHEMA_REGISTRY_URL: 'https://registry:8081/base',
    ERRATA_SCHEMA_REGISTRY_USERNAME: 'u',
    ERRATA_SCHEMA_REGISTRY_PASSWORD: 'hunter-two',
    ERRATA_SCHEMA_REGISTRY_CA: 'ca.pem',
  });
  expect(registry).toMatchObject({
    url: 'https://registry:8081/base',
    credentials: { username: 'u' },
    caPath: join(folder, 'ca.pem'),
  });
  expect(inspect(registry, { depth: 9, showHidden: true })).not.toContain('hunter');
  expect(
    faultsOf({ ERRATA_SCHEMA_REGISTRY_USERNAME: 'u' }).faults.map((fault) => fault.name),
  ).toEqual(['ERRATA_SCHEMA_REGISTRY_URL', 'ERRATA_SCHEMA_REGISTRY_PASSWORD']);
  expect(
    faultsOf({
      ERRATA_SCHEMA_REGISTRY_URL: 'http://r',
      ERRATA_SCHEMA_REGISTRY_PASSWORD: 'p',
    }).faults.map((fault) => fault.name),
  ).toEqual(['ERRATA_SCHEMA_REGISTRY_USERNAME']);
});

test('versions are in a folder, or in a bucket with its settings', () => {
  expect(read({}).versions).toEqual({
    kind: 'folder',
    folder: resolve(read({}).home, 'versions'),
  });
  expect(read({ ERRATA_VERSIONS: 'of/mine' }).versions).toEqual({
    kind: 'folder',
    folder: join(folder, 'of/mine'),
  });
  expect(read({ ERRATA_VERSIONS: 's3://facts' }).versions).toEqual({
    kind: 's3',
    bucket: 'facts',
    prefix: '',
    endpoint: null,
    region: null,
    pathStyle: false,
    credentials: null,
    caPath: null,
  });
  const { versions } = read({
    ERRATA_VERSIONS: 's3://facts/of/Mine/',
    ERRATA_S3_ENDPOINT: 'https://s3:9000',
    ERRATA_S3_REGION: 'eu-central-1',
    ERRATA_S3_ACCESS_KEY_ID: 'id',
    ERRATA_S3_SECRET_ACCESS_KEY: 'hunter-two',
    ERRATA_S3_CA: 'ca.pem',
  });
  expect(versions).toMatchObject({
    kind: 's3',
    bucket: 'facts',
    prefix: 'of/Mine',
    endpoint: 'https://s3:9000',
    region: 'eu-central-1',
    pathStyle: true,
    credentials: { accessKeyId: 'id' },
    caPath: join(folder, 'ca.pem'),
  });
  expect(inspect(versions, { depth: 9, showHidden: true })).not.toContain('hunter');
  expect(
    read({
      ERRATA_VERSIONS: 's3://facts',
      ERRATA_S3_ENDPOINT: 'https://s3',
      ERRATA_S3_PATH_STYLE: 'false',
    }).versions,
  ).toMatchObject({ pathStyle: false });
  writeFile({ versions: 's3://facts/x', s3: { endpoint: 'http://localhost:9000' } });
  expect(read({}).versions).toMatchObject({
    bucket: 'facts',
    prefix: 'x',
    endpoint: 'http://localhost:9000',
  });
});

test.each([
  's3://',
  's3://A',
  's3://facts//x',
  's3://facts/../x',
  's3://facts/.x',
  's3://fa cts',
  'S3://facts',
  'gs://facts',
  'https://facts',
  `s3://facts/${'x'.repeat(300)}`,
])('%j is refused as a place for versions', (place) => {
  expect(faultsOf({ ERRATA_VERSIONS: place }).faults).toMatchObject([{ name: 'ERRATA_VERSIONS' }]);
});

test('incomplete S3 settings, and S3 settings without a bucket, are refused', () => {
  expect(faultsOf({ ERRATA_S3_ENDPOINT: 'http://s3' }).faults).toMatchObject([
    { name: 'ERRATA_VERSIONS', expected: expect.stringMatching(/^s3:/) as unknown },
  ]);
  expect(
    faultsOf({ ERRATA_VERSIONS: 's3://facts', ERRATA_S3_ACCESS_KEY_ID: 'id' }).faults.map(
      (fault) => fault.name,
    ),
  ).toEqual(['ERRATA_S3_SECRET_ACCESS_KEY']);
  expect(
    faultsOf({ ERRATA_VERSIONS: 's3://facts', ERRATA_S3_SECRET_ACCESS_KEY: 's' }).faults.map(
      (fault) => fault.name,
    ),
  ).toEqual(['ERRATA_S3_ACCESS_KEY_ID']);
});

test('a user in an address is refused without repeating the password', () => {
  const { faults, message } = faultsOf({
    ERRATA_SCHEMA_REGISTRY_URL: 'https://u:hunter@registry:8081',
  });
  expect(faults).toEqual([
    {
      name: 'ERRATA_SCHEMA_REGISTRY_URL',
      value: 'https://[secret]@registry:8081',
      expected: 'an http or https address without a user in it',
    },
  ]);
  expect(message).not.toContain('hunter');
});

test('incomplete SASL settings are refused', () => {
  expect(faultsOf({ ERRATA_KAFKA_SASL_USERNAME: 'u' }).faults.map((fault) => fault.name)).toEqual([
    'ERRATA_KAFKA_SASL_MECHANISM',
    'ERRATA_KAFKA_SASL_PASSWORD',
  ]);
});

test('an API key enables TLS to Temporal', () => {
  expect(read({ ERRATA_TEMPORAL_API_KEY: 'k' }).temporal.tls).not.toBeNull();
});

test('a model path is distinguished from a Hugging Face id', () => {
  expect(read({ ERRATA_MODEL: './model' }).model).toBe(join(folder, 'model'));
  expect(read({ ERRATA_MODEL: 'model.gguf' }).model).toBe(join(folder, 'model.gguf'));
  expect(read({ ERRATA_MODEL: 'openai-community/gpt2' }).model).toBe('openai-community/gpt2');
  for (const path of ['a/..', 'a/b..c', '-a/b', 'a/.b', 'a/b.git'])
    expect(read({ ERRATA_MODEL: path }).model).toBe(resolve(folder, path));
  mkdirSync(join(folder, 'models', 'mine'), { recursive: true });
  expect(read({ ERRATA_MODEL: 'models/mine' }).model).toBe(join(folder, 'models', 'mine'));
});

test('hyper-parameters are checked by name', () => {
  expect(
    read({ ERRATA_HYPER_PARAMETERS: '{"lambda": 1500, "layers": [4, 5]}' }).hyperParameters,
  ).toEqual({ lambda: 1500, layers: [4, 5] });
  expect(faultsOf({ ERRATA_HYPER_PARAMETERS: '{"lamda": 1500}' }).message).toContain('lamda');
  expect(faultsOf({ ERRATA_HYPER_PARAMETERS: 'lambda=1500' }).faults).toHaveLength(1);
});

test('hyper-parameters override those of a parameter set from a file', () => {
  const fits = { architecture: 'llama', layers: 30 };
  writeFile(
    {
      name: 'mine',
      source: 'tuned',
      fits,
      parameters: { layers: [4, 5], lambda: 1500, gate: { floor: 0.4 } },
    },
    'set.json',
  );
  const configuration = read({
    ERRATA_PARAMETER_SET: 'set.json',
    ERRATA_HYPER_PARAMETERS: '{"lambda": 500}',
  });
  expect(configuration.parameterSet?.name).toBe('mine');
  expect(engineOptions(configuration).parameters).toEqual({
    layers: [4, 5],
    lambda: 500,
    gate: { floor: 0.4 },
    fits,
  });
  writeFile({ name: 'mine', source: 'tuned', fits, parameters: { layer: [4] } }, 'set.json');
  expect(faultsOf({ ERRATA_PARAMETER_SET: 'set.json' }).message).toMatch(
    /ERRATA_PARAMETER_SET.*layer/,
  );
  expect(faultsOf({ ERRATA_PARAMETER_SET: 'absent.json' }).faults).toHaveLength(1);
});

test('NO_COLOR and FORCE_COLOR are respected', () => {
  expect(terminalPreferences({ NO_COLOR: '1', FORCE_COLOR: '1' }).colour).toBe(false);
  expect(terminalPreferences({ FORCE_COLOR: '1' }).colour).toBe(true);
  expect(terminalPreferences({}).colour).toBeNull();
});

test('docs/configuration.md describes every setting (update with `vitest -u`)', async () => {
  await expect(configurationReference()).toMatchFileSnapshot('../../../docs/configuration.md');
});

function faultsOf(environment: NodeJS.ProcessEnv): ConfigurationError {
  try {
    read(environment);
  } catch (error) {
    if (error instanceof ConfigurationError) return error;
    throw error;
  }
  throw new Error('the configuration was taken');
}
