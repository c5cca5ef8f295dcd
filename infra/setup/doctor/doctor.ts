/**
 * `errata doctor` as data: checks whether this machine can run the system, and what is installed.
 */
import type { Configuration } from '../../config/configuration.ts';
import { homeAt } from '../../config/home.ts';
import { payloadKeysIn } from '../../config/setting-forms.ts';
import { examine, PREREQUISITES } from '../prerequisites.ts';
import { missingParts, PARTS } from '../provision/index.ts';
import { examineTemporal } from './examine-temporal.ts';
import { examineVersions } from './examine-versions.ts';

export type Diagnosis = Awaited<ReturnType<typeof diagnose>>;

/**
 * Examines the machine and the configuration within about a second. It changes nothing, except that
 * a bucket is tested with an object. `running` has the addresses of the running system.
 */
export async function diagnose(configuration: Configuration, running = configuration) {
  const { device } = configuration;
  const home = homeAt(configuration.home);
  const absent = missingParts(PARTS, home, device);
  const [findings, versions, temporal] = await Promise.all([
    examine(PREREQUISITES, home, device),
    examineVersions(configuration),
    examineTemporal(running),
  ]);
  return {
    /** True if nothing needed by the set-up and the system is missing. */
    able: [...findings, versions].every(({ state }) => state !== 'missing'),
    findings,
    parts: PARTS.map((part) => ({ part, installed: !absent.includes(part) })),
    home: home.root,
    device,
    versions,
    temporal,
    protection: protectionOf(configuration),
  };
}

/** The protection of a connection, or of data at rest. */
export interface Protection {
  readonly of: 'Kafka' | 'Temporal' | 'Temporal payloads' | 'Version log';
  /** `weak`: a password in plain text. `local`: a server on the loopback interface, or a folder. */
  readonly state: 'protected' | 'local' | 'open' | 'weak';
  /** A description that names keys and users, but never a secret. */
  readonly how: string;
}

const LOCAL = { state: 'local', how: 'on the loopback interface of this machine' } as const;

export function protectionOf({ kafka, temporal, versions }: Configuration): Protection[] {
  const user = kafka.sasl && `user ${kafka.sasl.username} by ${kafka.sasl.mechanism}`;
  const apiKey = temporal.apiKey && 'API key';
  return [
    { of: 'Kafka', ...(kafka.embedded ? LOCAL : channel(kafka.ssl, user)) },
    { of: 'Temporal', ...(temporal.embedded ? LOCAL : channel(temporal.tls, apiKey)) },
    { of: 'Temporal payloads', ...payloads(temporal) },
    { of: 'Version log', ...storage(versions) },
  ];
}

function channel(
  tls: { certificatePath: string | null } | null,
  credential: string | null,
): Omit<Protection, 'of'> {
  const certificate = tls?.certificatePath ? 'client certificate' : null;
  if (tls !== null)
    return { state: 'protected', how: ['TLS', certificate, credential].filter(Boolean).join(', ') };
  if (credential === null) return { state: 'open', how: 'plain text' };
  return { state: 'weak', how: `plain text, ${credential}: an eavesdropper can take the password` };
}

function payloads({ payloadKeys }: Configuration['temporal']): Omit<Protection, 'of'> {
  const keys = payloadKeysIn(payloadKeys?.reveal() ?? '') ?? [];
  const names = keys.map(({ name }) => name).join('; also decrypted with ');
  return keys.length === 0
    ? { state: 'open', how: 'plain text (ERRATA_TEMPORAL_PAYLOAD_KEYS encrypts them)' }
    : { state: 'protected', how: `encrypted with the key ${names}` };
}

function storage(versions: Configuration['versions']): Omit<Protection, 'of'> {
  if (versions.kind === 'folder') return { state: 'local', how: 'in a folder, by its file rights' };
  const { credentials, endpoint } = versions;
  const key = credentials === null ? "the SDK's own credentials" : `key ${credentials.accessKeyId}`;
  // Signatures do not reveal the secret, but the stored objects can be read in transit.
  return endpoint?.startsWith('http:') === true
    ? { state: 'open', how: `plain text, ${key}` }
    : { state: 'protected', how: `TLS, ${key}` };
}
