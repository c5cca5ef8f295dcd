/**
 * The four processes with a real Kafka, a real Temporal and their versions on a real S3 server,
 * which is killed while corrections come in: they wait for it, and all of them are committed once
 * it is back.
 */
import { mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfiguration } from '../../infra/config/configuration.ts';
import { homeFromEnvironment } from '../../infra/config/home.ts';
import { startSystem, type RunningSystem } from '../../infra/local/supervisor.ts';
import { S3Store } from '../../versions/stores/s3-store.ts';
import { Versions } from '../../versions/versions.ts';
import { invoke, type Invocation } from '../cli/invocation.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { S3_SETUP_WAIT_MS, startTestS3, type TestS3 } from '../harness/servers/seaweed.ts';
import { startTestServers, type TestServers } from '../harness/servers/local.ts';

const LINEAGE = 'bucket';

let servers: TestServers;
let s3: TestS3;
let system: RunningSystem;
let environment: Record<string, string>;

beforeAll(async () => {
  servers = await startTestServers();
  s3 = await startTestS3(servers.folder);
  const home = path.join(servers.folder, 'home');
  mkdirSync(home);
  symlinkSync(path.join(homeFromEnvironment().root, 'tensorflow'), path.join(home, 'tensorflow'));
  const place = s3.place('of-the-stream');
  environment = {
    ERRATA_HOME: home,
    ERRATA_LINEAGES: LINEAGE,
    ERRATA_MODEL: goldenPath('tiny', 'llama'),
    ERRATA_HYPER_PARAMETERS: JSON.stringify({ stepsMax: 5, contexts: 0, contextsPerStep: 0 }),
    ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
    ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
    ERRATA_VERSIONS: `s3://${place.bucket}/${place.prefix}`,
    ERRATA_S3_ENDPOINT: place.endpoint,
    ERRATA_S3_ACCESS_KEY_ID: place.credentials.accessKeyId,
    ERRATA_S3_SECRET_ACCESS_KEY: place.credentials.secretAccessKey,
    ERRATA_PORT: '0',
    ERRATA_BATCH_WAIT_MS: '200',
    // A model of random numbers learns what it is told, but with no manners.
    ERRATA_REQUIRE_EFFECTIVE: 'false',
    ERRATA_GENERALISATION_MIN: '0',
    ERRATA_LOCALITY_MIN: '0',
    ERRATA_RETENTION_MIN: '0',
    ERRATA_CANARY_RATIO_MAX: '100',
    ERRATA_EDIT_NORM_MAX: '1000',
  };
  system = await startSystem(readConfiguration(environment, servers.folder), {
    overlay: environment,
  });
}, S3_SETUP_WAIT_MS);

afterAll(async () => {
  await system?.stop();
  await s3?.stop();
  await servers?.stop();
});

const errata = async (...args: string[]): Promise<Invocation> =>
  await invoke(servers.folder, args, environment);
const submit = async (town: string, ...more: string[]) =>
  await errata(
    'submit',
    '--lineage',
    LINEAGE,
    '--subject',
    town,
    '--prompt',
    `the old ${town} is on`,
    '--target',
    'river',
    ...more,
  );

describe('a stream whose versions are on S3', { timeout: 600_000 }, () => {
  it('waits for a server that is killed, and loses nothing', async () => {
    expect((await submit('town one', '--wait')).code).toBe(0);
    process.kill(s3.pid, 'SIGKILL');
    const waiting = ['two', 'three', 'four'].map((name) => submit(`town ${name}`, '--wait'));
    const refused = await errata('log', '--lineage', LINEAGE);
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/does not answer.*\n.*ERRATA_S3_ENDPOINT/);
    expect((await errata('ask', '--lineage', LINEAGE, 'the old town one is on')).code).toBe(0);
    s3 = await startTestS3(servers.folder);
    expect((await Promise.all(waiting)).map(({ code }) => code)).toEqual([0, 0, 0]);

    const verified = await errata('verify', '--lineage', LINEAGE, '--json');
    expect(verified.code).toBe(0);
    const history = await new Versions(new S3Store(s3.place('of-the-stream'))).log(LINEAGE).read();
    expect([...history.active.values()].map(({ subject }) => subject).sort()).toEqual([
      'town four',
      'town one',
      'town three',
      'town two',
    ]);
    expect((await errata('ask', '--lineage', LINEAGE, 'the old town four is on')).code).toBe(0);
  });
});
