import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { readConfiguration } from '../../infra/configuration.ts';
import { protectionOf } from '../../infra/protection.ts';

const KEYS = ['2026', '2025'].map((name, i) => `${name}:${Buffer.alloc(32, i + 1).toString('base64')}`).join(',');
const BROKERS = { ERRATA_KAFKA_BROKERS: 'kafka:9092', ERRATA_TEMPORAL_ADDRESS: 'temporal:7233' };
const USER = { ERRATA_KAFKA_SASL_MECHANISM: 'plain', ERRATA_KAFKA_SASL_USERNAME: 'errata', ERRATA_KAFKA_SASL_PASSWORD: 'hush' };
const told = (environment: NodeJS.ProcessEnv): string[] => protectionOf(readConfiguration(environment, tmpdir())).map(({ of, state, how }) => `${of}: ${state}, ${how}`);

describe('what a configuration protects', () => {
  it('is told for a system of one machine', () => {
    expect(told({})).toEqual([
      'Kafka: local, on the loopback interface of this machine',
      'Temporal: local, on the loopback interface of this machine',
      'Temporal payloads: open, kept as they are (ERRATA_TEMPORAL_PAYLOAD_KEYS encrypts them)',
    ]);
  });

  it('is told for servers elsewhere, with the names of keys and without the keys', () => {
    expect(told(BROKERS).slice(0, 2)).toEqual(['Kafka: open, plain text', 'Temporal: open, plain text']);
    expect(told({ ...BROKERS, ...USER })[0]).toMatch(/^Kafka: weak, plain text, user errata by plain/);
    const all = told({ ...BROKERS, ...USER, ERRATA_KAFKA_SSL: 'true', ERRATA_TEMPORAL_TLS_CERTIFICATE: 'c', ERRATA_TEMPORAL_TLS_KEY: 'k', ERRATA_TEMPORAL_API_KEY: 'hush', ERRATA_TEMPORAL_PAYLOAD_KEYS: KEYS });
    expect(all).toEqual(['Kafka: protected, TLS, user errata by plain', 'Temporal: protected, TLS, client certificate, API key', 'Temporal payloads: protected, encrypted with the key 2026; read also with 2025']);
    expect(all.join()).not.toMatch(/hush|=/);
  });
});
