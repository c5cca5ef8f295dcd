/**
 * The way to a real Temporal behind an end of TLS that asks for client certificates, and one that
 * asks for an API key.
 */
import { NativeConnection, Worker } from '@temporalio/worker';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { temporalLineages } from '../../infra/config/connections.ts';
import { workerConnection } from '../../infra/processes/worker-connection.ts';
import { ChannelRefused } from '../../pipelines/refused-channel.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { certificateGate, keyGate, type Gate } from '../harness/servers/secured-temporal.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';
import { OurProcess } from '../harness/our-process.ts';
import { quietRuntime } from '../harness/world.ts';

const API_KEY = 'hush-the-key';
const WRONG = 'hush-not-the-key';
const folder = mkdtempSync(path.join(tmpdir(), 'errata-secured-'));
const authority = new Authority('the authority of the test');
const stranger = new Authority('another authority');
const file = (name: string, content: string): string => {
  writeFileSync(path.join(folder, name), content);
  return path.join(folder, name);
};
const own = written(folder, 'errata', authority.certify('errata'));
const strangers = written(folder, 'stranger', stranger.certify('errata'));
const ca = { ERRATA_TEMPORAL_TLS_CA: file('authority.pem', authority.certificate) };
const certificate = {
  ERRATA_TEMPORAL_TLS_CERTIFICATE: own.certificate,
  ERRATA_TEMPORAL_TLS_KEY: own.key,
};

let servers: TestServers;
let certificates: Gate;
let keys: Gate;
beforeAll(async () => {
  quietRuntime();
  servers = await startTestServers();
  certificates = await certificateGate(servers.temporal.address, authority);
  keys = await keyGate(servers.temporal.address, authority, API_KEY);
});
afterAll(async () => {
  await Promise.allSettled([certificates?.close(), keys?.close()]);
  await servers?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const environment = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ERRATA_HOME: folder,
  ERRATA_LINEAGES: 'secured',
  ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
  ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
  ...more,
});

describe('a secured Temporal', () => {
  const ways: [string, () => NodeJS.ProcessEnv][] = [
    [
      'a client certificate',
      () => ({ ERRATA_TEMPORAL_ADDRESS: certificates.address, ...ca, ...certificate }),
    ],
    [
      'an API key',
      () => ({ ERRATA_TEMPORAL_ADDRESS: keys.address, ...ca, ERRATA_TEMPORAL_API_KEY: API_KEY }),
    ],
    [
      "a name that is the certificate's and not the address's",
      () => ({
        ERRATA_TEMPORAL_ADDRESS: certificates.address.replace('localhost', '127.0.0.1'),
        ERRATA_TEMPORAL_TLS_SERVER_NAME: 'localhost',
        ...ca,
        ...certificate,
      }),
    ],
  ];

  it.each(ways)('lets clients and workers in with %s', async (_, more) => {
    const configuration = readConfiguration(environment(more()), folder);
    const lineages = temporalLineages(configuration);
    await lineages.configure('asked', DEFAULT_LINEAGE_SETTINGS);
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

  const refusals: [string, () => NodeJS.ProcessEnv, RegExp][] = [
    [
      'no client certificate',
      () => ({ ERRATA_TEMPORAL_ADDRESS: certificates.address, ...ca }),
      /ask(s for a client certificate| for).*ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY/,
    ],
    [
      "a stranger's certificate",
      () => ({
        ERRATA_TEMPORAL_ADDRESS: certificates.address,
        ...ca,
        ERRATA_TEMPORAL_TLS_CERTIFICATE: strangers.certificate,
        ERRATA_TEMPORAL_TLS_KEY: strangers.key,
      }),
      /ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY/,
    ],
    [
      'an authority that did not sign for it',
      () => ({
        ERRATA_TEMPORAL_ADDRESS: certificates.address,
        ERRATA_TEMPORAL_TLS_CA: file('stranger.pem', stranger.certificate),
        ...certificate,
      }),
      /not known here.*ERRATA_TEMPORAL_TLS_CA/,
    ],
    [
      'another name',
      () => ({
        ERRATA_TEMPORAL_ADDRESS: certificates.address,
        ERRATA_TEMPORAL_TLS_SERVER_NAME: 'elsewhere',
        ...ca,
        ...certificate,
      }),
      /another name.*ERRATA_TEMPORAL_TLS_SERVER_NAME/,
    ],
    [
      'plain text',
      () => ({ ERRATA_TEMPORAL_ADDRESS: certificates.address }),
      /Does it ask for TLS \(ERRATA_TEMPORAL_TLS\)/,
    ],
    [
      'TLS where it speaks none',
      () => ({ ERRATA_TEMPORAL_ADDRESS: servers.temporal.address, ...ca }),
      /does not speak TLS.*ERRATA_TEMPORAL_ADDRESS/,
    ],
    [
      'a wrong API key',
      () => ({ ERRATA_TEMPORAL_ADDRESS: keys.address, ...ca, ERRATA_TEMPORAL_API_KEY: WRONG }),
      /does not take the API key.*ERRATA_TEMPORAL_API_KEY/,
    ],
    [
      'no API key',
      () => ({ ERRATA_TEMPORAL_ADDRESS: keys.address, ...ca }),
      /asks for the API key.*ERRATA_TEMPORAL_API_KEY/,
    ],
    [
      'a key that is of another certificate',
      () => ({
        ERRATA_TEMPORAL_ADDRESS: certificates.address,
        ...ca,
        ERRATA_TEMPORAL_TLS_CERTIFICATE: own.certificate,
        ERRATA_TEMPORAL_TLS_KEY: strangers.key,
      }),
      /cannot be used.*ERRATA_TEMPORAL_TLS_KEY/,
    ],
  ];

  // Side by side: a client tries for twenty seconds before it gives up.
  it.concurrent.each(refusals)(
    'refuses %s, to clients and workers, and says where to look',
    async (_, more, told) => {
      const configuration = readConfiguration(environment(more()), folder);
      const asked = async (): Promise<void> => {
        const lineages = temporalLineages(configuration);
        try {
          await lineages.configure('asked', DEFAULT_LINEAGE_SETTINGS);
        } finally {
          await lineages.close();
        }
      };
      for (const work of [asked, () => workerConnection(configuration)]) {
        const fault: unknown = await work().catch((error: unknown) => error);
        expect(fault).toBeInstanceOf(ChannelRefused);
        expect(`${(fault as ChannelRefused).message} ${(fault as ChannelRefused).hint}`).toMatch(
          told,
        );
        expect(JSON.stringify(fault) + (fault as Error).stack).not.toContain('hush');
      }
    },
  );
});

describe('our processes', () => {
  const ours = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
    ...process.env,
    ...environment(more),
  });

  it('work behind both by the environment alone', async () => {
    const ways = [
      {
        gate: certificates,
        more: { ERRATA_TEMPORAL_ADDRESS: certificates.address, ...ca, ...certificate },
      },
      {
        gate: keys,
        more: {
          ERRATA_TEMPORAL_ADDRESS: keys.address,
          ...ca,
          ERRATA_TEMPORAL_API_KEY_FILE: file('key', `${API_KEY}\n`),
        },
      },
    ];
    for (const { gate, more } of ways) {
      const before = gate.letIn();
      const workflows = new OurProcess('workflow-worker', ours(more), folder);
      const ingest = new OurProcess('ingest', ours(more), folder);
      await Promise.all([workflows.start(), ingest.start()]);
      // A query is answered by the worker: it polls through the gate.
      const lineages = temporalLineages(readConfiguration(environment(more), folder));
      expect(await lineages.status('secured')).toMatchObject({ lineage: 'secured', waiting: 0 });
      await lineages.close();
      expect(await Promise.all([ingest.stop(), workflows.stop()])).toEqual([0, 0]);
      expect(gate.letIn()).toBeGreaterThan(before);
    }
  });

  it('say why they do not come to work: a worker ends, ingest says it once and tries on', async () => {
    const more = {
      ERRATA_LOG_LEVEL: 'trace',
      ERRATA_TEMPORAL_ADDRESS: keys.address,
      ...ca,
      ERRATA_TEMPORAL_API_KEY: WRONG,
    };
    const workflows = new OurProcess('workflow-worker', ours(more), folder);
    await expect(workflows.start()).rejects.toThrow(
      /does not take the API key.*ERRATA_TEMPORAL_API_KEY/,
    );

    const aside = mkdtempSync(path.join(folder, 'ingest-'));
    const ingest = new OurProcess('ingest', ours(more), aside);
    const calls = keys.calls();
    const starting = ingest.start().catch(() => undefined);
    while (keys.calls() < calls + 4) await new Promise((resolve) => setTimeout(resolve, 50));
    await ingest.kill();
    await starting;
    const log = readFileSync(path.join(aside, 'ingest.log'), 'utf8');
    const told = log.split('\n').filter((line) => line.includes('Temporal does not answer yet'));
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(/does not take the API key.*ERRATA_TEMPORAL_API_KEY/);
    expect(log).not.toContain('hush');
  });
});

it('takes TLS of a connection to be what is under test', async () => {
  // Were the gates open to anybody, the refusals above would be of something else.
  await expect(NativeConnection.connect({ address: certificates.address })).rejects.toThrow();
});
