import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { readConfiguration } from '../../../../infra/config/configuration.ts';
import { protectionOf } from '../../../../infra/setup/doctor/doctor.ts';

const KEYS = ['2026', '2025']
  .map((name, i) => `${name}:${Buffer.alloc(32, i + 1).toString('base64')}`)
  .join(',');
const BROKERS = { ERRATA_KAFKA_BROKERS: 'kafka:9092', ERRATA_TEMPORAL_ADDRESS: 'temporal:7233' };
const USER = {
  ERRATA_KAFKA_SASL_MECHANISM: 'plain',
  ERRATA_KAFKA_SASL_USERNAME: 'errata',
  ERRATA_KAFKA_SASL_PASSWORD: 'hush',
};
const protections = (environment: NodeJS.ProcessEnv): string[] =>
  protectionOf(readConfiguration(environment, tmpdir())).map(
    ({ of, state, how }) => `${of}: ${state}, ${how}`,
  );

test('a system of one machine is local', () => {
  expect(protections({})).toEqual([
    'Kafka: local, on the loopback interface of this machine',
    'Temporal: local, on the loopback interface of this machine',
    'Temporal payloads: open, plain text (ERRATA_TEMPORAL_PAYLOAD_KEYS encrypts them)',
    'Version log: local, in a folder, by its file rights',
  ]);
});

test('versions in a bucket are protected by TLS and a key', () => {
  const bucket = (environment: NodeJS.ProcessEnv) =>
    protections({ ERRATA_VERSIONS: 's3://facts', ...environment }).at(-1);
  expect(bucket({})).toBe("Version log: protected, TLS, the SDK's own credentials");
  expect(
    bucket({
      ERRATA_S3_ENDPOINT: 'http://s3:9000',
      ERRATA_S3_ACCESS_KEY_ID: 'id',
      ERRATA_S3_SECRET_ACCESS_KEY: 'hush',
    }),
  ).toBe('Version log: open, plain text, key id');
});

test('other servers are described with the names of keys, never the keys', () => {
  expect(protections(BROKERS).slice(0, 2)).toEqual([
    'Kafka: open, plain text',
    'Temporal: open, plain text',
  ]);
  expect(protections({ ...BROKERS, ...USER })[0]).toMatch(
    /^Kafka: weak, plain text, user errata by plain/,
  );
  const all = protections({
    ...BROKERS,
    ...USER,
    ERRATA_KAFKA_SSL: 'true',
    ERRATA_TEMPORAL_TLS_CERTIFICATE: 'c',
    ERRATA_TEMPORAL_TLS_KEY: 'k',
    ERRATA_TEMPORAL_API_KEY: 'hush',
    ERRATA_TEMPORAL_PAYLOAD_KEYS: KEYS,
  });
  expect(all).toEqual([
    'Kafka: protected, TLS, user errata by plain',
    'Temporal: protected, TLS, client certificate, API key',
    'Temporal payloads: protected, encrypted with the key 2026; also decrypted with 2025',
    'Version log: local, in a folder, by its file rights',
  ]);
  expect(all.join()).not.toMatch(/hush|=/);
});
