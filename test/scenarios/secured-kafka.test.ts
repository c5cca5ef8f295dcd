/**
 * The way to a real broker over TLS, with users and with client certificates; and what is told when
 * it does not let one in.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { KafkaSettings } from '../../pipelines/kafka/kafka-connection.ts';
import type { ConsumedRecord } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { ChannelRefused } from '../../pipelines/refused-channel.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { Authority, written } from '../harness/servers/certificates.ts';
import { USER, startSecuredKafka, type SecuredKafka } from '../harness/servers/secured-kafka.ts';
import { startTestTemporal } from '../harness/servers/local.ts';
import { OurProcess } from '../harness/our-process.ts';

const PASSWORD = 'hush-the-password';
const WRONG = 'hush-not-the-password';
const folder = mkdtempSync(path.join(tmpdir(), 'errata-secured-'));
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
afterAll(async () => {
  await Promise.allSettled([broker?.stop(), temporal?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

/** All that the client logged, for secrets to be looked for in it. */
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

describe('a secured broker', () => {
  const ways: [string, () => Partial<KafkaSettings>][] = [
    ['SASL PLAIN over TLS', () => ({ sasl: user('plain') })],
    ['SASL SCRAM-SHA-256 over TLS', () => ({ sasl: user('scram-sha-256') })],
    ['SASL SCRAM-SHA-512 over TLS', () => ({ sasl: user('scram-sha-512') })],
    [
      'a client certificate',
      () => ({ brokers: [broker.certificates], tls: { ...tls, ...client } }),
    ],
  ];

  it.each(ways)('makes topics, takes records and gives them by %s', async (way, settings) => {
    const kafka = cluster(settings());
    const topic = way.replaceAll(/\W/g, '-');
    expect(
      await kafka.ensureTopics([
        { name: topic, partitions: 1, replicationFactor: 1, configuration: {} },
      ]),
    ).toEqual([topic]);
    const sender = await kafka.sender();
    await sender.send(topic, [{ key: 'k', value: Buffer.from(way) }]);
    const read = await new Promise<ConsumedRecord[]>((resolve, reject) => {
      kafka
        .read(`group-${topic}`, [topic], async (batch) => {
          await batch.done(batch.records.at(-1)!.offset);
          resolve(batch.records);
        })
        .then((reader) => void stops.push(() => reader.stop()), reject);
    });
    expect(read.map(({ value }) => value!.toString())).toEqual([way]);
    await Promise.all([...stops.splice(0).map((stop) => stop()), sender.close()]);
    expect((await kafka.lagOf(`group-${topic}`, [topic]))[0]!.lag).toBe(0);
  });
  const stops: (() => Promise<void>)[] = [];

  const refusals: [string, () => Partial<KafkaSettings>, RegExp, RegExp][] = [
    [
      'a wrong password (PLAIN)',
      () => ({ sasl: user('plain', WRONG) }),
      /does not take the user and password/,
      /ERRATA_KAFKA_SASL_PASSWORD/,
    ],
    [
      'a wrong password (SCRAM-SHA-256)',
      () => ({ sasl: user('scram-sha-256', WRONG) }),
      /does not take the user and password/,
      /ERRATA_KAFKA_SASL_PASSWORD/,
    ],
    [
      'a wrong password (SCRAM-SHA-512)',
      () => ({ sasl: user('scram-sha-512', WRONG) }),
      /does not take the user and password/,
      /ERRATA_KAFKA_SASL_PASSWORD/,
    ],
    [
      'a user that it does not know',
      () => ({ sasl: user('plain', PASSWORD, 'nobody') }),
      /does not take the user and password/,
      /ERRATA_KAFKA_SASL_USERNAME/,
    ],
    ['no user', () => ({}), /closes the connection/, /ERRATA_KAFKA_SASL_USERNAME/],
    [
      'a user where it wants none',
      () => ({ brokers: [broker.certificates], tls: { ...tls, ...client }, sasl: user('plain') }),
      /expects no user there/,
      /ERRATA_KAFKA_BROKERS/,
    ],
    [
      'no client certificate',
      () => ({ brokers: [broker.certificates] }),
      /asks for a client certificate/,
      /ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY/,
    ],
    [
      "a stranger's certificate",
      () => ({ brokers: [broker.certificates], tls: { ...tls, ...stranger.certify('errata') } }),
      /does not take this client's certificate/,
      /ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY/,
    ],
    [
      'an authority that did not sign for it',
      () => ({ tls: { ca: stranger.certificate }, sasl: user('plain') }),
      /an authority that is not known here/,
      /ERRATA_KAFKA_SSL_CA/,
    ],
    [
      "Node's own authorities",
      () => ({ tls: {}, sasl: user('plain') }),
      /an authority that is not known here/,
      /ERRATA_KAFKA_SSL_CA/,
    ],
  ];

  it.each(refusals)(
    'refuses %s, and says where to look, soon and without the secret',
    async (_, settings, message, hint) => {
      const kafka = cluster(settings());
      const fault: unknown = await kafka.ensureTopics([]).catch((error: unknown) => error);
      expect(fault).toBeInstanceOf(ChannelRefused);
      expect((fault as ChannelRefused).message).toMatch(message);
      expect((fault as ChannelRefused).hint).toMatch(hint);
      for (const told of [
        JSON.stringify(fault),
        (fault as Error).stack ?? '',
        (fault as Error).message,
      ])
        expect(told).not.toContain('hush');
      await expect(kafka.sender()).rejects.toThrow(ChannelRefused);
      await expect(kafka.read('refused', ['x'], async () => undefined)).rejects.toThrow(
        ChannelRefused,
      );
    },
  );

  it('is not even asked with a certificate and a key that do not go together', () => {
    expect(() =>
      cluster({
        tls: { ...tls, certificate: client.certificate, key: authority.certify('other').key },
      }),
    ).toThrow(/cannot be used/);
    expect(() => cluster({ tls: { ...tls, certificate: 'none', key: 'none' } })).toThrow(
      ChannelRefused,
    );
  });

  it('does not find a secret of its clients in what they log', () => {
    expect(logged).toContain('Kafka client reports');
    expect(logged).not.toContain('hush');
    // SASL PLAIN goes over the wire in base64.
    expect(logged).not.toContain(
      Buffer.from(`\0${USER}\0${WRONG}`).toString('base64').slice(0, 20),
    );
  });
});

describe('a whole process', () => {
  const environment = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
    ...process.env,
    ERRATA_HOME: folder,
    ERRATA_TEMPORAL_ADDRESS: temporal.address,
    ERRATA_TEMPORAL_NAMESPACE: temporal.namespace,
    ERRATA_KAFKA_SSL_CA: file('authority.pem', authority.certificate),
    ...more,
  });
  const file = (name: string, content: string): string => {
    writeFileSync(path.join(folder, name), content);
    return path.join(folder, name);
  };

  it('finds its way by the environment alone: a user with the password in a file, or a client certificate', async () => {
    const names = written(folder, 'errata', client);
    const ways = [
      {
        ERRATA_LINEAGES: 'users',
        ERRATA_KAFKA_BROKERS: broker.users,
        ERRATA_KAFKA_SASL_MECHANISM: 'scram-sha-512',
        ERRATA_KAFKA_SASL_USERNAME: USER,
        ERRATA_KAFKA_SASL_PASSWORD_FILE: file('password', `${PASSWORD}\n`),
      },
      {
        ERRATA_LINEAGES: 'certificates',
        ERRATA_KAFKA_BROKERS: broker.certificates,
        ERRATA_KAFKA_SSL_CERTIFICATE: names.certificate,
        ERRATA_KAFKA_SSL_KEY: names.key,
      },
    ];
    const plain = cluster({ brokers: [broker.plain], tls: null });
    for (const way of ways) {
      const ingest = new OurProcess('ingest', environment(way), folder);
      await ingest.start();
      const topic = topicsOf(way.ERRATA_LINEAGES).corrections;
      expect((await plain.extents(topic))!.size).toBe(3);
      const sender = await plain.sender();
      await sender.send(topic, [{ key: 'not a correction', value: Buffer.from('x') }]);
      await sender.close();
      // It came to the dead-letter topic, so it was read and written over this channel.
      for (;;) {
        const extents = (await plain.extents(topicsOf(way.ERRATA_LINEAGES).deadLetters))!;
        if ([...extents.values()].some(({ end }) => end !== '0')) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      expect(await ingest.stop()).toBe(0);
      expect(
        (await plain.lagOf(INGEST_GROUP, [topic])).reduce((sum, { lag }) => sum + lag, 0),
      ).toBe(0);
    }
  });

  it('ends at a wrong password with what to look at, and without the password', async () => {
    const ingest = new OurProcess(
      'ingest',
      environment({
        ERRATA_LOG_LEVEL: 'trace',
        ERRATA_KAFKA_BROKERS: broker.users,
        ERRATA_KAFKA_SASL_MECHANISM: 'plain',
        ERRATA_KAFKA_SASL_USERNAME: USER,
        ERRATA_KAFKA_SASL_PASSWORD: WRONG,
      }),
      folder,
    );
    const ended: unknown = await ingest.start().catch((error: unknown) => error);
    expect((ended as Error).message).toMatch(
      /does not take the user and password.*ERRATA_KAFKA_SASL_PASSWORD/,
    );
    expect((ended as Error).message).not.toContain('hush');
  });

  it('ends at a certificate file that is not there with the name of the setting', async () => {
    const ingest = new OurProcess(
      'ingest',
      environment({
        ERRATA_KAFKA_BROKERS: broker.users,
        ERRATA_KAFKA_SSL_CA: path.join(folder, 'absent.pem'),
      }),
      folder,
    );
    await expect(ingest.start()).rejects.toThrow(
      /ERRATA_KAFKA_SSL_CA is .*absent\.pem.*a file that can be read/,
    );
  });
});
