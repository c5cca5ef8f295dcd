/**
 * The configuration of every process and command: what the environment and an optional file say,
 * checked once, with all faults reported together. No other file reads the environment.
 *
 * An environment variable beats the file, the file beats the default. The names, forms, defaults
 * and meanings are data (`configuration-settings.ts`), from which the reference in
 * docs/configuration.md is checked.
 */
import { existsSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { isHubId } from '../../model/checkpoint/hub-id.ts';
import { boundedJson, UnsoundJson } from '../../schemas/encoding/bounded-json.ts';
import type { HyperParameterOverrides } from '../../schemas/editing.ts';
import { readParameterSet, type ParameterSet } from '../../schemas/hyper-parameters.ts';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import { firstFaults, onOneLine, excerpt } from '../../schemas/encoding/excerpt.ts';
import { PROJECT_ROOT } from './home.ts';
import { bucketIn, SETTINGS, LINEAGE_SETTINGS, type Setting } from './configuration-settings.ts';
import { Secret } from './secret.ts';
import { readSmallFile } from './small-file.ts';

export { Secret } from './secret.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface KafkaConfiguration {
  /** Whether `errata up` starts a broker of its own: true where no brokers are named. */
  embedded: boolean;
  /** `host:port`; empty where the embedded broker's address is not known yet. */
  brokers: string[];
  clientId: string;
  /** Null: plain text. Paths are absolute. */
  ssl: { caPath: string | null; certificatePath: string | null; keyPath: string | null } | null;
  sasl: {
    mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512';
    username: string;
    password: Secret;
  } | null;
  /** Of topics that the system creates. */
  partitions: number;
  replicationFactor: number;
  /** Where the embedded broker listens; 0: any free port. */
  port: number;
}

export interface TemporalConfiguration {
  /** Whether `errata up` starts a server of its own: true where no address is named. */
  embedded: boolean;
  /** `host:port`; empty where the embedded server's address is not known yet. */
  address: string;
  namespace: string;
  /** Null: plain text. */
  tls: {
    caPath: string | null;
    certificatePath: string | null;
    keyPath: string | null;
    serverName: string | null;
  } | null;
  apiKey: Secret | null;
  /** `payloadKeysIn` reads it. */
  payloadKeys: Secret | null;
  /** Days for which the embedded server remembers workflows that have ended. */
  retentionDays: number;
  /** Whether workflows may carry search attributes, where they are registered. */
  searchAttributes: boolean;
  /** Temporal's web page; null where none is known. */
  pageUrl: string | null;
  /** Where the embedded server and its web page listen; 0: any free port. */
  port: number;
  uiPort: number;
}

/** Where the version log is. Paths are absolute. */
export type VersionsConfiguration =
  | { kind: 'folder'; folder: string }
  | {
      kind: 's3';
      bucket: string;
      /** Without a "/" at either end; may be empty. */
      prefix: string;
      /** Null: Amazon's own of the region. */
      endpoint: string | null;
      /** Null: as the SDK finds it. */
      region: string | null;
      pathStyle: boolean;
      /** Null: as the SDK finds them. */
      credentials: { accessKeyId: string; secretAccessKey: Secret } | null;
      caPath: string | null;
    };

export interface Configuration {
  /** The data folder, absolute. */
  home: string;
  versions: VersionsConfiguration;
  device: 'cpu' | 'gpu';
  /** An absolute path or a Hugging Face id; null: the embedded model. */
  model: string | null;
  /** For models that ask for one. */
  hubToken: Secret | null;
  lineages: string[];
  /** One entry per lineage in `lineages`. */
  settings: Record<string, LineageSettings>;
  kafka: KafkaConfiguration;
  temporal: TemporalConfiguration;
  /** Whether histories of workflows that have ended are kept beside the versions. */
  archiveHistories: boolean;
  /** Null: none, and records carry Avro's single-object head. The path is absolute. */
  registry: {
    url: string;
    credentials: { username: string; password: Secret } | null;
    caPath: string | null;
  } | null;
  serve: {
    host: string;
    port: number;
    /** Null where no `serve` is known to run. */
    url: string | null;
    /** Absolute; the file need not exist unless `tokensRequired`. */
    tokensPath: string;
    tokensRequired: boolean;
    /** Whether something in front knows the users. */
    open: boolean;
    /** What commands show to `serve`. */
    token: Secret | null;
  };
  /** Whom the workflow worker tells what needs somebody; null: nobody. */
  alert: { url: Secret; secret: Secret | null } | null;
  logLevel: LogLevel;
  /** Text for the key statistics; null: the model's own samples. */
  keyStatisticsText: string | null;
  /** Instead of the project's own set for the model. */
  parameterSet: ParameterSet | null;
  /** Laid over the model's own hyper-parameters. */
  hyperParameters: HyperParameterOverrides;
  /** Paths of the settings that the environment or a file gave, such as `serve.port`. */
  given: Set<string>;
  /** What was read but means nothing, in words: misspelt names. */
  notices: string[];
}

export interface ConfigurationFault {
  /** The environment variable, or `<file>: <path>`. */
  name: string;
  /** As found; `[secret]` for a secret, null where it is missing. */
  value: string | null;
  expected: string;
}

/**
 * Bounds on what is read: lineages of one system, JSON in a file or a variable, and notices of what
 * means nothing.
 */
export const CONFIGURATION_LIMITS = {
  lineagesMax: 100,
  json: { valuesMax: 10_000, depthMax: 16 },
  noticesMax: 20,
  expectedCharactersMax: 1_000,
} as const;

/** Thrown with every fault of a configuration; its message lists them all. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly hint = 'docs/configuration.md lists every setting.';
  constructor(readonly faults: ConfigurationFault[]) {
    super(
      `The configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n` +
        faults
          .map(
            (fault) =>
              `  ${fault.name}${fault.value === null ? ' is missing' : ` is ${excerpt(fault.value)}`}; expected ${fault.expected}`,
          )
          .join('\n'),
    );
  }
}

/**
 * Reads and checks the configuration. Throws `ConfigurationError` with all faults at once. Relative
 * paths in the environment are taken from the working directory, those in a file from the file's
 * folder.
 */
export function readConfiguration(
  environment: NodeJS.ProcessEnv = process.env,
  workingDirectory: string = process.cwd(),
): Configuration {
  const faults: ConfigurationFault[] = [];
  const file = readFile(environment, workingDirectory, faults);
  const sources: Sources = {
    environment,
    file,
    workingDirectory,
    faults,
    known: new Set(['ERRATA_CONFIG']),
    knownPaths: new Set(),
    given: new Set(),
  };
  const value = <T>(path: string): T => resolveSetting(SETTINGS[path]!, path, sources) as T;

  const brokers = value<string[] | null>('kafka.brokers');
  const address = value<string | null>('temporal.address');
  const lineages = value<string[]>('lineages');
  const { lineagesMax } = CONFIGURATION_LIMITS;
  if (lineages.length > lineagesMax)
    faults.push({
      name: 'ERRATA_LINEAGES',
      value: String(lineages.splice(lineagesMax).length + lineagesMax),
      expected: `at most ${lineagesMax} lineages`,
    });
  for (const lineage of lineages) {
    if (!LINEAGE_NAME.test(lineage))
      faults.push({
        name: 'ERRATA_LINEAGES',
        value: lineage,
        expected: `names of the form ${LINEAGE_NAME.source}`,
      });
  }
  const byPrefix = new Map<string, string>();
  for (const lineage of lineages) {
    const other = byPrefix.get(prefixOf(lineage));
    if (other !== undefined)
      faults.push({
        name: 'ERRATA_LINEAGES',
        value: lineage,
        expected: `a name that differs from "${other}" by more than case, "-" and "_"`,
      });
    byPrefix.set(prefixOf(lineage), lineage);
  }

  const home = value<string | null>('home') ?? resolve(PROJECT_ROOT, '.errata');
  const configuration: Configuration = {
    home,
    versions: versionsOf(home, value, faults),
    device: value('device'),
    model: value('model'),
    hubToken: value('hubToken'),
    lineages,
    settings: Object.fromEntries(
      lineages.map((lineage) => [lineage, lineageSettings(lineage, sources)]),
    ),
    kafka: {
      embedded: brokers === null,
      brokers: brokers ?? [],
      clientId: value('kafka.clientId'),
      ssl: tlsOf('kafka.ssl', value, faults),
      sasl: saslOf(value, faults),
      partitions: value('kafka.partitions'),
      replicationFactor: value('kafka.replicationFactor'),
      port: value('kafka.port'),
    },
    temporal: {
      embedded: address === null,
      address: address ?? '',
      namespace: value('temporal.namespace'),
      tls: temporalTls(value, faults),
      apiKey: value('temporal.apiKey'),
      payloadKeys: value('temporal.payloadKeys'),
      retentionDays: value('temporal.retentionDays'),
      // In the clear whatever the keys: whoever has keys is not to be told by a default.
      searchAttributes:
        value<boolean | null>('temporal.searchAttributes') ??
        value('temporal.payloadKeys') === null,
      pageUrl: value('temporal.pageUrl'),
      port: value('temporal.port'),
      uiPort: value('temporal.uiPort'),
    },
    archiveHistories: value('archiveHistories'),
    registry: registryOf(value, faults),
    serve: {
      host: value('serve.host'),
      port: value('serve.port'),
      url: value('serve.url'),
      tokensPath: value('serve.tokens') ?? resolve(home, 'tokens.json'),
      tokensRequired: value('serve.tokens') !== null,
      open: value('serve.open'),
      token: value('serve.token'),
    },
    alert: alertOf(value, faults),
    logLevel: value('logLevel'),
    keyStatisticsText: value('keyStatisticsText'),
    parameterSet: parameterSetIn(value('parameterSet'), faults),
    hyperParameters: value('hyperParameters'),
    given: sources.given,
    notices: [],
  };
  configuration.notices = strangers(sources);
  if (faults.length > 0) throw new ConfigurationError(distinct(faults));
  return configuration;
}

/**
 * The environment of a child process: this one's, with the given settings laid over it; undefined
 * takes a name away.
 */
export function childEnvironment(settings: Record<string, string | undefined>): NodeJS.ProcessEnv {
  return { ...process.env, ...settings };
}

/** What tells how to write to the terminal; settled by the environment, as other programs do. */
export function terminalPreferences(environment: NodeJS.ProcessEnv = process.env): {
  colour: boolean | null;
  columns: number | null;
} {
  const columns = Number.parseInt(environment['COLUMNS'] ?? '', 10);
  const colour =
    (environment['NO_COLOR'] ?? '') !== ''
      ? false
      : (environment['FORCE_COLOR'] ?? '') !== ''
        ? environment['FORCE_COLOR'] !== '0'
        : null;
  return { colour, columns: Number.isInteger(columns) && columns > 0 ? columns : null };
}

/** Prefix of a lineage's own variables: `ERRATA_NEWS_DESK_` for `news-desk`. */
export function prefixOf(lineage: string): string {
  return `ERRATA_${lineage.toUpperCase().replaceAll('-', '_')}_`;
}

const DEFAULT_FILE = 'errata.config.json';

interface Sources {
  environment: NodeJS.ProcessEnv;
  file: { name: string; folder: string; content: Record<string, unknown> } | null;
  workingDirectory: string;
  faults: ConfigurationFault[];
  /** Environment variables and file paths that mean something here. */
  known: Set<string>;
  knownPaths: Set<string>;
  given: Set<string>;
}

function readFile(
  environment: NodeJS.ProcessEnv,
  workingDirectory: string,
  faults: ConfigurationFault[],
): Sources['file'] {
  const named = environment['ERRATA_CONFIG'];
  const path = resolve(
    workingDirectory,
    named !== undefined && named !== '' ? named : DEFAULT_FILE,
  );
  if (!existsSync(path)) {
    if (named !== undefined && named !== '')
      faults.push({ name: 'ERRATA_CONFIG', value: named, expected: 'a file that exists' });
    return null;
  }
  try {
    const content = boundedJson(readSmallFile(path), CONFIGURATION_LIMITS.json);
    if (isRecord(content)) return { name: path, folder: dirname(path), content };
    faults.push({ name: path, value: excerpt(content), expected: 'a JSON object' });
  } catch (cause) {
    faults.push({
      name: path,
      value: cause instanceof UnsoundJson ? cause.reason : reasonOf(cause),
      expected: 'a readable JSON file',
    });
  }
  return null;
}

function parameterSetIn(path: string | null, faults: ConfigurationFault[]): ParameterSet | null {
  if (path === null) return null;
  try {
    return readParameterSet(path, readSmallFile(path));
  } catch (cause) {
    faults.push({
      name: 'ERRATA_PARAMETER_SET',
      value: reasonOf(cause),
      expected: 'a file that `errata tune` wrote',
    });
    return null;
  }
}

/**
 * The value of one setting: environment, else file, else default. A fault is noted and the default
 * stands in.
 */
function resolveSetting(
  setting: Setting,
  path: string,
  sources: Sources,
  variable = setting.variable,
): unknown {
  sources.known.add(variable);
  sources.knownPaths.add(path);
  const text = textOf(setting, variable, sources);
  if (text !== undefined) {
    sources.given.add(path);
    const read = setting.form.fromText(text);
    const checked = setting.form.schema.safeParse(read);
    if (checked.success) return finished(setting, checked.data, sources.workingDirectory);
    sources.faults.push({
      name: variable,
      value: setting.form.secret ? '[secret]' : withoutUser(text),
      expected: expectedOf(setting, checked.error.issues),
    });
    return setting.default;
  }
  const found = sources.file === null ? undefined : lookUp(sources.file.content, path);
  if (found === undefined || found === null) return setting.default;
  sources.given.add(path);
  const name = `${sources.file!.name}: ${path}`;
  if (setting.form.secret) {
    sources.faults.push({
      name,
      value: '[secret]',
      expected: `no secret in a file; set ${variable} or ${variable}_FILE`,
    });
    return setting.default;
  }
  const checked = setting.form.schema.safeParse(found);
  if (checked.success) return finished(setting, checked.data, sources.file!.folder);
  sources.faults.push({
    name,
    value: withoutUser(typeof found === 'string' ? found : JSON.stringify(found)),
    expected: expectedOf(setting, checked.error.issues),
  });
  return setting.default;
}

/** A fault repeats what was found, but no password in an address. */
function withoutUser(text: string): string {
  return text.replaceAll(/:\/\/[^/]*@/g, '://[secret]@');
}

/**
 * The variable's text; a secret may stand in a file that `<variable>_FILE` names. An empty variable
 * counts as absent.
 */
function textOf(setting: Setting, variable: string, sources: Sources): string | undefined {
  const text = sources.environment[variable];
  if (setting.form.secret) {
    const fileVariable = `${variable}_FILE`;
    sources.known.add(fileVariable);
    const path = sources.environment[fileVariable];
    if ((text === undefined || text === '') && path !== undefined && path !== '') {
      try {
        return readSmallFile(resolve(sources.workingDirectory, path)).trimEnd();
      } catch {
        sources.faults.push({
          name: fileVariable,
          value: path,
          expected: 'a readable file with the secret',
        });
        return undefined;
      }
    }
  }
  return text === undefined || text.trim() === '' ? undefined : text.trim();
}

function finished(setting: Setting, value: unknown, folder: string): unknown {
  if (setting.form.secret) return new Secret(value as string);
  if (setting.form.path === 'file' || setting.form.path === 'folder')
    return isAbsolute(value as string) ? value : resolve(folder, value as string);
  if (setting.form.path === 'versions')
    return bucketIn(value as string) === null ? resolve(folder, value as string) : value;
  if (setting.form.path === 'model') {
    // `owner/name` is a Hugging Face id, unless there is such a folder; everything else is a path.
    const path = resolve(folder, value as string);
    return isHubId(value as string) && !existsSync(path) ? value : path;
  }
  return value;
}

/** Some settings are asked for more than once; their faults are one fault. */
function distinct(faults: ConfigurationFault[]): ConfigurationFault[] {
  return [...new Map(faults.map((fault) => [JSON.stringify(fault), fault])).values()];
}

function expectedOf(
  setting: Setting,
  issues: readonly { path: PropertyKey[]; message: string }[],
): string {
  if (setting.form.compound !== true) return setting.form.expected;
  const faults = firstFaults(
    issues.map((issue) =>
      issue.path.length > 0 ? `${issue.path.join('.')}: ${issue.message}` : issue.message,
    ),
  );
  return `${setting.form.expected} (${onOneLine(faults, CONFIGURATION_LIMITS.expectedCharactersMax)})`;
}

function lineageSettings(lineage: string, sources: Sources): LineageSettings {
  const settings = structuredClone(DEFAULT_LINEAGE_SETTINGS);
  for (const [path, setting] of Object.entries(LINEAGE_SETTINGS)) {
    const forAll = resolveSetting(setting, path, sources);
    const own = resolveSetting(
      { ...setting, default: forAll },
      `lineage.${lineage}.${path}`,
      sources,
      setting.variable.replace('ERRATA_', prefixOf(lineage)),
    );
    const [group, name] = path.split('.') as [keyof LineageSettings, string];
    (settings[group] as unknown as Record<string, unknown>)[name] = own;
  }
  const { batchEditsMax, bufferEditsMax } = settings.batch;
  if (bufferEditsMax < batchEditsMax) {
    sources.faults.push({
      name: `${prefixOf(lineage)}BUFFER_EDITS_MAX`,
      value: String(bufferEditsMax),
      expected: `at least the batch's ${batchEditsMax} corrections`,
    });
  }
  return settings;
}

type Value = <T>(path: string) => T;

function tlsOf(
  path: 'kafka.ssl' | 'temporal.tls',
  value: Value,
  faults: ConfigurationFault[],
): KafkaConfiguration['ssl'] {
  const enabled = value<boolean>(`${path}.enabled`);
  const files = {
    caPath: value<string | null>(`${path}.ca`),
    certificatePath: value<string | null>(`${path}.certificate`),
    keyPath: value<string | null>(`${path}.key`),
  };
  const missing = (name: string, expected: string) =>
    faults.push({ name: SETTINGS[`${path}.${name}`]!.variable, value: null, expected });
  if (files.keyPath !== null && files.certificatePath === null)
    missing('certificate', 'the certificate of the key');
  if (files.certificatePath !== null && files.keyPath === null)
    missing('key', 'the key of the certificate');
  return enabled || Object.values(files).some((file) => file !== null) ? files : null;
}

function temporalTls(value: Value, faults: ConfigurationFault[]): TemporalConfiguration['tls'] {
  const serverName = value<string | null>('temporal.tls.serverName');
  const files = tlsOf('temporal.tls', value, faults);
  // Temporal Cloud takes API keys over TLS only.
  if (files === null && serverName === null && value<Secret | null>('temporal.apiKey') === null)
    return null;
  return { ...(files ?? { caPath: null, certificatePath: null, keyPath: null }), serverName };
}

function saslOf(value: Value, faults: ConfigurationFault[]): KafkaConfiguration['sasl'] {
  const mechanism = value<'plain' | 'scram-sha-256' | 'scram-sha-512' | null>(
    'kafka.sasl.mechanism',
  );
  const username = value<string | null>('kafka.sasl.username');
  const password = value<Secret | null>('kafka.sasl.password');
  if (mechanism === null && username === null && password === null) return null;
  const missing = (name: string, expected: string) => faults.push({ name, value: null, expected });
  if (mechanism === null)
    missing(
      'ERRATA_KAFKA_SASL_MECHANISM',
      'plain, scram-sha-256 or scram-sha-512, since other SASL settings are given',
    );
  if (username === null)
    missing('ERRATA_KAFKA_SASL_USERNAME', 'the user, since other SASL settings are given');
  if (password === null)
    missing(
      'ERRATA_KAFKA_SASL_PASSWORD',
      'the password (or ERRATA_KAFKA_SASL_PASSWORD_FILE), since other SASL settings are given',
    );
  return mechanism === null || username === null || password === null
    ? null
    : { mechanism, username, password };
}

function versionsOf(
  home: string,
  value: Value,
  faults: ConfigurationFault[],
): VersionsConfiguration {
  const place = value<string | null>('versions') ?? resolve(home, 'versions');
  const endpoint = value<string | null>('s3.endpoint');
  const region = value<string | null>('s3.region');
  const pathStyle = value<boolean | null>('s3.pathStyle');
  const accessKeyId = value<string | null>('s3.accessKeyId');
  const secretAccessKey = value<Secret | null>('s3.secretAccessKey');
  const caPath = value<string | null>('s3.ca');
  const bucket = bucketIn(place);
  if (bucket === null) {
    const given = [endpoint, region, pathStyle, accessKeyId, secretAccessKey, caPath].some(
      (setting) => setting !== null,
    );
    if (given)
      faults.push({
        name: 'ERRATA_VERSIONS',
        value: place,
        expected: 's3://bucket or s3://bucket/prefix, since settings of S3 are given',
      });
    return { kind: 'folder', folder: place };
  }
  if (accessKeyId !== null && secretAccessKey === null)
    faults.push({
      name: 'ERRATA_S3_SECRET_ACCESS_KEY',
      value: null,
      expected: 'the secret (or ERRATA_S3_SECRET_ACCESS_KEY_FILE) of the key',
    });
  if (accessKeyId === null && secretAccessKey !== null)
    faults.push({
      name: 'ERRATA_S3_ACCESS_KEY_ID',
      value: null,
      expected: 'the id of the key, since its secret is given',
    });
  return {
    kind: 's3',
    ...bucket,
    endpoint,
    region,
    pathStyle: pathStyle ?? endpoint !== null,
    credentials:
      accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey },
    caPath,
  };
}

function registryOf(value: Value, faults: ConfigurationFault[]): Configuration['registry'] {
  const url = value<string | null>('registry.url');
  const username = value<string | null>('registry.username');
  const password = value<Secret | null>('registry.password');
  const caPath = value<string | null>('registry.ca');
  const missing = (name: string, expected: string) => faults.push({ name, value: null, expected });
  if (url === null && [username, password, caPath].some((given) => given !== null))
    missing(
      'ERRATA_SCHEMA_REGISTRY_URL',
      "the registry's address, since other settings of it are given",
    );
  if (username === null && password !== null)
    missing('ERRATA_SCHEMA_REGISTRY_USERNAME', 'the user of the password');
  if (username !== null && password === null)
    missing(
      'ERRATA_SCHEMA_REGISTRY_PASSWORD',
      'the password (or ERRATA_SCHEMA_REGISTRY_PASSWORD_FILE) of the user',
    );
  return url === null
    ? null
    : {
        url,
        credentials: username === null || password === null ? null : { username, password },
        caPath,
      };
}

function alertOf(value: Value, faults: ConfigurationFault[]): Configuration['alert'] {
  const url = value<Secret | null>('alert.url');
  const secret = value<Secret | null>('alert.secret');
  if (url === null && secret !== null)
    faults.push({
      name: 'ERRATA_ALERT_URL',
      value: null,
      expected: 'the webhook that the secret is for',
    });
  return url === null ? null : { url, secret };
}

/** Names that look like settings and are none: most likely misspelt. */
function strangers({ environment, known, file, knownPaths }: Sources): string[] {
  const names = Object.keys(environment).filter(
    (name) => name.startsWith('ERRATA_') && !known.has(name),
  );
  const paths =
    file === null
      ? []
      : leavesOf(file.content).filter(
          (path) =>
            ![...knownPaths].some((setting) => path === setting || path.startsWith(`${setting}.`)),
        );
  const { noticesMax } = CONFIGURATION_LIMITS;
  const notices = [
    ...names
      .slice(0, noticesMax)
      .map(
        (name) =>
          `${onOneLine(name, NAME_CHARACTERS_MAX)} is no setting${nearest(name, [...known])}`,
      ),
    ...paths
      .slice(0, noticesMax)
      .map(
        (path) =>
          `${file!.name}: ${onOneLine(path, NAME_CHARACTERS_MAX)} is no setting${nearest(path, [...knownPaths])}`,
      ),
  ];
  const more = names.length + paths.length - notices.length;
  return more > 0 ? [...notices, `${more} names more are no settings`] : notices;
}

/** Of a name that is no setting, in a notice. */
const NAME_CHARACTERS_MAX = 200;
const MISSPELT_DISTANCE_MAX = 4;

function nearest(name: string, names: string[]): string {
  const alike = names.filter(
    (other) => Math.abs(other.length - name.length) <= MISSPELT_DISTANCE_MAX,
  );
  const [best] = alike
    .map((other) => ({ other, distance: editDistance(name, other) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= MISSPELT_DISTANCE_MAX
    ? `; is ${best.other} meant?`
    : '';
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1)
      next[j] = Math.min(
        row[j]! + 1,
        next[j - 1]! + 1,
        row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    row = next;
  }
  return row[b.length]!;
}

function lookUp(content: Record<string, unknown>, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, name) => (isRecord(value) ? value[name] : undefined), content);
}

function leavesOf(content: Record<string, unknown>, path = ''): string[] {
  return Object.entries(content).flatMap(([name, value]) =>
    isRecord(value) && Object.keys(value).length > 0
      ? leavesOf(value, `${path}${name}.`)
      : [`${path}${name}`],
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
