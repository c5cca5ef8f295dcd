/**
 * Connections to the configured Kafka, Temporal and schema registry, with certificates read and
 * secrets revealed.
 */
import type { DataConverter } from '@temporalio/common';
import type { TLSConfig } from '@temporalio/common/lib/internal-non-workflow/index.js';
import type { KafkaSettings } from '../../pipelines/kafka/kafka-connection.ts';
import {
  registryFormat,
  SINGLE_OBJECT_FORMAT,
  type RecordFormat,
} from '../../pipelines/kafka/record-format.ts';
import { SchemaRegistry } from '../../pipelines/kafka/schema-registry.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { readCertificate, type Configuration } from './configuration.ts';
import { payloadKeysIn } from './setting-forms.ts';

/** Throws `ConfigurationError` if a certificate file cannot be read. */
export function kafkaSettings({ kafka }: Configuration): KafkaSettings {
  const { brokers, clientId, ssl, sasl } = kafka;
  return {
    brokers,
    clientId,
    tls: ssl && {
      ...pem('ca', ssl.caPath, 'kafka.ssl.ca'),
      ...pem('certificate', ssl.certificatePath, 'kafka.ssl.certificate'),
      ...pem('key', ssl.keyPath, 'kafka.ssl.key'),
    },
    sasl: sasl && { ...sasl, password: sasl.password.reveal() },
  };
}

/**
 * Returns options for `Connection.connect` and `NativeConnection.connect`. Throws
 * `ConfigurationError` if a certificate file cannot be read.
 */
export function temporalConnection({ temporal }: Configuration): {
  address: string;
  tls?: TLSConfig;
  apiKey?: string;
} {
  const { address, tls, apiKey } = temporal;
  return {
    address,
    ...(tls === null ? {} : { tls: temporalTls(tls) }),
    ...(apiKey === null ? {} : { apiKey: apiKey.reveal() }),
  };
}

function temporalTls(tls: NonNullable<Configuration['temporal']['tls']>): TLSConfig {
  const authority = readCertificate(tls.caPath, 'temporal.tls.ca');
  const crt = readCertificate(tls.certificatePath, 'temporal.tls.certificate');
  const key = readCertificate(tls.keyPath, 'temporal.tls.key');
  return {
    ...(authority === undefined ? {} : { serverRootCACertificate: Buffer.from(authority) }),
    ...(crt === undefined || key === undefined
      ? {}
      : { clientCertPair: { crt: Buffer.from(crt), key: Buffer.from(key) } }),
    ...(tls.serverName === null ? {} : { serverNameOverride: tls.serverName }),
  };
}

/** Connects to Temporal lazily, with the configured namespace and payload keys. */
export function temporalLineages(configuration: Configuration): TemporalLineages {
  return TemporalLineages.connect(
    temporalConnection(configuration),
    configuration.temporal.namespace,
    temporalConverter(configuration),
  );
}

export function temporalConverter({ temporal }: Configuration): DataConverter {
  const keys = temporal.payloadKeys?.reveal();
  return payloadConverter(keys === undefined ? [] : (payloadKeysIn(keys) ?? []));
}

/**
 * Returns the record format, from the schema registry if one is configured. Throws
 * `ConfigurationError` if its certificate file cannot be read.
 */
export function recordFormat({ registry }: Configuration): RecordFormat {
  if (registry === null) return SINGLE_OBJECT_FORMAT;
  const { url, credentials, caPath } = registry;
  return registryFormat(
    new SchemaRegistry({
      url,
      credentials: credentials && { ...credentials, password: credentials.password.reveal() },
      ...pem('ca', caPath, 'registry.ca'),
    }),
  );
}

function pem<Name extends string>(
  name: Name,
  path: string | null,
  setting: Parameters<typeof readCertificate>[1],
): { [One in Name]?: string } {
  const text = readCertificate(path, setting);
  return (text === undefined ? {} : { [name]: text }) as { [One in Name]?: string };
}
