/**
 * How a configuration protects the ways to Kafka and Temporal, and what stays there; read from the
 * settings alone.
 */
import type { Configuration } from '../../config/configuration.ts';
import { payloadKeysIn } from '../../config/setting-forms.ts';

export interface Protection {
  readonly of: 'Kafka' | 'Temporal' | 'Temporal payloads' | 'Version log';
  /**
   * `weak`: a password in plain text. `local`: a server of this machine that `errata up` starts, on
   * the loopback interface.
   */
  readonly state: 'protected' | 'local' | 'open' | 'weak';
  /** In words; names keys and users, never a secret. */
  readonly how: string;
}

export function protectionOf({ kafka, temporal, versions }: Configuration): Protection[] {
  const keys =
    temporal.payloadKeys === null ? [] : (payloadKeysIn(temporal.payloadKeys.reveal()) ?? []);
  return [
    kafka.embedded
      ? { of: 'Kafka', state: 'local', how: LOCAL }
      : {
          of: 'Kafka',
          ...channel(
            kafka.ssl,
            kafka.sasl === null ? null : `user ${kafka.sasl.username} by ${kafka.sasl.mechanism}`,
          ),
        },
    temporal.embedded
      ? { of: 'Temporal', state: 'local', how: LOCAL }
      : { of: 'Temporal', ...channel(temporal.tls, temporal.apiKey === null ? null : 'API key') },
    keys.length === 0
      ? {
          of: 'Temporal payloads',
          state: 'open',
          how: 'kept as they are (ERRATA_TEMPORAL_PAYLOAD_KEYS encrypts them)',
        }
      : {
          of: 'Temporal payloads',
          state: 'protected',
          how: `encrypted with the key ${keys.map(({ name }) => name).join('; read also with ')}`,
        },
    { of: 'Version log', ...keeping(versions) },
  ];
}

const LOCAL = 'on the loopback interface of this machine';

function keeping(versions: Configuration['versions']): Pick<Protection, 'state' | 'how'> {
  if (versions.kind === 'folder')
    return { state: 'local', how: 'in a folder, by the rights of its files' };
  const key =
    versions.credentials === null
      ? "the SDK's own credentials"
      : `key ${versions.credentials.accessKeyId}`;
  // What is signed with the secret does not show it, but what is stored goes by in the clear.
  return versions.endpoint?.startsWith('http:') === true
    ? { state: 'open', how: `plain text, ${key}` }
    : { state: 'protected', how: `TLS, ${key}` };
}

function channel(
  tls: { certificatePath: string | null } | null,
  credential: string | null,
): Pick<Protection, 'state' | 'how'> {
  const proofs = [
    ...(tls?.certificatePath ? ['client certificate'] : []),
    ...(credential === null ? [] : [credential]),
  ];
  if (tls === null)
    return credential === null
      ? { state: 'open', how: 'plain text' }
      : {
          state: 'weak',
          how: `plain text, ${credential}: whoever listens may take what it proves itself with`,
        };
  return { state: 'protected', how: ['TLS', ...proofs].join(', ') };
}
