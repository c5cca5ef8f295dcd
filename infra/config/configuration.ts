/**
 * The configuration of every process and command. It is read from the environment and an optional
 * file, validated once, and all faults are reported together. No other file reads the environment.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { PROJECT_ROOT } from './home.ts';
import { groupOf, LINEAGE_SETTINGS } from './lineage-settings.ts';
import type { Secret } from './secret.ts';
import { bucketIn } from './setting-forms.ts';
import { CONFIGURATION_LIMITS, ConfigurationError, SettingReader } from './setting-reader.ts';
import { SETTINGS, type Setting, type SettingPath, type SettingValues } from './settings.ts';

export { Secret } from './secret.ts';
export { CONFIGURATION_LIMITS, ConfigurationError } from './setting-reader.ts';

export type Configuration = ReturnType<typeof readConfiguration>;
export type LogLevel = Configuration['logLevel'];

/** The location of the version log. Paths are absolute. */
export type VersionsPlace =
  | { kind: 'folder'; folder: string }
  | {
      kind: 's3';
      bucket: string;
      /** Without leading or trailing "/"; may be empty. */
      prefix: string;
      /** Null for Amazon's endpoint of the region. */
      endpoint: string | null;
      /** If null, the SDK finds it. */
      region: string | null;
      pathStyle: boolean;
      /** If null, the SDK finds them. */
      credentials: { accessKeyId: string; secretAccessKey: Secret } | null;
      caPath: string | null;
    };

/**
 * Reads and validates the configuration. Throws `ConfigurationError` with all faults at once.
 * Relative paths in the environment are resolved from the working directory, those in a file from
 * the file's folder.
 */
export function readConfiguration(
  environment: NodeJS.ProcessEnv = process.env,
  workingDirectory: string = process.cwd(),
) {
  const reader = new SettingReader(environment, workingDirectory);
  const values = Object.fromEntries(
    Object.entries(SETTINGS).map(([path, setting]) => [
      path,
      reader.read<unknown>(setting as Setting<unknown>, path),
    ]),
  ) as SettingValues;
  checkLineages(values.lineages, reader);
  checkDependencies(values, reader);
  const settings = lineageSettings(values.lineages, reader);
  if (reader.faults.length > 0) throw new ConfigurationError(reader.faults);
  const { device, model, hubToken, lineages, archiveHistories, logLevel } = values;
  const { keyStatisticsText, parameterSet, hyperParameters } = values;
  const home = values.home ?? resolve(PROJECT_ROOT, '.errata');
  const alertUrl = values['alert.url'];
  const registryUrl = values['registry.url'];
  return {
    home,
    versions: versionsPlace(values['versions'] ?? resolve(home, 'versions'), values),
    device,
    /** An absolute path or a Hugging Face id; null for the embedded model. */
    model,
    hubToken,
    lineages,
    /** One entry per lineage. */
    settings,
    kafka: kafkaOf(values),
    temporal: temporalOf(values),
    archiveHistories,
    /** If null, there is no registry, and records carry Avro's single-object header. */
    registry:
      registryUrl === null
        ? null
        : {
            url: registryUrl,
            credentials: credentialsOf(values['registry.username'], values['registry.password']),
            caPath: values['registry.ca'],
          },
    serve: {
      host: values['serve.host'],
      port: values['serve.port'],
      /** Null if no running `serve` is known. */
      url: values['serve.url'],
      /** Absolute; the file need not exist unless `tokensRequired`. */
      tokensPath: values['serve.tokens'] ?? resolve(home, 'tokens.json'),
      tokensRequired: values['serve.tokens'] !== null,
      open: values['serve.open'],
      token: values['serve.token'],
    },
    alert: alertUrl === null ? null : { url: alertUrl, secret: values['alert.secret'] },
    logLevel,
    /** If null, the model's own samples are used. */
    keyStatisticsText,
    /** If null, the project's own set for the model is used. */
    parameterSet,
    hyperParameters,
    /** Paths of the settings given by the environment or the file, such as `serve.port`. */
    given: reader.given,
    notices: reader.notices(),
  };
}

/**
 * Returns the environment for a child process: this process's, overridden by the given settings. An
 * undefined value removes the variable.
 */
export function childEnvironment(settings: Record<string, string | undefined>): NodeJS.ProcessEnv {
  return { ...process.env, ...settings };
}

/** Returns the terminal's colour and width from variables that other programs also use. */
export function terminalPreferences(environment: NodeJS.ProcessEnv = process.env): {
  colour: boolean | null;
  columns: number | null;
} {
  const columns = Number.parseInt(environment['COLUMNS'] ?? '', 10);
  const forced = environment['FORCE_COLOR'] ? environment['FORCE_COLOR'] !== '0' : null;
  return {
    colour: environment['NO_COLOR'] ? false : forced,
    columns: columns > 0 ? columns : null,
  };
}

/** Reads a setting's PEM file; returns undefined for null. Throws `ConfigurationError`. */
export function readCertificate(path: string | null, setting: SettingPath): string | undefined {
  try {
    return path === null ? undefined : readFileSync(path, 'utf8');
  } catch {
    const name = SETTINGS[setting].variable;
    throw new ConfigurationError([{ name, value: path, expected: 'a file that can be read' }]);
  }
}

/** Truncates the list to its limit, and reports names that are malformed or too similar. */
function checkLineages(lineages: string[], reader: SettingReader): void {
  const { lineagesMax } = CONFIGURATION_LIMITS;
  const fault = (value: string, expected: string) =>
    reader.fault('ERRATA_LINEAGES', value, expected);
  const excess = lineages.splice(lineagesMax).length;
  if (excess > 0) fault(String(lineagesMax + excess), `at most ${lineagesMax} lineages`);
  const byPrefix = new Map<string, string>();
  for (const lineage of lineages) {
    if (!LINEAGE_NAME.test(lineage)) fault(lineage, `names of the form ${LINEAGE_NAME.source}`);
    const other = byPrefix.get(prefixOf(lineage));
    if (other !== undefined)
      fault(lineage, `a name that differs from "${other}" by more than case, "-" and "_"`);
    byPrefix.set(prefixOf(lineage), lineage);
  }
}

/** Returns the prefix of a lineage's own variables: `ERRATA_NEWS_DESK_` for `news-desk`. */
function prefixOf(lineage: string): string {
  return `ERRATA_${lineage.toUpperCase().replaceAll('-', '_')}_`;
}

/** Settings that require another setting. */
const NEEDS: [needed: SettingPath, by: SettingPath[]][] = [
  ['registry.url', ['registry.username', 'registry.password', 'registry.ca']],
  ['alert.url', ['alert.secret']],
  ...allOrNone('kafka.ssl.certificate', 'kafka.ssl.key'),
  ...allOrNone('temporal.tls.certificate', 'temporal.tls.key'),
  ...allOrNone('kafka.sasl.mechanism', 'kafka.sasl.username', 'kafka.sasl.password'),
  ...allOrNone('registry.username', 'registry.password'),
  ...allOrNone('s3.accessKeyId', 's3.secretAccessKey'),
];
const S3_SETTINGS = Object.keys(SETTINGS).filter((path) => path.startsWith('s3.'));

function allOrNone(...paths: SettingPath[]): [SettingPath, SettingPath[]][] {
  return paths.map((path) => [path, paths.filter((other) => other !== path)]);
}

function checkDependencies(values: SettingValues, reader: SettingReader): void {
  for (const [path, others] of NEEDS) {
    const by = others.find((other) => values[other] !== null);
    const { variable, form } = SETTINGS[path];
    if (values[path] === null && by !== undefined)
      reader.fault(variable, null, `${form.expected}, because ${SETTINGS[by].variable} is set`);
  }
  const { versions } = values;
  const s3 = S3_SETTINGS.find((path) => values[path as SettingPath] !== null) as SettingPath;
  if (s3 !== undefined && (versions === null || bucketIn(versions) === null))
    reader.fault(
      'ERRATA_VERSIONS',
      versions,
      `s3://bucket or s3://bucket/prefix, because ${SETTINGS[s3].variable} is set`,
    );
}

function lineageSettings(lineages: string[], reader: SettingReader) {
  const forAll = Object.entries(LINEAGE_SETTINGS).map(
    ([path, setting]) => [path, { ...setting, default: reader.read(setting, path) }] as const,
  );
  const settingsOf = (lineage: string): LineageSettings => {
    const settings = structuredClone(DEFAULT_LINEAGE_SETTINGS);
    for (const [path, setting] of forAll) {
      const [group, name] = groupOf(settings, path);
      const variable = setting.variable.replace('ERRATA_', prefixOf(lineage));
      group[name] = reader.read(setting, `lineage.${lineage}.${path}`, variable);
    }
    const { batchEditsMax, bufferEditsMax } = settings.batch;
    if (bufferEditsMax < batchEditsMax)
      reader.fault(
        `${prefixOf(lineage)}BUFFER_EDITS_MAX`,
        String(bufferEditsMax),
        `at least the ${batchEditsMax} corrections of a batch`,
      );
    return settings;
  };
  return Object.fromEntries(lineages.map((lineage) => [lineage, settingsOf(lineage)]));
}

function versionsPlace(place: string, values: SettingValues): VersionsPlace {
  const bucket = bucketIn(place);
  if (bucket === null) return { kind: 'folder', folder: place };
  const accessKeyId = values['s3.accessKeyId'];
  const secretAccessKey = values['s3.secretAccessKey'];
  const endpoint = values['s3.endpoint'];
  return {
    kind: 's3',
    ...bucket,
    endpoint,
    region: values['s3.region'],
    pathStyle: values['s3.pathStyle'] ?? endpoint !== null,
    credentials:
      accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey },
    caPath: values['s3.ca'],
  };
}

function kafkaOf(values: SettingValues) {
  const brokers = values['kafka.brokers'];
  const credentials = credentialsOf(values['kafka.sasl.username'], values['kafka.sasl.password']);
  const mechanism = values['kafka.sasl.mechanism'];
  return {
    /** True if no brokers are named: `errata up` then starts one. */
    embedded: brokers === null,
    /** `host:port`; empty until the embedded broker's address is known. */
    brokers: brokers ?? [],
    clientId: values['kafka.clientId'],
    /** Null for plain text. */
    ssl: tlsOf('kafka.ssl', values),
    sasl: mechanism === null || credentials === null ? null : { mechanism, ...credentials },
    partitions: values['kafka.partitions'],
    replicationFactor: values['kafka.replicationFactor'],
    port: values['kafka.port'],
  };
}

function temporalOf(values: SettingValues) {
  const address = values['temporal.address'];
  const apiKey = values['temporal.apiKey'];
  const payloadKeys = values['temporal.payloadKeys'];
  const serverName = values['temporal.tls.serverName'];
  const files = tlsOf('temporal.tls', values);
  // Temporal Cloud accepts API keys over TLS only.
  const plain = files === null && serverName === null && apiKey === null;
  return {
    /** True if no address is named: `errata up` then starts a server. */
    embedded: address === null,
    /** `host:port`; empty until the embedded server's address is known. */
    address: address ?? '',
    namespace: values['temporal.namespace'],
    /** Null for plain text. */
    tls: plain ? null : { ...(files ?? NO_FILES), serverName },
    apiKey,
    payloadKeys,
    retentionDays: values['temporal.retentionDays'],
    // Search attributes are never encrypted, so they default to off if payloads are encrypted.
    searchAttributes: values['temporal.searchAttributes'] ?? payloadKeys === null,
    pageUrl: values['temporal.pageUrl'],
    port: values['temporal.port'],
    uiPort: values['temporal.uiPort'],
  };
}

interface TlsFiles {
  caPath: string | null;
  certificatePath: string | null;
  keyPath: string | null;
}

const NO_FILES: TlsFiles = { caPath: null, certificatePath: null, keyPath: null };

function tlsOf(path: 'kafka.ssl' | 'temporal.tls', values: SettingValues): TlsFiles | null {
  const files = {
    caPath: values[`${path}.ca`],
    certificatePath: values[`${path}.certificate`],
    keyPath: values[`${path}.key`],
  };
  const named = Object.values(files).some((file) => file !== null);
  return named || values[`${path}.enabled`] ? files : null;
}

function credentialsOf(username: string | null, password: Secret | null) {
  return username === null || password === null ? null : { username, password };
}
