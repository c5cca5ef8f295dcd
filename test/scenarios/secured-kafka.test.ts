/** Connections to a real broker with TLS, users and client certificates, and refusals by it. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord } from '../../pipelines/kafka/records.ts';
import type { KafkaSettings } from '../../pipelines/kafka/kafka-connection.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { ChannelRefused } from '../../pipelines/refused-channel.ts';
import { afterwards, testFolder } from '../harness/clean-up.ts';
import { OurProcess } from '../harness/our-process.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { startTestTemporal } from '../harness/servers/local.ts';
import { USER, startSecuredKafka, type SecuredKafka } from '../harness/servers/secured-kafka.ts';
import { until } from '../harness/until.ts';

const PASSWORD = 'hush-the-password';
const WRONG = 'hush-not-the-password';
const folder = testFolder();
const authority = new Authority('the authority of the test');
const stranger = new Authority('another authority');
const client = authority.certify('errata');
const tls = { ca: authority.certificate };

let broker: SecuredKafka;
let temporal: EmbeddedTemporal;
beforeAll(async () => {
  [broker, temporal] = await Promise.all([
    startSecuredKafka(folder, authority, PASSWORD),
    startTestTemporal(folder),
  ]);
});

/** All that the client logged. */
let logged = '';
const log = (fields: object, message: string): void =>
  void (logged += `${message} ${JSON.stringify(fields)}\n`);
const LOGGER: Logger = { debug: log, info: log, warn: log, error: log };

const cluster = (settings: Partial<KafkaSettings>): KafkaCluster =>
  new KafkaCluster(
    { brokers: [broker.users], clientId: 'test', tls, sasl: null, ...settings },
    LOGGER,
  );
const user = (
  mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512',
  password = PASSWORD,
  username = USER,
) => ({ mechanism, username, password });
/** Settings for the listener that asks for a client certificate. */
const certified = (certificate: object = client) => ({
  brokers: [broker.certificates],
  tls: { ...tls, ...certificate },
});

test.each<[string, () => Partial<KafkaSettings>]>([
  ['SASL PLAIN over TLS', () => ({ sasl: user('plain') })],
  ['SASL SCRAM-SHA-256 over TLS', () => ({ sasl: user('scram-sha-256') })],
  ['SASL SCRAM-SHA-512 over TLS', () => ({ sasl: user('scram-sha-512') })],
  ['a client certificate', () => certified()],
])('with %s a client makes topics, sends and reads', async (way, settings) => {
  const kafka = cluster(settings());
  const topic = way.replaceAll(/\W/g, '-');
  const specification = { name: topic, partitions: 1, replicationFactor: 1, configuration: {} };
  expect(await kafka.ensureTopics([specification])).toEqual([topic]);
  const sender = await kafka.sender();
  afterwards(() => sender.close());
  await sender.send(topic, [{ key: 'k', value: Buffer.from(way) }]);
  const read = await new Promise<ConsumedRecord[]>((resolve, reject) => {
    const reading = kafka.read(`group-${topic}`, [topic], async (batch) => {
      await batch.done(batch.records.at(-1)!.offset);
      resolve(batch.records);
    });
    afterwards(async () => (await reading).stop());
    reading.catch(reject);
  });
  expect(read.map(({ value }) => value!.toString())).toEqual([way]);
  await until(async () => (await kafka.lagOf(`group-${topic}`, [topic]))[0]!.lag === 0);
});

const notTaken = /does not take the user and password/;
const unknownAuthority = /an authority that is not known here/;
test.each<[string, () => Partial<KafkaSettings>, RegExp, RegExp]>([
  ...(['plain', 'scram-sha-256', 'scram-sha-512'] as const).map(
    (mechanism): [string, () => Partial<KafkaSettings>, RegExp, RegExp] => [
      `a wrong password (${mechanism})`,
      () => ({ sasl: user(mechanism, WRONG) }),
      notTaken,
      /ERRATA_KAFKA_SASL_PASSWORD/,
    ],
  ),
  [
    'a user that it does not know',
    () => ({ sasl: user('plain', PASSWORD, 'nobody') }),
    notTaken,
    /ERRATA_KAFKA_SASL_USERNAME/,
  ],
  ['no user', () => ({}), /closes the connection/, /ERRATA_KAFKA_SASL_USERNAME/],
  [
    'a user where it wants none',
    () => ({ ...certified(), sasl: user('plain') }),
    /expects no user there/,
    /ERRATA_KAFKA_BROKERS/,
  ],
  [
    'no client certificate',
    () => certified({}),
    /asks for a client certificate/,
    /ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY/,
  ],
  [
    "a stranger's certificate",
    () => certified(stranger.certify('errata')),
    /does not take this client's certificate/,
    /ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY/,
  ],
  [
    'an authority that did not sign for it',
    () => ({ tls: { ca: stranger.certificate }, sasl: user('plain') }),
    unknownAuthority,
    /ERRATA_KAFKA_SSL_CA/,
  ],
  [
    "Node's own authorities",
    () => ({ tls: {}, sasl: user('plain') }),
    unknownAuthority,
    /ERRATA_KAFKA_SSL_CA/,
  ],
])('with %s a client is refused, and learns the setting', async (_, settings, message, hint) => {
  const kafka = cluster(settings());
  const fault: unknown = await kafka.ensureTopics([]).catch((error: unknown) => error);
  if (!(fault instanceof ChannelRefused)) throw new Error(`not refused: ${String(fault)}`);
  expect(fault.message).toMatch(message);
  expect(fault.hint).toMatch(hint);
  for (const text of [JSON.stringify(fault), fault.stack ?? '', fault.message])
    expect(text).not.toContain('hush');
  await expect(kafka.sender()).rejects.toThrow(ChannelRefused);
  await expect(kafka.read('refused', ['x'], async () => undefined)).rejects.toThrow(ChannelRefused);
});

test('a certificate with the key of another is refused before any connection', () => {
  const mixed = { certificate: client.certificate, key: authority.certify('other').key };
  expect(() => cluster({ tls: { ...tls, ...mixed } })).toThrow(/cannot be used/);
  const unreadable = { ...tls, certificate: 'none', key: 'none' };
  expect(() => cluster({ tls: unreadable })).toThrow(ChannelRefused);
});

test('logs of clients hold no secret', () => {
  expect(logged).toContain('Kafka client reports');
  expect(logged).not.toContain('hush');
  // SASL PLAIN goes over the wire in base64.
  const base64 = Buffer.from(`\0${USER}\0${WRONG}`).toString('base64');
  expect(logged).not.toContain(base64.slice(0, 20));
});

const file = (name: string, content: string): string => {
  writeFileSync(path.join(folder, name), content);
  return path.join(folder, name);
};
const ingestWith = (more: Record<string, string>): OurProcess =>
  new OurProcess(
    'ingest',
    {
      ERRATA_HOME: folder,
      ERRATA_TEMPORAL_ADDRESS: temporal.address,
      ERRATA_TEMPORAL_NAMESPACE: temporal.namespace,
      ERRATA_KAFKA_SSL_CA: file('authority.pem', authority.certificate),
      ERRATA_KAFKA_BROKERS: broker.users,
      ...more,
    },
    folder,
  );

test.each([
  [
    'a user whose password is in a file',
    () => ({
      ERRATA_LINEAGES: 'users',
      ERRATA_KAFKA_SASL_MECHANISM: 'scram-sha-512',
      ERRATA_KAFKA_SASL_USERNAME: USER,
      ERRATA_KAFKA_SASL_PASSWORD_FILE: file('password', `${PASSWORD}\n`),
    }),
  ],
  [
    'a client certificate',
    () => ({
      ERRATA_LINEAGES: 'certificates',
      ERRATA_KAFKA_BROKERS: broker.certificates,
      ERRATA_KAFKA_SSL_CERTIFICATE: written(folder, 'errata', client).certificate,
      ERRATA_KAFKA_SSL_KEY: written(folder, 'errata', client).key,
    }),
  ],
])('a process is let in by its environment alone: %s', async (_, settings) => {
  const way = settings();
  const plain = cluster({ brokers: [broker.plain], tls: null });
  const ingest = ingestWith(way);
  await ingest.start();
  const { corrections, deadLetters } = topicsOf(way.ERRATA_LINEAGES);
  expect((await plain.extents(corrections))!.size).toBe(3);
  const sender = await plain.sender();
  afterwards(() => sender.close());
  await sender.send(corrections, [{ key: 'not a correction', value: Buffer.from('x') }]);
  // A dead letter shows that the record was read, and the letter written, over this channel.
  await until(async () =>
    [...(await plain.extents(deadLetters))!.values()].some(({ end }) => end !== '0'),
  );
  expect(await ingest.stop()).toBe(0);
  const partitions = await plain.lagOf(INGEST_GROUP, [corrections]);
  expect(partitions.every(({ lag }) => lag === 0)).toBe(true);
  expect(partitions).toHaveLength(3);
});

test('a process ends at a wrong password with the setting, and without the password', async () => {
  const ingest = ingestWith({
    ERRATA_LOG_LEVEL: 'trace',
    ERRATA_KAFKA_SASL_MECHANISM: 'plain',
    ERRATA_KAFKA_SASL_USERNAME: USER,
    ERRATA_KAFKA_SASL_PASSWORD: WRONG,
  });
  const fault: unknown = await ingest.start().catch((error: unknown) => error);
  expect((fault as Error).message).toMatch(
    /does not take the user and password.*ERRATA_KAFKA_SASL_PASSWORD/,
  );
  expect((fault as Error).message).not.toContain('hush');
});

test('a process ends at an absent certificate file, with the setting', async () => {
  const ingest = ingestWith({ ERRATA_KAFKA_SSL_CA: path.join(folder, 'absent.pem') });
  await expect(ingest.start()).rejects.toThrow(
    /ERRATA_KAFKA_SSL_CA is .*absent\.pem.*a file that can be read/,
  );
});
