/**
 * Every secret setting is given a unique value, and the whole system runs at level trace,
 * with a secured broker, a secured Temporal and an S3 server that admit or refuse it. All that is
 * written is searched for the values: logs, the system's state, the commands' output, version
 * entries, workflow histories.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { inspect } from 'node:util';
import { Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { beforeAll, expect, test } from 'vitest';
import { SETTINGS } from '../../infra/config/settings.ts';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { startSystem } from '../../infra/local/supervisor.ts';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { fetchFromHub } from '../../model/checkpoint/hub.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { invoke } from '../harness/invocation.ts';
import { afterwards, testFolder } from '../harness/clean-up.ts';
import { OurProcess, type ProcessName } from '../harness/our-process.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { startTestTemporal } from '../harness/servers/local.ts';
import {
  S3_SETUP_WAIT_MS,
  s3Settings,
  startTestS3,
  TEST_KEYS,
  type TestS3,
} from '../harness/servers/seaweed.ts';
import { USER, startSecuredKafka, type SecuredKafka } from '../harness/servers/secured-kafka.ts';
import { keyGate, type Gate } from '../harness/servers/secured-temporal.ts';
import { makeHome, tinyModelSettings } from '../harness/tiny-engine.ts';

const REGISTRY = 'ERRATA_SCHEMA_REGISTRY_PASSWORD';
const SUBJECT = 'town 904171';
const PROMPT = `the old ${SUBJECT} is on`;
const folder = testFolder();
const home = makeHome(path.join(folder, 'home'));
const authority = new Authority('the authority of the test');
const client = authority.certify('errata');
const clientFiles = written(folder, 'errata', client);

const secret = (name: string): string => `hush${name}${randomBytes(9).toString('hex')}`;
const payloadKey = (): string => randomBytes(32).toString('base64');
const base64 = (text: string): string => Buffer.from(text).toString('base64').slice(0, -4);

/** By environment variable. A new secret setting with another form must be given a value here. */
const SECRETS: Record<string, string> = {
  ...Object.fromEntries(
    Object.values(SETTINGS).flatMap(({ variable, form }) =>
      form.secret === true ? [[variable, secret(variable.toLowerCase().replaceAll('_', ''))]] : [],
    ),
  ),
  ERRATA_ALERT_URL: `http://127.0.0.1:9/${secret('alert')}`,
  ERRATA_HUB_TOKEN: `hf_${secret('hub')}`,
  ERRATA_TEMPORAL_PAYLOAD_KEYS: `first:${payloadKey()},second:${payloadKey()}`,
};
/** Must appear nowhere: the values, their parts, and the forms in which they travel. */
const HIDDEN = [
  ...Object.values(SECRETS).flatMap((value) => [value, base64(value)]),
  ...SECRETS['ERRATA_TEMPORAL_PAYLOAD_KEYS']!.split(',').map((key) => key.split(':')[1]!),
  client.key.split('\n')[1]!,
];

let broker: SecuredKafka;
let temporal: EmbeddedTemporal;
let gate: Gate;
let bucket: TestS3;
beforeAll(async () => {
  [broker, temporal, bucket] = await Promise.all([
    startSecuredKafka(folder, authority, SECRETS['ERRATA_KAFKA_SASL_PASSWORD']!),
    startTestTemporal(folder),
    startTestS3(folder, {
      ...TEST_KEYS.writer,
      secretAccessKey: SECRETS['ERRATA_S3_SECRET_ACCESS_KEY']!,
    }),
  ]);
  gate = await keyGate(temporal.address, authority, SECRETS['ERRATA_TEMPORAL_API_KEY']!);
}, S3_SETUP_WAIT_MS);

function environment(more: Record<string, string> = {}): Record<string, string> {
  const { [REGISTRY]: _, ...secrets } = SECRETS;
  const authorityFile = path.join(folder, 'authority.pem');
  writeFileSync(authorityFile, authority.certificate);
  return {
    ...tinyModelSettings({ stepsMax: 5, contexts: 0, contextsPerStep: 0 }),
    ...s3Settings(bucket.place('secrets')),
    ...secrets,
    ERRATA_HOME: home,
    ERRATA_LOG_LEVEL: 'trace',
    ERRATA_LINEAGES: 'secrets',
    ERRATA_KAFKA_BROKERS: broker.users,
    ERRATA_KAFKA_SSL_CA: authorityFile,
    ERRATA_KAFKA_SSL_CERTIFICATE: clientFiles.certificate,
    ERRATA_KAFKA_SSL_KEY: clientFiles.key,
    ERRATA_KAFKA_SASL_MECHANISM: 'scram-sha-256',
    ERRATA_KAFKA_SASL_USERNAME: USER,
    ERRATA_TEMPORAL_ADDRESS: gate.address,
    ERRATA_TEMPORAL_TLS_CA: authorityFile,
    ERRATA_TEMPORAL_TLS_CERTIFICATE: clientFiles.certificate,
    ERRATA_TEMPORAL_TLS_KEY: clientFiles.key,
    ERRATA_PORT: '0',
    ERRATA_BATCH_WAIT_MS: '200',
    ...more,
  };
}

function expectNoSecretIn(texts: Record<string, string>): void {
  for (const [where, text] of Object.entries(texts))
    for (const hidden of HIDDEN) {
      const at = text.indexOf(hidden);
      if (at !== -1)
        throw new Error(`${where} gives a secret away: …${text.slice(Math.max(0, at - 200), at)}`);
    }
}

/** Every file below a folder, by name. */
function filesIn(root: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((name) => [name, readFileSync(name, 'latin1')]),
  );
}

async function objectsIn(store: S3Store): Promise<Record<string, string>> {
  const objects: Record<string, string> = {};
  for await (const name of store.list(''))
    objects[name] = Buffer.from((await store.get(name))!).toString('latin1');
  return objects;
}

async function rawHistories(): Promise<string> {
  const connection = await Connection.connect({ address: temporal.address });
  afterwards(() => connection.close());
  const { workflowService } = connection;
  const { namespace } = temporal;
  const listed = await workflowService.listWorkflowExecutions({ namespace, pageSize: 1_000 });
  const { HistoryEvent } = proto.temporal.api.history.v1;
  let text = '';
  for (const { execution } of listed.executions) {
    const { workflowId } = execution!;
    const asked = { namespace, execution: { workflowId: workflowId! } };
    const { history } = await workflowService.getWorkflowExecutionHistory(asked);
    for (const event of history!.events!)
      text += Buffer.from(HistoryEvent.encode(event).finish()).toString('latin1');
  }
  return text;
}

/** Runs the system and commands on it; resolves to all texts that came out, and the exit codes. */
async function runSystem(token: string) {
  const setting = { ...environment(), ERRATA_TOKEN: token };
  const texts: Record<string, string> = {};
  const codes: number[] = [];
  const errata = async (args: string[], more: Record<string, string> = {}): Promise<void> => {
    const { code, out, err } = await invoke(folder, args, { ...setting, ...more });
    texts[`errata ${args.join(' ')} ${JSON.stringify(Object.keys(more))}`] = out + err;
    codes.push(code);
  };
  const heard: string[] = [];
  const running = await startSystem(readConfiguration(setting, folder), {
    overlay: setting,
    report: (who, event) => void heard.push(`${who} ${event}`),
    changed: (state) => void heard.push(JSON.stringify(state)),
  });
  try {
    await errata([
      ...['submit', '--wait', '--lineage', 'secrets', '--subject', SUBJECT],
      ...['--prompt', PROMPT, '--target', 'river'],
    ]);
    await errata(['status', '--json']);
    await errata(['doctor', '--json']);
    await errata(['doctor']);
    await errata(['log', '--json']);
    await errata(['show', '1', '--json']);
    await errata(['ask', PROMPT]);
    await errata(['status', '--json'], {
      ERRATA_KAFKA_SASL_PASSWORD: secret('wrong'),
      ERRATA_TEMPORAL_API_KEY: secret('wrong'),
    });
    await errata(['log'], { ERRATA_S3_SECRET_ACCESS_KEY: secret('wrong') });
    await errata(['doctor'], { ERRATA_S3_SECRET_ACCESS_KEY: secret('wrong') });
    await errata(['ask', PROMPT], { ERRATA_TOKEN: SECRETS['ERRATA_TOKEN']! });
    texts['system.json'] = readFileSync(path.join(home, 'run', 'system.json'), 'utf8');
  } finally {
    await running.stop();
  }
  texts['the supervisor'] = heard.join('\n');
  return { texts, codes };
}

test('a running system writes no secret, and no correction above debug', async () => {
  const create = ['token', 'create', '--json', '--name', 'tester'];
  const roles = ['--role', 'read', '--role', 'submit'];
  const created = await invoke(folder, [...create, ...roles], environment());
  const { token } = JSON.parse(created.out) as { token: string };
  HIDDEN.push(token);
  const { texts, codes } = await runSystem(token);
  expect(codes.slice(0, 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  expect(codes.slice(8, 10)).toEqual([1, 1]);
  expect(codes[10]).not.toBe(0);
  const histories = await rawHistories();
  expect(histories).toContain('edit-secrets');
  expect(histories).not.toContain(SUBJECT);
  const logs = filesIn(path.join(home, 'logs'));
  expect(Object.keys(logs)).toHaveLength(4);
  const versions = await objectsIn(new S3Store(bucket.place('secrets')));
  expect(Object.values(versions).join()).toContain(SUBJECT);
  expect(texts['errata status --json []']).toContain('"workflow"');
  expect(
    texts['errata status --json ["ERRATA_KAFKA_SASL_PASSWORD","ERRATA_TEMPORAL_API_KEY"]'],
  ).toMatch(/Look at ERRATA_TEMPORAL_API_KEY.*|Look at ERRATA_KAFKA_SASL/);
  expectNoSecretIn({ ...texts, ...logs, ...versions, histories });

  const lines = Object.values(logs).flatMap((log) => log.trim().split('\n'));
  const above = lines.filter((line) => (JSON.parse(line) as { level: number }).level > 20);
  expect(above.length).toBeGreaterThan(20);
  for (const line of above) expect(line).not.toMatch(/904171|the old|river/);
}, 600_000);

test.each<[string, ProcessName, () => Record<string, string>, RegExp]>([
  [
    'a broker that takes another password',
    'ingest',
    () => ({ ERRATA_KAFKA_SASL_PASSWORD: secret('wrong') }),
    /SCRAM SHA256 authentication failed/,
  ],
  [
    'a broker that takes another password, in plain',
    'ingest',
    () => ({ ERRATA_KAFKA_SASL_PASSWORD: secret('wrong'), ERRATA_KAFKA_SASL_MECHANISM: 'plain' }),
    /PLAIN authentication failed/,
  ],
  [
    'a broker that it does not trust',
    'ingest',
    () => ({ ERRATA_KAFKA_SSL_CA: clientFiles.certificate }),
    /not known here/,
  ],
  [
    'a Temporal that takes another key',
    'workflow-worker',
    () => ({ ERRATA_TEMPORAL_API_KEY: secret('wrong') }),
    /does not take the API key/,
  ],
  [
    'a faulty configuration',
    'ingest',
    () => ({
      ERRATA_DEVICE: 'abacus',
      ERRATA_TEMPORAL_PAYLOAD_KEYS: secret('nokey'),
      [REGISTRY]: SECRETS[REGISTRY]!,
    }),
    /ERRATA_TEMPORAL_PAYLOAD_KEYS is .*secret/,
  ],
])('a process that ends at %s writes no secret', async (_, name, more, reason) => {
  const settings = environment(more());
  const aside = testFolder();
  const refused = new OurProcess(name, settings, aside);
  const fault: unknown = await refused.start().catch((error: unknown) => error);
  expect((fault as Error).message).toMatch(reason);
  const secrets = Object.entries(settings).flatMap(([variable, value]) =>
    variable in SECRETS ? [value, base64(value)] : [],
  );
  for (const text of [(fault as Error).message, ...Object.values(filesIn(aside))])
    for (const hidden of secrets) expect(text).not.toContain(hidden);
  expectNoSecretIn(filesIn(aside));
});

test('a process that a schema registry refuses writes no secret', async () => {
  const registry = createServer((_, response) =>
    response
      .writeHead(401, { 'content-type': 'application/json' })
      .end(JSON.stringify({ error_code: 401, message: 'no' })),
  );
  await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
  afterwards(() => {
    registry.closeAllConnections();
    registry.close();
  });
  const aside = testFolder();
  const settings = environment({
    ERRATA_SCHEMA_REGISTRY_URL: `http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
    ERRATA_SCHEMA_REGISTRY_USERNAME: 'errata',
    [REGISTRY]: SECRETS[REGISTRY]!,
  });
  const worker = new OurProcess('workflow-worker', settings, aside);
  await worker.start().catch(() => undefined);
  await worker.stop();
  const logs = filesIn(aside);
  expect(Object.values(logs).join()).toMatch(/schema registry .*401/);
  expectNoSecretIn(logs);
  const credentials = Buffer.from(`errata:${SECRETS[REGISTRY]}`).toString('base64');
  for (const text of Object.values(logs)) expect(text).not.toContain(credentials);
});

test.each<[string, () => Promise<Response>]>([
  [
    'is out of reach',
    async () => {
      throw new TypeError('fetch failed');
    },
  ],
  [
    'refuses the token',
    async () => Response.json({ error: 'Invalid credentials' }, { status: 401 }),
  ],
])('the error of a hub that %s holds no secret', async (_, answer) => {
  const accessToken = SECRETS['ERRATA_HUB_TOKEN']!;
  let sent = '';
  const fetch: typeof globalThis.fetch = async (_, init) => {
    sent += JSON.stringify([...new Headers(init?.headers).entries()]);
    return await answer();
  };
  const options = { accessToken, fetch, retryWaitMs: 1 };
  const fault: unknown = await fetchFromHub('owner/model', testFolder(), options).catch(
    (error: unknown) => error,
  );
  expect(fault).toBeInstanceOf(Error);
  expectNoSecretIn({
    fault: inspect(fault, { depth: 10, showHidden: true }) + JSON.stringify(fault),
  });
  expect(sent).toContain(accessToken);
});

test('the search finds a secret where there is one', () => {
  const somewhere = `password=${SECRETS['ERRATA_KAFKA_SASL_PASSWORD']}`;
  expect(() => expectNoSecretIn({ somewhere })).toThrow(/somewhere gives a secret away/);
  expect(Object.keys(SECRETS).length).toBeGreaterThanOrEqual(6);
});
