/**
 * All settings of the installation in one table, by their path in errata.config.json: environment
 * variable, form, default and meaning. The reader, the value types and docs/configuration.md are
 * derived from it.
 */
import {
  address,
  addresses,
  choice,
  filePath,
  flag,
  folderPath,
  hyperParameters,
  integer,
  modelName,
  names,
  parameterSetFile,
  payloadKeys,
  port,
  secret,
  secretUrl,
  text,
  url,
  urlWithoutUser,
  versionsPlace,
  type Form,
} from './setting-forms.ts';

export interface Setting<T> {
  variable: string;
  form: Form<unknown>;
  default: T;
  meaning: string;
  /** The default as described in the reference, if not by its value. */
  defaultText?: string;
}

type Row<T> = Omit<Setting<T>, 'variable'>;
export type SettingPath = keyof typeof TABLE;

export type SettingValues = {
  [Path in SettingPath]: (typeof TABLE)[Path] extends Row<infer T> ? T : never;
};

/** Returns a setting's variable: `ERRATA_S3_CA` for `s3.ca`, unless the table names another one. */
export function variableOf(path: string, otherNames: Record<string, string>): string {
  const words = path.replaceAll('.', '_').replaceAll(/([a-z])([A-Z])/g, '$1_$2');
  return otherNames[path] ?? `ERRATA_${words.toUpperCase()}`;
}

function setting<T>(
  form: Form<T>,
  fallback: NoInfer<T>,
  meaning: string,
  defaultText?: string,
): Row<T> {
  const described = defaultText === undefined ? {} : { defaultText };
  return { form, default: fallback, meaning: meaning.replace(/\s+/g, ' '), ...described };
}

/** Makes a setting that defaults to null. */
function optional<T>(form: Form<T>, meaning: string, defaultText = 'none'): Row<T | null> {
  return setting<T | null>(form, null, meaning, defaultText);
}

const authority = (of: string, defaultText = "Node's own list") =>
  optional(filePath, `The authority that signed ${of}, PEM.`, defaultText);

const TABLE = {
  home: optional(
    folderPath,
    'The data folder: installed programs, Kafka and Temporal data, models, versions, logs.',
    '`.errata` in the project',
  ),
  versions: optional(
    versionsPlace,
    `Where the version log is: a folder, or an existing bucket on an S3-compatible server. Back
     this up.`,
    '`versions` in the data folder',
  ),
  's3.endpoint': optional(
    urlWithoutUser,
    `The S3-compatible server. It must honour \`If-None-Match: *\` on puts, which is tested before
     the first one.`,
    "Amazon's endpoint of the region",
  ),
  's3.region': optional(
    text,
    "The bucket's region.",
    "`us-east-1` with an endpoint, else the SDK's own (`AWS_REGION`, a profile)",
  ),
  's3.pathStyle': optional(
    flag,
    'Whether the bucket is named in the path instead of the host name.',
    '`true` with an endpoint, else `false`',
  ),
  's3.accessKeyId': optional(
    text,
    'The id of the access key to the bucket; docs/security.md lists the rights that it needs.',
    "the SDK's own (`AWS_ACCESS_KEY_ID`, a profile, the machine's role)",
  ),
  's3.secretAccessKey': optional(secret, 'The secret of that key.'),
  's3.ca': authority("the server's certificate"),
  device: setting(
    choice('cpu', 'gpu'),
    'cpu',
    "Which TensorFlow is installed and loaded. `gpu` is TensorFlow's CUDA build.",
  ),
  model: optional(
    modelName,
    `The model to edit: a \`.gguf\` file, a folder in the Hugging Face layout, or a Hugging Face id
     (\`owner/name\`), which is downloaded.`,
    'the embedded SmolLM2-135M-Instruct',
  ),
  hubToken: optional(secret, 'The Hugging Face access token, for models that need one.'),
  lineages: setting(
    names,
    ['default'],
    'The lineages. Each has its own topics, workflow, edit queue and version log.',
  ),
  'kafka.brokers': optional(addresses, 'The Kafka cluster.', 'a broker that `errata up` starts'),
  'kafka.clientId': setting(text, 'errata', 'The client id for Kafka.'),
  'kafka.ssl.enabled': setting(
    flag,
    false,
    'Whether to use TLS to the brokers; any of the three files below enables it as well.',
  ),
  'kafka.ssl.ca': authority("the brokers' certificates"),
  'kafka.ssl.certificate': optional(filePath, "The client's certificate, PEM."),
  'kafka.ssl.key': optional(filePath, "The client's key, PEM."),
  'kafka.sasl.mechanism': optional(
    choice('plain', 'scram-sha-256', 'scram-sha-512'),
    'How the client authenticates to the brokers.',
  ),
  'kafka.sasl.username': optional(text, 'The SASL user.'),
  'kafka.sasl.password': optional(secret, 'The SASL password.'),
  'kafka.partitions': setting(
    integer(1, 1_000),
    3,
    'The partitions of topics that Errata creates.',
  ),
  'kafka.replicationFactor': setting(
    integer(1, 10),
    1,
    'The replicas of topics that Errata creates; use 3 on a cluster.',
  ),
  'kafka.port': setting(
    port,
    9092,
    `The port of the broker that \`errata up\` starts. The default may be replaced by a free port;
     a port that you set may not.`,
  ),
  'temporal.address': optional(
    address,
    "Temporal's front end.",
    'a server that `errata up` starts',
  ),
  'temporal.namespace': setting(text, 'errata', 'The namespace.'),
  'temporal.tls.enabled': setting(
    flag,
    false,
    'Whether to use TLS to Temporal; any of the settings below enables it as well.',
  ),
  'temporal.tls.ca': authority("the server's certificate", 'none'),
  'temporal.tls.certificate': optional(filePath, "The client's certificate (mTLS), PEM."),
  'temporal.tls.key': optional(filePath, "The client's key, PEM."),
  'temporal.tls.serverName': optional(
    text,
    "The name in the server's certificate, if it is not the address.",
  ),
  'temporal.apiKey': optional(secret, 'The API key; enables TLS.'),
  'temporal.payloadKeys': optional(
    payloadKeys,
    `Keys that encrypt the corrections in Temporal's payloads; use the same for all processes and
     commands. See docs/security.md.`,
    'none: Temporal stores corrections in plain text',
  ),
  'temporal.port': setting(port, 0, 'The port of the embedded server.'),
  'temporal.retentionDays': setting(
    integer(1, 3_650),
    365,
    `For how many days the Temporal server that \`errata up\` starts keeps closed workflows. Your
     own cluster has its own retention; \`errata doctor\` shows it.`,
  ),
  'temporal.searchAttributes': optional(
    flag,
    `Whether workflows can be found in Temporal by lineage, version, outcome and correction ids.
     Search attributes are never encrypted.`,
    'true, or false if payload keys are set',
  ),
  'temporal.pageUrl': optional(
    url,
    "Temporal's web page, for links to histories.",
    'the page of the server that `errata up` starts',
  ),
  'temporal.uiPort': setting(
    port,
    8233,
    `The port of the web page of the server that \`errata up\` starts. The default may be replaced
     by a free port; a port that you set may not.`,
  ),
  archiveHistories: setting(
    flag,
    true,
    `Whether the histories of closed workflows are archived beside the versions, so that they
     outlive Temporal's retention.`,
  ),
  'registry.url': optional(
    urlWithoutUser,
    `A schema registry with Confluent's API (for Apicurio, with its path \`/apis/ccompat/v7\`). Its
     wire format and compatibility rules then apply. See docs/schemas.md.`,
    "none: records carry Avro's single-object header",
  ),
  'registry.username': optional(text, "The registry's user (HTTP basic authentication)."),
  'registry.password': optional(secret, "That user's password."),
  'registry.ca': authority("the registry's certificate"),
  'serve.host': setting(
    text,
    '127.0.0.1',
    `The address that \`serve\` binds. Without tokens, an address that other machines can reach
     (\`0.0.0.0\`) is refused.`,
  ),
  'serve.port': setting(
    port,
    8080,
    `The port of \`serve\`. \`errata up\` may replace the default by a free port, but not a port
     that you set.`,
  ),
  'serve.url': optional(
    url,
    'The address of the `serve` that `errata ask` uses.',
    'the one that `errata up` runs',
  ),
  'serve.tokens': optional(
    filePath,
    `The file of the tokens that \`serve\` accepts (docs/access.md); \`errata token create\` writes
     it. Without the file, requests need no token.`,
    '`tokens.json` in the data folder',
  ),
  'serve.open': setting(
    flag,
    false,
    `Whether a proxy in front of \`serve\` authenticates the users. \`serve\` may then bind any
     address without tokens, and answers to any host name. If there are tokens, requests still need
     one.`,
  ),
  'serve.token': optional(secret, 'The token that commands present to `serve`.'),
  'alert.url': optional(
    secretUrl,
    `The webhook to which the workflow worker posts when a batch failed or was given up, or a
     lineage froze (docs/operating.md). No other process receives it, and it does not pass through
     Temporal.`,
    'none: no alerts',
  ),
  'alert.secret': optional(
    secret,
    'The key that signs alerts: `x-errata-signature: sha256=<HMAC of the body>`.',
    'none: alerts are not signed',
  ),
  logLevel: setting(
    choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    'info',
    'The lowest level that is logged. Prompts and targets are logged at `debug` and below only.',
  ),
  keyStatisticsText: optional(
    filePath,
    'Ordinary text (UTF-8) for the key statistics.',
    "the model's own samples",
  ),
  parameterSet: optional(
    parameterSetFile,
    `A file with hyper-parameters for this model, from \`errata tune\`; a model of another shape
     refuses it.`,
    "the project's set for the model, else its general rule",
  ),
  hyperParameters: setting(
    hyperParameters,
    {},
    `Hyper-parameters that override those of the parameter set. Each version stores the ones that
     made it.`,
    "the model's own set",
  ),
};

const OTHER_NAMES: Partial<Record<SettingPath, string>> = {
  'kafka.ssl.enabled': 'ERRATA_KAFKA_SSL',
  'temporal.tls.enabled': 'ERRATA_TEMPORAL_TLS',
  'registry.url': 'ERRATA_SCHEMA_REGISTRY_URL',
  'registry.username': 'ERRATA_SCHEMA_REGISTRY_USERNAME',
  'registry.password': 'ERRATA_SCHEMA_REGISTRY_PASSWORD',
  'registry.ca': 'ERRATA_SCHEMA_REGISTRY_CA',
  'serve.host': 'ERRATA_HOST',
  'serve.port': 'ERRATA_PORT',
  'serve.tokens': 'ERRATA_TOKENS',
  'serve.open': 'ERRATA_HTTP_OPEN',
  'serve.token': 'ERRATA_TOKEN',
};

export const SETTINGS = Object.fromEntries(
  Object.entries(TABLE).map(([path, row]) => [
    path,
    { variable: variableOf(path, OTHER_NAMES), ...row },
  ]),
) as { [Path in SettingPath]: Setting<SettingValues[Path]> };
