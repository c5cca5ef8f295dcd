/** Connections to a real Temporal behind TLS, with client certificates and with an API key. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { NativeConnection, Worker } from '@temporalio/worker';
import { beforeAll, expect, test } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { temporalLineages } from '../../infra/config/connections.ts';
import { workerConnection } from '../../infra/processes/connect.ts';
import { ChannelRefused } from '../../pipelines/refused-channel.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { testFolder } from '../harness/clean-up.ts';
import { OurProcess, type ProcessName } from '../harness/our-process.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { certificateGate, keyGate, type Gate } from '../harness/servers/secured-temporal.ts';
import { until } from '../harness/until.ts';
import { quietRuntime } from '../harness/time-skipping.ts';

type Settings = Record<string, string>;

const API_KEY = 'hush-the-key';
const WRONG = 'hush-not-the-key';
const folder = testFolder();
const authority = new Authority('the authority of the test');
const stranger = new Authority('another authority');
const file = (name: string, content: string): string => {
  writeFileSync(path.join(folder, name), content);
  return path.join(folder, name);
};
const own = written(folder, 'errata', authority.certify('errata'));
const strangers = written(folder, 'stranger', stranger.certify('errata'));
const ca = { ERRATA_TEMPORAL_TLS_CA: file('authority.pem', authority.certificate) };

let servers: TestServers;
let certificates: Gate;
let keys: Gate;
beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  certificates = await certificateGate(servers.temporal.address, authority);
  keys = await keyGate(servers.temporal.address, authority, API_KEY);
});

const environment = (more: Settings): Settings => ({
  ERRATA_HOME: folder,
  ERRATA_LINEAGES: 'secured',
  ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
  ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
  ...more,
});
const configurationOf = (settings: Settings) => readConfiguration(environment(settings), folder);

/** Settings for the gate that asks for a certificate, with this certificate and key. */
const certified = (certificate = own.certificate, key = own.key): Settings => ({
  ERRATA_TEMPORAL_ADDRESS: certificates.address,
  ...ca,
  ERRATA_TEMPORAL_TLS_CERTIFICATE: certificate,
  ERRATA_TEMPORAL_TLS_KEY: key,
});
/** Settings for the gate that asks for a key. */
const keyed = (more: Settings): Settings => ({
  ERRATA_TEMPORAL_ADDRESS: keys.address,
  ...ca,
  ...more,
});

test.each<[string, () => Settings]>([
  ['a client certificate', () => certified()],
  ['an API key', () => keyed({ ERRATA_TEMPORAL_API_KEY: API_KEY })],
  [
    "a name that is the certificate's and not the address's",
    () => ({
      ...certified(),
      ERRATA_TEMPORAL_ADDRESS: certificates.address.replace('localhost', '127.0.0.1'),
      ERRATA_TEMPORAL_TLS_SERVER_NAME: 'localhost',
    }),
  ],
])('clients and workers are admitted with %s', async (_, settings) => {
  const configuration = configurationOf(settings());
  const lineages = temporalLineages(configuration);
  await lineages.configure('admitted', DEFAULT_LINEAGE_SETTINGS);
  await lineages.close();
  const { connection, namespace } = await workerConnection(configuration);
  const worker = await Worker.create({
    connection,
    namespace,
    taskQueue: 'nothing',
    activities: { nothing: async () => undefined },
  });
  await worker.runUntil(async () => undefined);
  await connection.close();
});

const certificateSettings = 'ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY';
// Side by side: a client tries for twenty seconds before it gives up.
test.concurrent.each<[string, () => Settings, RegExp]>([
  [
    'no client certificate',
    () => ({ ERRATA_TEMPORAL_ADDRESS: certificates.address, ...ca }),
    new RegExp(`ask(s for a client certificate| for).*${certificateSettings}`),
  ],
  [
    "a stranger's certificate",
    () => certified(strangers.certificate, strangers.key),
    new RegExp(certificateSettings),
  ],
  [
    'an authority that did not sign for it',
    () => ({ ...certified(), ERRATA_TEMPORAL_TLS_CA: file('stranger.pem', stranger.certificate) }),
    /not known here.*ERRATA_TEMPORAL_TLS_CA/,
  ],
  [
    'another name',
    () => ({ ...certified(), ERRATA_TEMPORAL_TLS_SERVER_NAME: 'elsewhere' }),
    /another name.*ERRATA_TEMPORAL_TLS_SERVER_NAME/,
  ],
  [
    'plain text',
    () => ({ ERRATA_TEMPORAL_ADDRESS: certificates.address }),
    /Does it ask for TLS \(ERRATA_TEMPORAL_TLS\)/,
  ],
  [
    'TLS where the server has none',
    () => ({ ERRATA_TEMPORAL_ADDRESS: servers.temporal.address, ...ca }),
    /does not speak TLS.*ERRATA_TEMPORAL_ADDRESS/,
  ],
  [
    'a wrong API key',
    () => keyed({ ERRATA_TEMPORAL_API_KEY: WRONG }),
    /does not take the API key.*ERRATA_TEMPORAL_API_KEY/,
  ],
  ['no API key', () => keyed({}), /asks for the API key.*ERRATA_TEMPORAL_API_KEY/],
  [
    'the key of another certificate',
    () => certified(own.certificate, strangers.key),
    /cannot be used.*ERRATA_TEMPORAL_TLS_KEY/,
  ],
])('clients and workers are refused with %s, and learn the setting', async (_, more, reason) => {
  const configuration = configurationOf(more());
  const configure = async (): Promise<void> => {
    const lineages = temporalLineages(configuration);
    try {
      await lineages.configure('refused', DEFAULT_LINEAGE_SETTINGS);
    } finally {
      await lineages.close();
    }
  };
  for (const connect of [configure, () => workerConnection(configuration)]) {
    const fault: unknown = await connect().catch((error: unknown) => error);
    if (!(fault instanceof ChannelRefused)) throw new Error(`not refused: ${String(fault)}`);
    expect(`${fault.message} ${fault.hint}`).toMatch(reason);
    expect(JSON.stringify(fault) + fault.stack).not.toContain('hush');
  }
});

test('a connection without TLS is refused', async () => {
  // If the gates were open to anybody, the refusals above would have another reason.
  await expect(NativeConnection.connect({ address: certificates.address })).rejects.toThrow();
});

const ours = (name: ProcessName, settings: Settings, logs = folder): OurProcess =>
  new OurProcess(name, environment(settings), logs);

test.each<[string, () => { gate: Gate; settings: Settings }]>([
  ['a client certificate', () => ({ gate: certificates, settings: certified() })],
  [
    'an API key in a file',
    () => ({
      gate: keys,
      settings: keyed({ ERRATA_TEMPORAL_API_KEY_FILE: file('key', `${API_KEY}\n`) }),
    }),
  ],
])('processes work by their environment alone with %s', async (_, way) => {
  const { gate, settings } = way();
  const before = gate.admitted;
  const [workflows, ingest] = [ours('workflow-worker', settings), ours('ingest', settings)];
  await Promise.all([workflows.start(), ingest.start()]);
  // A query is answered by the worker: it polls through the gate.
  const lineages = temporalLineages(configurationOf(settings));
  expect(await lineages.status('secured')).toMatchObject({ lineage: 'secured', waiting: 0 });
  await lineages.close();
  expect(await Promise.all([ingest.stop(), workflows.stop()])).toEqual([0, 0]);
  expect(gate.admitted).toBeGreaterThan(before);
});

const wrongKey = () => keyed({ ERRATA_LOG_LEVEL: 'trace', ERRATA_TEMPORAL_API_KEY: WRONG });
const keyRefused = /does not take the API key.*ERRATA_TEMPORAL_API_KEY/;

test('a worker with a wrong API key ends with the reason', async () => {
  await expect(ours('workflow-worker', wrongKey()).start()).rejects.toThrow(keyRefused);
});

test('an ingest with a wrong API key tries on, and logs the reason once', async () => {
  const ingest = ours('ingest', wrongKey(), testFolder());
  const calls = keys.calls;
  const starting = ingest.start().catch(() => undefined);
  await until(() => keys.calls >= calls + 4);
  await ingest.kill();
  await starting;
  const { log } = ingest;
  const reasons = log.split('\n').filter((line) => line.includes('Temporal does not answer yet'));
  expect(reasons).toHaveLength(1);
  expect(reasons[0]).toMatch(keyRefused);
  expect(log).not.toContain('hush');
});
