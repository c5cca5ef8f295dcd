/**
 * Every setting there is: its environment variable, its form, its default and what it means. The
 * path is the setting's place in errata.config.json. docs/configuration.md is checked against this
 * list.
 */
import { z } from 'zod';
import { hyperParameterOverrides } from '../../schemas/hyper-parameters.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import { PAYLOAD_KEYS_FORM, payloadKeysIn } from './payload-keys.ts';

export interface Setting {
  variable: string;
  form: Form;
  default: unknown;
  /** How the reference words the default, where it is not the value itself. */
  defaultWords?: string;
  meaning: string;
}

export interface Form {
  /** In words, for faults and the reference. */
  expected: string;
  /**
   * The value as an environment variable writes it; what cannot be read comes back unchanged, for
   * the schema to refuse.
   */
  fromText(text: string): unknown;
  schema: z.ZodType;
  secret?: boolean;
  /** Has parts of its own, whose faults are worth naming. */
  compound?: boolean;
  path?: 'file' | 'folder' | 'model' | 'versions';
}

const asIs = (text: string): string => text;
/** Without NUL, which no path or name of another program may have. */
const text: Form = {
  expected: 'text',
  fromText: asIs,
  schema: z
    .string()
    .min(1)
    .refine((value) => !value.includes('\0')),
};
const secret: Form = {
  ...text,
  expected: 'a secret (or its file, with _FILE behind the name)',
  secret: true,
};
const payloadKeys: Form = {
  ...secret,
  expected: `${PAYLOAD_KEYS_FORM} (or their file, with _FILE behind the name)`,
  schema: z.string().refine((value) => payloadKeysIn(value) !== null),
};
const filePath: Form = { ...text, expected: 'the path of a file', path: 'file' };
const folderPath: Form = { ...text, expected: 'the path of a folder', path: 'folder' };
const versionsPlace: Form = {
  expected:
    'the path of a folder, or s3://bucket or s3://bucket/prefix (letters, digits, ".", "-" and "_", the bucket in lower case)',
  fromText: asIs,
  schema: z
    .string()
    .min(1)
    .refine(
      (value) =>
        !value.includes('\0') && (!/^[a-z0-9+.-]+:\/\//i.test(value) || bucketIn(value) !== null),
    ),
  path: 'versions',
};
const modelName: Form = {
  ...text,
  expected: 'the path of a model, or a Hugging Face id',
  path: 'model',
};
const flag: Form = {
  expected: 'true or false',
  fromText: (value) =>
    ({ true: true, '1': true, yes: true, false: false, '0': false, no: false })[
      value.toLowerCase()
    ] ?? value,
  schema: z.boolean(),
};
const numberFrom = (value: string): unknown =>
  /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? Number(value) : value;
const integer = (min: number, max: number): Form => ({
  expected: `a whole number from ${min} to ${max}`,
  fromText: numberFrom,
  schema: z.number().int().min(min).max(max),
});
const decimal = (min: number, max: number): Form => ({
  expected: `a number from ${min} to ${max}`,
  fromText: numberFrom,
  schema: z.number().min(min).max(max),
});
const share = decimal(0, 1);
const port: Form = { ...integer(0, 65_535), expected: 'a port, 0 to 65535 (0: any free one)' };
const choice = (...values: [string, ...string[]]): Form => ({
  expected:
    values.length === 1 ? values[0] : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`,
  fromText: asIs,
  schema: z.enum(values),
});
const list = (expected: string, item: z.ZodType): Form => ({
  expected,
  fromText: (value) =>
    value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  schema: z.array(item).min(1),
});
const PORT_MAX = 65_535;
const hostAndPort = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^\s:,/]+):[1-9]\d{0,4}$/)
  .refine((value) => Number(value.slice(value.lastIndexOf(':') + 1)) <= PORT_MAX);
/** A user in it would be seen in every message that names the address. */
const urlWithoutUser: Form = {
  expected: 'an http or https address without a user in it',
  fromText: asIs,
  schema: z
    .url({ protocol: /^https?$/ })
    .refine((value) => !URL.canParse(value) || new URL(value).username === ''),
};
/** With many receivers the address is all that is needed to post there. */
const secretUrl: Form = {
  ...secret,
  expected: 'an http or https address (or its file, with _FILE behind the name)',
  schema: z.url({ protocol: /^https?$/ }),
};
const url: Form = {
  expected: 'an http or https address',
  fromText: asIs,
  schema: z.url({ protocol: /^https?$/ }),
};

const json: Form = {
  expected: 'a JSON object with hyper-parameters',
  fromText: (value) => {
    try {
      return JSON.parse(value) as unknown;
    } catch {
      return value;
    }
  },
  schema: hyperParameterOverrides,
  compound: true,
};

const BUCKET = /^s3:\/\/([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])((?:\/[A-Za-z0-9][A-Za-z0-9._-]*)*)\/?$/;
const BUCKET_PREFIX_CHARACTERS_MAX = 256;

/** Bucket and prefix of `s3://bucket/prefix`; null where it is none. */
export function bucketIn(text: string): { bucket: string; prefix: string } | null {
  const [, bucket, path] = BUCKET.exec(text) ?? [];
  return bucket === undefined || path === undefined || path.length > BUCKET_PREFIX_CHARACTERS_MAX
    ? null
    : { bucket, prefix: path.slice(1) };
}

/** Settings of the installation, by their path in the configuration file. */
export const SETTINGS: Record<string, Setting> = {
  home: {
    variable: 'ERRATA_HOME',
    form: folderPath,
    default: null,
    defaultWords: '`.errata` in the project',
    meaning:
      'The data folder: what the set-up built, Kafka and Temporal data, models, versions, logs.',
  },
  versions: {
    variable: 'ERRATA_VERSIONS',
    form: versionsPlace,
    default: null,
    defaultWords: '`versions` in the data folder',
    meaning:
      'Where the version log is: a folder, or a bucket that speaks S3, which must be there. It is what to back up.',
  },
  's3.endpoint': {
    variable: 'ERRATA_S3_ENDPOINT',
    form: urlWithoutUser,
    default: null,
    defaultWords: "Amazon's of the region",
    meaning:
      'The server that speaks S3. It must honour `If-None-Match: *` on puts: before the first one it is put to the proof.',
  },
  's3.region': {
    variable: 'ERRATA_S3_REGION',
    form: text,
    default: null,
    defaultWords: "`us-east-1` with an endpoint, else the SDK's own (`AWS_REGION`, a profile)",
    meaning: "The bucket's region.",
  },
  's3.pathStyle': {
    variable: 'ERRATA_S3_PATH_STYLE',
    form: flag,
    default: null,
    defaultWords: '`true` with an endpoint, else `false`',
    meaning: 'Whether the bucket stands in the path and not in the host name.',
  },
  's3.accessKeyId': {
    variable: 'ERRATA_S3_ACCESS_KEY_ID',
    form: text,
    default: null,
    defaultWords: "the SDK's own (`AWS_ACCESS_KEY_ID`, a profile, the machine's role)",
    meaning: 'The id of the key to the bucket; docs/security.md lists the rights that it needs.',
  },
  's3.secretAccessKey': {
    variable: 'ERRATA_S3_SECRET_ACCESS_KEY',
    form: secret,
    default: null,
    meaning: 'The secret of that.',
  },
  's3.ca': {
    variable: 'ERRATA_S3_CA',
    form: filePath,
    default: null,
    defaultWords: "Node's own list",
    meaning: "The authority that signed the server's certificate, PEM.",
  },
  device: {
    variable: 'ERRATA_DEVICE',
    form: choice('cpu', 'gpu'),
    default: 'cpu',
    meaning: "Which TensorFlow is set up and loaded. `gpu` takes TensorFlow's CUDA build.",
  },
  model: {
    variable: 'ERRATA_MODEL',
    form: modelName,
    default: null,
    defaultWords: 'the embedded SmolLM2-135M-Instruct',
    meaning:
      'The model that is edited: a `.gguf` file, a folder in the Hugging Face layout, or a Hugging Face id (`owner/name`), which is downloaded.',
  },
  hubToken: {
    variable: 'ERRATA_HUB_TOKEN',
    form: secret,
    default: null,
    meaning: 'The access token for models of the Hugging Face hub that ask for one.',
  },
  lineages: {
    variable: 'ERRATA_LINEAGES',
    form: list('names, separated by commas', z.string()),
    default: ['default'],
    meaning:
      'The lineages: each has topics, a workflow, an edit queue and a version log of its own.',
  },
  'kafka.brokers': {
    variable: 'ERRATA_KAFKA_BROKERS',
    form: list('addresses host:port, separated by commas', hostAndPort),
    default: null,
    defaultWords: 'a broker that `errata up` starts',
    meaning: 'The Kafka cluster.',
  },
  'kafka.clientId': {
    variable: 'ERRATA_KAFKA_CLIENT_ID',
    form: text,
    default: 'errata',
    meaning: 'The client id that the brokers see.',
  },
  'kafka.ssl.enabled': {
    variable: 'ERRATA_KAFKA_SSL',
    form: flag,
    default: false,
    meaning: 'TLS to the brokers; any of the three files below switches it on as well.',
  },
  'kafka.ssl.ca': {
    variable: 'ERRATA_KAFKA_SSL_CA',
    form: filePath,
    default: null,
    defaultWords: "Node's own list",
    meaning: "The authority that signed the brokers' certificates, PEM.",
  },
  'kafka.ssl.certificate': {
    variable: 'ERRATA_KAFKA_SSL_CERTIFICATE',
    form: filePath,
    default: null,
    meaning: "The client's certificate, PEM.",
  },
  'kafka.ssl.key': {
    variable: 'ERRATA_KAFKA_SSL_KEY',
    form: filePath,
    default: null,
    meaning: "The client's key, PEM.",
  },
  'kafka.sasl.mechanism': {
    variable: 'ERRATA_KAFKA_SASL_MECHANISM',
    form: choice('plain', 'scram-sha-256', 'scram-sha-512'),
    default: null,
    meaning: 'How the client proves itself to the brokers.',
  },
  'kafka.sasl.username': {
    variable: 'ERRATA_KAFKA_SASL_USERNAME',
    form: text,
    default: null,
    meaning: 'The user of that.',
  },
  'kafka.sasl.password': {
    variable: 'ERRATA_KAFKA_SASL_PASSWORD',
    form: secret,
    default: null,
    meaning: 'The password of that.',
  },
  'kafka.partitions': {
    variable: 'ERRATA_KAFKA_PARTITIONS',
    form: integer(1, 1_000),
    default: 3,
    meaning: 'Partitions of the topics that are created.',
  },
  'kafka.replicationFactor': {
    variable: 'ERRATA_KAFKA_REPLICATION_FACTOR',
    form: integer(1, 10),
    default: 1,
    meaning: 'Replicas of the topics that are created; 3 on a cluster.',
  },
  'kafka.port': {
    variable: 'ERRATA_KAFKA_PORT',
    form: port,
    default: 0,
    meaning: 'Where the broker that `errata up` starts listens.',
  },
  'temporal.address': {
    variable: 'ERRATA_TEMPORAL_ADDRESS',
    form: { expected: 'an address host:port', fromText: asIs, schema: hostAndPort },
    default: null,
    defaultWords: 'a server that `errata up` starts',
    meaning: "Temporal's front end.",
  },
  'temporal.namespace': {
    variable: 'ERRATA_TEMPORAL_NAMESPACE',
    form: text,
    default: 'errata',
    meaning: 'The namespace.',
  },
  'temporal.tls.enabled': {
    variable: 'ERRATA_TEMPORAL_TLS',
    form: flag,
    default: false,
    meaning: 'TLS to Temporal; any of the settings below switches it on as well.',
  },
  'temporal.tls.ca': {
    variable: 'ERRATA_TEMPORAL_TLS_CA',
    form: filePath,
    default: null,
    meaning: "The authority that signed the server's certificate, PEM.",
  },
  'temporal.tls.certificate': {
    variable: 'ERRATA_TEMPORAL_TLS_CERTIFICATE',
    form: filePath,
    default: null,
    meaning: "The client's certificate (mTLS), PEM.",
  },
  'temporal.tls.key': {
    variable: 'ERRATA_TEMPORAL_TLS_KEY',
    form: filePath,
    default: null,
    meaning: "The client's key (mTLS), PEM.",
  },
  'temporal.tls.serverName': {
    variable: 'ERRATA_TEMPORAL_TLS_SERVER_NAME',
    form: text,
    default: null,
    meaning: "The name the server's certificate must bear, where it is not the address.",
  },
  'temporal.apiKey': {
    variable: 'ERRATA_TEMPORAL_API_KEY',
    form: secret,
    default: null,
    meaning: 'The API key (Temporal Cloud); switches TLS on.',
  },
  'temporal.payloadKeys': {
    variable: 'ERRATA_TEMPORAL_PAYLOAD_KEYS',
    form: payloadKeys,
    default: null,
    defaultWords: 'none: Temporal keeps corrections as they are',
    meaning:
      'Keys with which what Temporal keeps of corrections is encrypted; the same for all processes and commands. docs/security.md says more.',
  },
  'temporal.port': {
    variable: 'ERRATA_TEMPORAL_PORT',
    form: port,
    default: 0,
    meaning: 'Where the Temporal server that `errata up` starts listens.',
  },
  'temporal.retentionDays': {
    variable: 'ERRATA_TEMPORAL_RETENTION_DAYS',
    form: integer(1, 3_650),
    default: 365,
    meaning:
      'How many days the Temporal server that `errata up` starts remembers workflows that have ended. A given cluster has its own retention; `errata doctor` shows it.',
  },
  'temporal.searchAttributes': {
    variable: 'ERRATA_TEMPORAL_SEARCH_ATTRIBUTES',
    form: flag,
    default: null,
    defaultWords: 'true; false where payload keys are set',
    meaning:
      'Whether workflows can be found in Temporal by lineage, version, outcome and correction ids. Search attributes are never encrypted.',
  },
  'temporal.pageUrl': {
    variable: 'ERRATA_TEMPORAL_PAGE_URL',
    form: url,
    default: null,
    defaultWords: 'the page of the server that `errata up` starts',
    meaning: "Temporal's web page, for links to histories.",
  },
  'temporal.uiPort': {
    variable: 'ERRATA_TEMPORAL_UI_PORT',
    form: port,
    default: 8233,
    meaning:
      'Where its web page listens; unless you set it, another free port is taken where this one is in use.',
  },
  archiveHistories: {
    variable: 'ERRATA_ARCHIVE_HISTORIES',
    form: flag,
    default: true,
    meaning:
      "Whether the histories of workflows that have ended are kept beside the versions, so that they outlive Temporal's retention.",
  },
  'registry.url': {
    variable: 'ERRATA_SCHEMA_REGISTRY_URL',
    form: urlWithoutUser,
    default: null,
    defaultWords: "none: records carry Avro's single-object head",
    meaning:
      "A schema registry with Confluent's API (for Apicurio with its path `/apis/ccompat/v7`): its wire format and its compatibility hold. docs/schemas.md says more.",
  },
  'registry.username': {
    variable: 'ERRATA_SCHEMA_REGISTRY_USERNAME',
    form: text,
    default: null,
    meaning: 'The user that the registry knows (HTTP basic authentication).',
  },
  'registry.password': {
    variable: 'ERRATA_SCHEMA_REGISTRY_PASSWORD',
    form: secret,
    default: null,
    meaning: 'The password of that.',
  },
  'registry.ca': {
    variable: 'ERRATA_SCHEMA_REGISTRY_CA',
    form: filePath,
    default: null,
    defaultWords: "Node's own list",
    meaning: "The authority that signed the registry's certificate, PEM.",
  },
  'serve.host': {
    variable: 'ERRATA_HOST',
    form: text,
    default: '127.0.0.1',
    meaning:
      'The address that `serve` binds. One that other machines reach (`0.0.0.0`) is refused where no tokens are asked for.',
  },
  'serve.port': {
    variable: 'ERRATA_PORT',
    form: port,
    default: 8080,
    meaning:
      'The port of `serve`; unless you set it, `errata up` takes another free one where this one is in use.',
  },
  'serve.url': {
    variable: 'ERRATA_SERVE_URL',
    form: url,
    default: null,
    defaultWords: 'the one that `errata up` runs',
    meaning: 'Where `errata ask` finds a `serve`.',
  },
  'serve.tokens': {
    variable: 'ERRATA_TOKENS',
    form: filePath,
    default: null,
    defaultWords: '`tokens.json` in the data folder',
    meaning:
      'The file of the tokens that `serve` asks for (docs/access.md); `errata token create` writes it. Where there is none, nobody is asked who they are.',
  },
  'serve.open': {
    variable: 'ERRATA_HTTP_OPEN',
    form: flag,
    default: false,
    meaning:
      'Says that something in front of `serve` knows the users: without tokens it then may bind any address and answers to any host name. Tokens are asked for all the same where there are some.',
  },
  'serve.token': {
    variable: 'ERRATA_TOKEN',
    form: secret,
    default: null,
    meaning: 'The token that commands show to `serve`.',
  },
  'alert.url': {
    variable: 'ERRATA_ALERT_URL',
    form: secretUrl,
    default: null,
    defaultWords: 'none: nobody is told',
    meaning:
      'The webhook to which the workflow worker posts that a batch failed or was given up, or that a lineage froze (docs/operating.md). It is told to no other process and does not pass Temporal.',
  },
  'alert.secret': {
    variable: 'ERRATA_ALERT_SECRET',
    form: secret,
    default: null,
    defaultWords: 'none: alerts are not signed',
    meaning: 'With which alerts are signed: `x-errata-signature: sha256=<HMAC of the body>`.',
  },
  logLevel: {
    variable: 'ERRATA_LOG_LEVEL',
    form: choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
    meaning:
      'The least level that is logged. Prompts and targets are logged at `debug` and below only.',
  },
  keyStatisticsText: {
    variable: 'ERRATA_KEY_STATISTICS_TEXT',
    form: filePath,
    default: null,
    defaultWords: "the model's own samples",
    meaning: 'Ordinary text (UTF-8) from which the key statistics are taken.',
  },
  parameterSet: {
    variable: 'ERRATA_PARAMETER_SET',
    form: filePath,
    default: null,
    defaultWords: "the project's set for the model, else its general rule",
    meaning:
      'A file with hyper-parameters for this model, as `errata tune` writes it; refused for a model of another shape.',
  },
  hyperParameters: {
    variable: 'ERRATA_HYPER_PARAMETERS',
    form: json,
    default: {},
    defaultWords: "the model's own set",
    meaning:
      'Laid over the hyper-parameters of the editor and those of the set; what was used is stored in each version.',
  },
};

const { batch, verdict, failures } = DEFAULT_LINEAGE_SETTINGS;

/**
 * Settings of a lineage; `ERRATA_X` holds for all, `ERRATA_<LINEAGE>_X` for one. In the file: at
 * the top for all, under `lineage.<name>` for one.
 */
export const LINEAGE_SETTINGS: Record<string, Setting> = {
  'batch.batchEditsMax': {
    variable: 'ERRATA_BATCH_EDITS_MAX',
    form: integer(1, 10_000),
    default: batch.batchEditsMax,
    meaning: 'A batch starts when so many corrections wait.',
  },
  'batch.batchWaitMs': {
    variable: 'ERRATA_BATCH_WAIT_MS',
    form: integer(0, 86_400_000),
    default: batch.batchWaitMs,
    meaning: 'Or when the oldest has waited so long, in milliseconds.',
  },
  'batch.bufferEditsMax': {
    variable: 'ERRATA_BUFFER_EDITS_MAX',
    form: integer(1, 100_000),
    default: batch.bufferEditsMax,
    meaning: 'Corrections that may wait; past it ingest pauses.',
  },
  'batch.bufferBytesMax': {
    variable: 'ERRATA_BUFFER_BYTES_MAX',
    form: integer(65_536, 1_500_000),
    default: batch.bufferBytesMax,
    meaning: "Bytes that may wait; below Temporal's bound on one payload.",
  },
  'batch.shardEditsMax': {
    variable: 'ERRATA_SHARD_EDITS_MAX',
    form: integer(1, 10_000),
    default: batch.shardEditsMax,
    meaning: 'Corrections whose targets one activity computes.',
  },
  'verdict.requireEffective': {
    variable: 'ERRATA_REQUIRE_EFFECTIVE',
    form: flag,
    default: verdict.requireEffective,
    meaning:
      'A correction that the edited model does not give as its answer is quarantined, and one that takes away the answer of an earlier one about its subject.',
  },
  'verdict.generalisationMin': {
    variable: 'ERRATA_GENERALISATION_MIN',
    form: share,
    default: verdict.generalisationMin,
    meaning: 'Least share of paraphrases that hold.',
  },
  'verdict.localityMin': {
    variable: 'ERRATA_LOCALITY_MIN',
    form: share,
    default: verdict.localityMin,
    meaning: 'Least share of neighbourhood prompts whose answer stays.',
  },
  'verdict.retentionMin': {
    variable: 'ERRATA_RETENTION_MIN',
    form: share,
    default: verdict.retentionMin,
    meaning: 'Least share of earlier corrections that still hold.',
  },
  'verdict.canaryRatioMax': {
    variable: 'ERRATA_CANARY_RATIO_MAX',
    form: decimal(1, 100),
    default: verdict.canaryRatioMax,
    meaning: "Most that perplexity on ordinary text may be of the base model's.",
  },
  'verdict.editNormMax': {
    variable: 'ERRATA_EDIT_NORM_MAX',
    form: decimal(0, 1_000),
    default: verdict.editNormMax,
    meaning: 'Most that |W_h - W0| / |W0| may be in any layer, in the map of any subject.',
  },
  'verdict.retentionSample': {
    variable: 'ERRATA_RETENTION_SAMPLE',
    form: integer(0, 10_000),
    default: verdict.retentionSample,
    meaning: 'Earlier corrections that are asked again per batch.',
  },
  'failures.batchAttemptsMax': {
    variable: 'ERRATA_BATCH_ATTEMPTS_MAX',
    form: integer(1, 100),
    default: failures.batchAttemptsMax,
    meaning:
      "How often a batch's workflow is tried that fails, which is not for want of Kafka, Temporal, a store or a worker: those are waited for.",
  },
  'failures.retryWaitMs': {
    variable: 'ERRATA_BATCH_RETRY_WAIT_MS',
    form: integer(100, 86_400_000),
    default: failures.retryWaitMs,
    meaning:
      'The wait before the second try, in milliseconds; before the third twice that, and so on.',
  },
  'failures.editAttemptsMax': {
    variable: 'ERRATA_EDIT_ATTEMPTS_MAX',
    form: integer(0, 10_000),
    default: failures.editAttemptsMax,
    meaning:
      'How often a batch that fails its verdict, and the halves of it, may be staged and probed; what is undecided then is quarantined together. 0 or 1: it is not halved.',
  },
  'failures.whenUsedUp': {
    variable: 'ERRATA_WHEN_TRIES_ARE_USED_UP',
    form: choice('freeze', 'quarantine'),
    default: failures.whenUsedUp,
    meaning:
      'What happens to a batch whose tries are used up: it is kept and the lineage `freeze`s until `errata resume`, or its revisions are put into `quarantine` with the cause and the lineage goes on.',
  },
  'failures.quarantinedMax': {
    variable: 'ERRATA_FREEZE_PAST_QUARANTINED',
    form: integer(0, 10_000),
    default: failures.quarantinedMax,
    meaning:
      'The lineage freezes after a batch of which more corrections were quarantined; 0: never.',
  },
  'failures.alert': {
    variable: 'ERRATA_ALERT',
    form: flag,
    default: failures.alert,
    meaning:
      'Whether batches that failed or were given up, and a lineage that froze by itself, are told to `ERRATA_ALERT_URL`.',
  },
};
