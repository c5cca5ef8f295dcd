/** The configuration and other start-up input give a sound value or a clear refusal. */
import fc from 'fast-check';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { LINEAGE_SETTINGS } from '../../infra/config/lineage-settings.ts';
import { SETTINGS, type Setting } from '../../infra/config/settings.ts';
import {
  CONFIGURATION_LIMITS,
  ConfigurationError,
  readConfiguration,
  type Configuration,
} from '../../infra/config/configuration.ts';
import { markOf } from '../../infra/local/process-mark.ts';
import { runningServer } from '../../infra/local/server-process.ts';
import { SMALL_FILE_BYTES_MAX } from '../../infra/config/secret.ts';
import {
  findSystem,
  lastSystem,
  writeSystem,
  type SystemState,
} from '../../infra/local/system-state.ts';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { BadParameterSet, readParameterSet } from '../../schemas/hyper-parameters.ts';
import { testFolder } from '../harness/clean-up.ts';
import {
  always,
  damaged,
  faultOf,
  nestedJson,
  oddJson,
  oddParts,
  oddText,
} from '../harness/odd-inputs.ts';

const folder = testFolder();

const SECRET = 'hunter-two-hunter-two';
const ALL: Setting<unknown>[] = [...Object.values(SETTINGS), ...Object.values(LINEAGE_SETTINGS)];
const SECRETS = ALL.flatMap(({ form, variable }) => (form.secret ? [variable] : []));
const UNKNOWN = ['ERRATA_NEWS_BATCH_EDITS_MAX', 'ERRATA_NEWS', 'ERRATA_', 'ERRATA_MODLE'];
const VARIABLES = [...ALL.map(({ variable }) => variable), ...UNKNOWN].filter(
  (variable) => !SECRETS.includes(variable),
);

/** Reads this file and environment, and checks the result or the refusal. */
function read(environment: NodeJS.ProcessEnv, file?: string | Uint8Array): Configuration | null {
  const path = join(folder, 'errata.config.json');
  rmSync(path, { force: true });
  if (file !== undefined) writeFileSync(path, file);
  try {
    const configuration = readConfiguration(environment, folder);
    for (const lineage of configuration.lineages) {
      expect(lineage).toMatch(LINEAGE_NAME);
      expect(configuration.settings[lineage]).toBeDefined();
    }
    const { home, versions, model, serve, notices } = configuration;
    expect(notices.length).toBeLessThanOrEqual(2 * CONFIGURATION_LIMITS.noticesMax + 1);
    expect(JSON.stringify([home, versions, model, serve.host])).not.toContain('\\u0000');
    expect(JSON.stringify(configuration)).not.toContain(SECRET);
    return configuration;
  } catch (fault) {
    expect(fault).toBeInstanceOf(ConfigurationError);
    const { message, faults } = fault as ConfigurationError;
    expect(faults.length).toBeGreaterThan(0);
    expect(message).not.toContain(SECRET);
    expect(message).not.toMatch(/\n\s+at /);
    for (const line of message.split('\n')) expect(line.length).toBeLessThan(3_000);
    return null;
  }
}

/** Any value that an environment variable can hold. */
const variableText = fc
  .oneof(
    oddText,
    fc.constantFrom(
      ...['true', '1', '0', '-1', '65536', 'a:1', 'a:99999', '[::1]:9092', 'default,news', 'cpu'],
      ...['plain', '{"lambda":1}', '{', 'https://x'],
      nestedJson(30_000),
      'a,'.repeat(5_000),
      Array.from({ length: 5_000 }, (_, i) => `l${i}`).join(','),
    ),
  )
  .map((text) => text.replaceAll('\0', ''));

test('the configuration of any environment is sound or refused, and shows no secret', async () => {
  const limits = { maxKeys: 6, noNullPrototype: true };
  const plain = fc.dictionary(fc.constantFrom(...VARIABLES), variableText, limits);
  await always(200, plain, fc.subarray(SECRETS), (variables, secrets) =>
    read({ ...variables, ...Object.fromEntries(secrets.map((name) => [name, SECRET])) }),
  );
});

test('the configuration of any file is sound or refused', async () => {
  const sound = {
    lineages: ['default', 'news'],
    kafka: { brokers: ['a:1'], ssl: { enabled: true } },
    batch: { batchWaitMs: 5 },
    lineage: { news: { batch: { batchEditsMax: 5 } } },
    hyperParameters: { lambda: 1 },
    serve: { port: 1 },
    logLevel: 'info',
  };
  await always(
    200,
    fc.oneof(oddParts(sound), oddJson),
    (value) => void read({}, JSON.stringify(value) ?? ''),
  );
  await always(150, damaged(JSON.stringify(sound, null, 2)), (bytes) => void read({}, bytes));
});

test.each<[string, string, RegExp]>([
  ['nested without end', nestedJson(100_000, 'object'), /deeper than 16 levels/],
  ['with a value nested without end', `{"device":${nestedJson(100_000)}}`, /deeper than 16 levels/],
  ['with values without end', `{"x":[${'1,'.repeat(20_000)}1]}`, /more than 10000 values/],
  ['that is too long', `{"x":"${'x'.repeat(SMALL_FILE_BYTES_MAX)}"}`, /more than 1048576 bytes/],
  ['with a secret in place of a brace', `{"temporal": {"apiKey": "${SECRET}" "x"}}`, /not JSON/],
  ['with only a secret', SECRET, /not JSON/],
  ['with a NUL in a path', '{"home":"a\\u0000b"}', /home/],
])('a file %s is refused', async (_, file, message) => {
  read({}, file);
  const fault = await faultOf(() => readConfiguration({}, folder));
  expect(fault).toBeInstanceOf(ConfigurationError);
  expect((fault as Error).message).toMatch(message);
  expect((fault as Error).message).not.toContain(SECRET);
});

test('only the first of thousands of unknown names are reported', () => {
  const names = Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`name-${i}`, 1]));
  const { notices } = read({ [`ERRATA_${'X'.repeat(100_000)}`]: '1' }, JSON.stringify(names))!;
  expect(notices).toHaveLength(CONFIGURATION_LIMITS.noticesMax + 2);
  const more = 3_000 - CONFIGURATION_LIMITS.noticesMax;
  expect(notices.at(-1)).toBe(`${more} more names are not settings`);
  for (const notice of notices) expect(notice.length).toBeLessThan(500);
});

test('secrets, parameter sets and configurations are bounded, even from /dev/zero', () => {
  for (const name of ['ERRATA_TEMPORAL_API_KEY_FILE', 'ERRATA_PARAMETER_SET', 'ERRATA_CONFIG'])
    expect(read({ [name]: '/dev/zero' }), name).toBeNull();
});

test.each(['a:0', 'a:65536', 'a:99999', 'a:01'])('the port of %s is refused', (address) => {
  expect(read({ ERRATA_TEMPORAL_ADDRESS: address })).toBeNull();
  expect(read({ ERRATA_KAFKA_BROKERS: `ok:1,${address}` })).toBeNull();
});

test('any text is a parameter set or refused', async () => {
  const sound = {
    name: 'mine',
    source: 'tuned',
    fits: { architecture: 'llama', layers: 30 },
    parameters: { layers: [4, 5], lambda: 1500, gate: { floor: 0.4 } },
    measured: { efficacy: 1 },
  };
  const text = fc.oneof(odd(sound), oddText, fc.constant(nestedJson(100_000)));
  await always(300, text, async (one) => {
    const fault = await faultOf(() => readParameterSet('set.json', one));
    if (fault === undefined) return;
    expect(fault).toBeInstanceOf(BadParameterSet);
    expect((fault as Error).message.length).toBeLessThan(1_200);
  });
});

const mark = markOf(process.pid)!;
const NOTHING = { mark: null, startedAt: null, port: null, step: null };
const system: SystemState = {
  format: 1,
  state: 'ready',
  supervisor: mark,
  startedAt: '2026-01-01T00:00:00.000Z',
  lineages: ['default'],
  kafka: { brokers: ['a:1'], embedded: true, pid: 1 },
  temporal: { address: 'a:1', namespace: 'n', embedded: true, pid: null, uiUrl: null },
  serveUrl: null,
  processes: [{ ...NOTHING, name: 'serve', state: 'waiting to restart', restarts: 2, log: 'x' }],
};
const odd = (sound: object): fc.Arbitrary<string> =>
  fc.oneof(
    oddParts(sound).map((value) => JSON.stringify(value) ?? ''),
    damaged(JSON.stringify(sound)).map((bytes) => Buffer.from(bytes).toString()),
  );

test('a system state is read back as written, and other content is ignored', async () => {
  writeSystem(folder, system);
  expect(findSystem(folder)).toEqual(system);
  const file = join(folder, 'run', 'system.json');
  await always(200, odd(system), (text) => {
    writeFileSync(file, text);
    findSystem(folder);
    const state = lastSystem(folder);
    if (state === null) return;
    expect(typeof state.supervisor.pid).toBe('number');
    expect([state.processes, state.kafka.brokers].every(Array.isArray)).toBe(true);
  });
  for (const text of ['null', '[]', '{"format":1}', '{"format":1,"supervisor":null}', '']) {
    writeFileSync(file, text);
    expect(findSystem(folder)).toBeNull();
  }
  truncateSync(file, 2 ** 40);
  expect(lastSystem(folder)).toBeNull();
});

test('an embedded server is found by its record, and other content is ignored', async () => {
  const record = { ...mark, ports: { broker: 9092 } };
  const file = join(folder, 'server', 'server.json');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, JSON.stringify(record));
  expect(runningServer(dirname(file))).toEqual(record);
  await always(200, odd(record), async (text) => {
    writeFileSync(file, text);
    expect(await faultOf(() => runningServer(dirname(file)))).toBeUndefined();
  });
  for (const text of ['null', '{}', '{"pid":-1}', '[]']) {
    writeFileSync(file, text);
    expect(runningServer(dirname(file))).toBeUndefined();
  }
});
