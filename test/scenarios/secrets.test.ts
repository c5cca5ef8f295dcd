/**
 * Every secret setting is given a value that stands nowhere else, and the whole system runs with
 * them at level trace: let in by a secured broker, a secured Temporal and an S3 server, and refused
 * by them. The values are looked for in all that is written: logs, the system's state, the
 * commands' output, version entries, workflow histories.
 */
import { Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { SETTINGS } from '../../infra/config/settings.ts';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { startSystem, type RunningSystem } from '../../infra/local/supervisor.ts';
import { fetchFromHub } from '../../model/checkpoint/hub.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { invoke } from '../cli/invocation.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { OurProcess } from '../harness/our-process.ts';
import { USER, startSecuredKafka, type SecuredKafka } from '../harness/servers/secured-kafka.ts';
import { keyGate, type Gate } from '../harness/servers/secured-temporal.ts';
import {
  S3_SETUP_WAIT_MS,
  startTestS3,
  TEST_KEYS,
  type TestS3,
} from '../harness/servers/seaweed.ts';
import { startTestTemporal } from '../harness/servers/local.ts';

const mark = (what: string): string => `hush${what}${randomBytes(9).toString('hex')}`;
const folder = mkdtempSync(path.join(tmpdir(), 'errata-secrets-'));
const home = path.join(folder, 'home');
const authority = new Authority('the authority of the test');
const client = authority.certify('errata');
const clientFiles = written(folder, 'errata', client);

/**
 * By environment variable. A new secret setting whose form is another must be given a value here.
 */
const SECRETS: Record<string, string> = {
  ...Object.fromEntries(
    Object.values(SETTINGS).flatMap(({ variable, form }) =>
      form.secret === true ? [[variable, mark(variable.toLowerCase().replaceAll('_', ''))]] : [],
    ),
  ),
  ERRATA_ALERT_URL: `http://127.0.0.1:9/${mark('alert')}`,
  ERRATA_HUB_TOKEN: `hf_${mark('hub')}`,
  ERRATA_TEMPORAL_PAYLOAD_KEYS: `first:${randomBytes(32).toString('base64')},second:${randomBytes(32).toString('base64')}`,
};
const REGISTRY = 'ERRATA_SCHEMA_REGISTRY_PASSWORD';
/**
 * All that must be nowhere: the values, what they are made of, and the forms in which they travel.
 */
const HIDDEN = [
  ...Object.values(SECRETS).flatMap((secret) => [
    secret,
    Buffer.from(secret).toString('base64').slice(0, -4),
  ]),
  ...SECRETS['ERRATA_TEMPORAL_PAYLOAD_KEYS']!.split(',').map((key) => key.split(':')[1]!),
  client.key.split('\n')[1]!,
];
const SUBJECT = 'town 904171';

let broker: SecuredKafka;
let temporal: EmbeddedTemporal;
let gate: Gate;
let bucket: TestS3;
beforeAll(async () => {
  mkdirSync(home);
  symlinkSync(path.join(homeFromEnvironment().root, 'tensorflow'), path.join(home, 'tensorflow'));
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
afterAll(async () => {
  await Promise.allSettled([gate?.close(), broker?.stop(), temporal?.stop(), bucket?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

function environment(more: Record<string, string> = {}): Record<string, string> {
  const { [REGISTRY]: _, ...secrets } = SECRETS;
  const authorityFile = path.join(folder, 'authority.pem');
  writeFileSync(authorityFile, authority.certificate);
  const place = bucket.place('secrets');
  return {
    ...secrets,
    ERRATA_HOME: home,
    ERRATA_LOG_LEVEL: 'trace',
    ERRATA_LINEAGES: 'secrets',
    ERRATA_MODEL: goldenPath('tiny', 'llama'),
    ERRATA_HYPER_PARAMETERS: JSON.stringify({ stepsMax: 5, contexts: 0, contextsPerStep: 0 }),
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
    ERRATA_VERSIONS: `s3://${place.bucket}/${place.prefix}`,
    ERRATA_S3_ENDPOINT: place.endpoint,
    ERRATA_S3_ACCESS_KEY_ID: place.credentials.accessKeyId,
    ERRATA_PORT: '0',
    ERRATA_BATCH_WAIT_MS: '200',
    // A model of random numbers learns what it is told, but with no manners.
    ERRATA_REQUIRE_EFFECTIVE: 'false',
    ERRATA_GENERALISATION_MIN: '0',
    ERRATA_LOCALITY_MIN: '0',
    ERRATA_RETENTION_MIN: '0',
    ERRATA_CANARY_RATIO_MAX: '100',
    ERRATA_EDIT_NORM_MAX: '1000',
    ...more,
  };
}

function expectNothingHiddenIn(texts: Record<string, string>): void {
  for (const [where, text] of Object.entries(texts)) {
    for (const hidden of HIDDEN)
      if (text.includes(hidden))
        throw new Error(
          `${where} gives a secret away: …${text.slice(Math.max(0, text.indexOf(hidden) - 200), text.indexOf(hidden))}`,
        );
  }
}

/** Every file below a folder, by name. */
function filesIn(root: string): Record<string, string> {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    entries.map((entry) => [
      path.join(entry.parentPath, entry.name),
      readFileSync(path.join(entry.parentPath, entry.name), 'latin1'),
    ]),
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
  const { namespace } = temporal;
  const { executions } = await connection.workflowService.listWorkflowExecutions({
    namespace,
    pageSize: 1_000,
  });
  let text = '';
  for (const { execution } of executions) {
    const { history } = await connection.workflowService.getWorkflowExecutionHistory({
      namespace,
      execution: { workflowId: execution!.workflowId! },
    });
    for (const event of history!.events!)
      text += Buffer.from(
        proto.temporal.api.history.v1.HistoryEvent.encode(event).finish(),
      ).toString('latin1');
  }
  await connection.close();
  return text;
}

describe('secrets', { timeout: 600_000 }, () => {
  it('are nowhere in what a running system writes, and what was corrected is in no line of its logs above debug', async () => {
    const setting = environment();
    const token = (
      JSON.parse(
        (
          await invoke(
            folder,
            ['token', 'create', '--json', '--name', 'tester', '--role', 'read', '--role', 'submit'],
            setting,
          )
        ).out,
      ) as { token: string }
    ).token;
    HIDDEN.push(token);
    const told: Record<string, string> = {};
    const errata = async (args: string[], more: Record<string, string> = {}): Promise<number> => {
      const { code, out, err } = await invoke(folder, args, {
        ...setting,
        ERRATA_TOKEN: token,
        ...more,
      });
      told[`errata ${args.join(' ')} ${JSON.stringify(Object.keys(more))}`] = out + err;
      return code;
    };
    const texts = { ...setting, ERRATA_TOKEN: token };
    let running: RunningSystem | null = null;
    const heard: string[] = [];
    try {
      running = await startSystem(readConfiguration(texts, folder), {
        overlay: texts,
        report: (who, event) => void heard.push(`${who} ${event}`),
        changed: (state) => void heard.push(JSON.stringify(state)),
      });
      expect(
        await errata([
          'submit',
          '--wait',
          '--subject',
          SUBJECT,
          '--prompt',
          `the old ${SUBJECT} is on`,
          '--target',
          'river',
          '--lineage',
          'secrets',
        ]),
      ).toBe(0);
      expect(await errata(['status', '--json'])).toBe(0);
      expect(await errata(['doctor', '--json'])).toBe(0);
      expect(await errata(['doctor'])).toBe(0);
      expect(await errata(['log', '--json'])).toBe(0);
      expect(await errata(['log'], { ERRATA_S3_SECRET_ACCESS_KEY: mark('wrong') })).toBe(1);
      expect(await errata(['doctor'], { ERRATA_S3_SECRET_ACCESS_KEY: mark('wrong') })).toBe(1);
      expect(await errata(['show', '1', '--json'])).toBe(0);
      expect(await errata(['ask', `the old ${SUBJECT} is on`])).toBe(0);
      expect(
        await errata(['ask', `the old ${SUBJECT} is on`], {
          ERRATA_TOKEN: SECRETS['ERRATA_TOKEN']!,
        }),
      ).not.toBe(0);
      expect(
        await errata(['status', '--json'], {
          ERRATA_KAFKA_SASL_PASSWORD: mark('wrong'),
          ERRATA_TEMPORAL_API_KEY: mark('wrong'),
        }),
      ).toBe(0);
      told['system.json'] = readFileSync(path.join(home, 'run', 'system.json'), 'utf8');
    } finally {
      await running?.stop();
    }
    told['the supervisor'] = heard.join('\n');
    const histories = await rawHistories();
    expect(histories).toContain('edit-secrets');
    expect(histories).not.toContain(SUBJECT);
    const logs = filesIn(path.join(home, 'logs'));
    expect(Object.keys(logs)).toHaveLength(4);
    const versions = await objectsIn(new S3Store(bucket.place('secrets')));
    expect(Object.values(versions).join()).toContain(SUBJECT);
    expect(told['errata status --json []']).toContain('"workflow"');
    expect(
      told['errata status --json ["ERRATA_KAFKA_SASL_PASSWORD","ERRATA_TEMPORAL_API_KEY"]'],
    ).toMatch(/Look at ERRATA_TEMPORAL_API_KEY.*|Look at ERRATA_KAFKA_SASL/);
    expectNothingHiddenIn({ ...told, ...logs, ...versions, histories });

    const lines = Object.values(logs).flatMap((log) => log.trim().split('\n'));
    const above = lines.filter((line) => (JSON.parse(line) as { level: number }).level > 20);
    expect(above.length).toBeGreaterThan(20);
    for (const line of above) expect(line).not.toMatch(/904171|the old|river/);
  });

  const REFUSED: [string, 'ingest' | 'workflow-worker', () => Record<string, string>, RegExp][] = [
    [
      'a broker that takes another password',
      'ingest',
      () => ({ ERRATA_KAFKA_SASL_PASSWORD: mark('wrong') }),
      /SCRAM SHA256 authentication failed/,
    ],
    [
      'a broker that takes another password, in plain',
      'ingest',
      () => ({ ERRATA_KAFKA_SASL_PASSWORD: mark('wrong'), ERRATA_KAFKA_SASL_MECHANISM: 'plain' }),
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
      () => ({ ERRATA_TEMPORAL_API_KEY: mark('wrong') }),
      /does not take the API key/,
    ],
    [
      'a configuration that is at fault',
      'ingest',
      () => ({
        ERRATA_DEVICE: 'abacus',
        ERRATA_TEMPORAL_PAYLOAD_KEYS: mark('nokey'),
        [REGISTRY]: SECRETS[REGISTRY]!,
      }),
      /ERRATA_TEMPORAL_PAYLOAD_KEYS is .*secret/,
    ],
  ];
  it.each(REFUSED)('are not told by a process that ends at %s', async (_, name, more, reason) => {
    const setting = environment(more());
    const aside = mkdtempSync(path.join(folder, 'refused-'));
    const refused = new OurProcess(name, { ...process.env, ...setting }, aside);
    const fault: unknown = await refused.start().catch((error: unknown) => error);
    expect((fault as Error).message).toMatch(reason);
    const secretsOfThis = Object.entries(setting).flatMap(([variable, value]) =>
      variable in SECRETS ? [value, Buffer.from(value).toString('base64').slice(0, -4)] : [],
    );
    for (const text of [(fault as Error).message, ...Object.values(filesIn(aside))])
      for (const secret of secretsOfThis) expect(text).not.toContain(secret);
    expectNothingHiddenIn(filesIn(aside));
  });

  it('are not told of a schema registry that refuses its user', async () => {
    const registry = createServer((_, response) =>
      response
        .writeHead(401, { 'content-type': 'application/json' })
        .end(JSON.stringify({ error_code: 401, message: 'no' })),
    );
    await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve));
    const aside = mkdtempSync(path.join(folder, 'registry-'));
    const worker = new OurProcess(
      'workflow-worker',
      {
        ...process.env,
        ...environment({
          ERRATA_SCHEMA_REGISTRY_URL: `http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
          ERRATA_SCHEMA_REGISTRY_USERNAME: 'errata',
          [REGISTRY]: SECRETS[REGISTRY]!,
        }),
      },
      aside,
    );
    await worker.start().catch(() => undefined);
    await worker.stop();
    registry.closeAllConnections();
    registry.close();
    const logs = filesIn(aside);
    expect(Object.values(logs).join()).toMatch(/schema registry .*401/);
    expectNothingHiddenIn(logs);
    for (const text of Object.values(logs))
      expect(text).not.toContain(Buffer.from(`errata:${SECRETS[REGISTRY]}`).toString('base64'));
  });

  it('are not told of a hub that is out of reach or refuses the token', async () => {
    const accessToken = SECRETS['ERRATA_HUB_TOKEN']!;
    let asked = '';
    const answers: (typeof fetch)[] = [
      async (_, init) => {
        asked += JSON.stringify([...new Headers(init?.headers).entries()]);
        throw new TypeError('fetch failed');
      },
      async () =>
        new Response('{"error":"Invalid credentials"}', {
          status: 401,
          headers: { 'content-type': 'application/json' },
        }),
    ];
    for (const answer of answers) {
      const fault: unknown = await fetchFromHub(
        'owner/model',
        mkdtempSync(path.join(folder, 'hub-')),
        { accessToken, fetch: answer, retryWaitMs: 1 },
      ).catch((error: unknown) => error);
      expect(fault).toBeInstanceOf(Error);
      expectNothingHiddenIn({
        fault: inspect(fault, { depth: 10, showHidden: true }) + JSON.stringify(fault),
      });
    }
    expect(asked).toContain(accessToken);
  });

  it('would be found', () => {
    expect(() =>
      expectNothingHiddenIn({ somewhere: `password=${SECRETS['ERRATA_KAFKA_SASL_PASSWORD']}` }),
    ).toThrow(/somewhere gives a secret away/);
    expect(Object.keys(SECRETS).length).toBeGreaterThanOrEqual(6);
  });
});
