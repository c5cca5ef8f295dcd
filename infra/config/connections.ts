/**
 * The configuration in the form that the adapters of Kafka and Temporal take: files read, secrets
 * given out.
 */
import type { DataConverter } from '@temporalio/common';
import type { TLSConfig } from '@temporalio/common/lib/internal-non-workflow/index.js';
import type { KafkaSettings } from '../../pipelines/kafka/kafka-connection.ts';
import {
  SINGLE_OBJECT_FORMAT,
  registryFormat,
  type RecordFormat,
} from '../../pipelines/kafka/record-format.ts';
import { SchemaRegistry } from '../../pipelines/kafka/schema-registry.ts';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { readCertificate as read, type Configuration } from './configuration.ts';
import { payloadKeysIn } from './setting-forms.ts';

/** Throws `ConfigurationError` when a named certificate file cannot be read. */
export function kafkaSettings(configuration: Configuration): KafkaSettings {
  const { brokers, clientId, ssl, sasl } = configuration.kafka;
  return {
    brokers,
    clientId,
    tls:
      ssl === null
        ? null
        : given({
            ca: read(ssl.caPath, 'kafka.ssl.ca'),
            certificate: read(ssl.certificatePath, 'kafka.ssl.certificate'),
            key: read(ssl.keyPath, 'kafka.ssl.key'),
          }),
    sasl:
      sasl === null
        ? null
        : { mechanism: sasl.mechanism, username: sasl.username, password: sasl.password.reveal() },
  };
}

/**
 * Options of `Connection.connect` and `NativeConnection.connect`. Throws `ConfigurationError` when
 * a named certificate file cannot be read.
 */
export function temporalConnection(configuration: Configuration): {
  address: string;
  tls?: TLSConfig;
  apiKey?: string;
} {
  const { address, tls, apiKey } = configuration.temporal;
  const certificate =
    tls === null ? undefined : read(tls.certificatePath, 'temporal.tls.certificate');
  const key = tls === null ? undefined : read(tls.keyPath, 'temporal.tls.key');
  const authority = tls === null ? undefined : read(tls.caPath, 'temporal.tls.ca');
  return {
    address,
    ...(tls === null
      ? {}
      : {
          tls: {
            ...(authority === undefined ? {} : { serverRootCACertificate: Buffer.from(authority) }),
            ...(certificate === undefined || key === undefined
              ? {}
              : { clientCertPair: { crt: Buffer.from(certificate), key: Buffer.from(key) } }),
            ...(tls.serverName === null ? {} : { serverNameOverride: tls.serverName }),
          },
        }),
    ...(apiKey === null ? {} : { apiKey: apiKey.reveal() }),
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
  const { payloadKeys } = temporal;
  return payloadConverter(payloadKeys === null ? [] : (payloadKeysIn(payloadKeys.reveal()) ?? []));
}

/**
 * How records cross the topics: as the schema registry says where one is configured. Throws
 * `ConfigurationError` when a named certificate file cannot be read.
 */
export function recordFormat({ registry }: Configuration): RecordFormat {
  if (registry === null) return SINGLE_OBJECT_FORMAT;
  const { url, credentials, caPath } = registry;
  return registryFormat(
    new SchemaRegistry({
      url,
      credentials:
        credentials === null
          ? null
          : { username: credentials.username, password: credentials.password.reveal() },
      ...given({ ca: read(caPath, 'registry.ca') }),
    }),
  );
}

function given<T extends Record<string, string | undefined>>(
  values: T,
): { [Name in keyof T]?: string } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Name in keyof T]?: string;
  };
}
