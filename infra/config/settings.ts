/**
 * The settings of the installation as one table, by their path in errata.config.json: environment
 * variable, form, default and meaning. The reader, the types of the values and
 * docs/configuration.md follow it.
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
  /** How the reference describes the default, if not by its value. */
  defaultText?: string;
}

export type SettingPath = keyof typeof SETTINGS;

/** The values of all settings of the installation. */
export type SettingValues = {
  [Path in SettingPath]: (typeof SETTINGS)[Path] extends Setting<infer T> ? T : never;
};

export function setting<T>(
  variable: string,
  form: Form<T>,
  [fallback, defaultText]: [NoInfer<T>, defaultText?: string],
  meaning: string,
): Setting<T> {
  const described = defaultText === undefined ? {} : { defaultText };
  return { variable, form, default: fallback, meaning: meaning.replace(/\s+/g, ' '), ...described };
}

/** A setting that is null unless it is given. */
function optional<T>(
  variable: string,
  form: Form<T>,
  meaning: string,
  defaultText = 'none',
): Setting<T | null> {
  return setting<T | null>(variable, form, [null, defaultText], meaning);
}

const NODE_AUTHORITIES = "Node's own list";
const authority = (variable: string, of: string, defaultText = NODE_AUTHORITIES) =>
  optional(variable, filePath, `The authority that signed ${of}, PEM.`, defaultText);

/** Settings of the installation. */
export const SETTINGS = {
  home: optional(
    'ERRATA_HOME',
    folderPath,
    'The data folder: installed programs, Kafka and Temporal data, models, versions, logs.',
    '`.errata` in the project',
  ),
  versions: optional(
    'ERRATA_VERSIONS',
    versionsPlace,
    `Where the version log is: a folder, or an existing bucket on an S3-compatible server. Back
     this up.`,
    '`versions` in the data folder',
  ),
  's3.endpoint': optional(
    'ERRATA_S3_ENDPOINT',
    urlWithoutUser,
    `The S3-compatible server. It must honour \`If-None-Match: *\` on puts, which is tested before
     the first one.`,
    "Amazon's endpoint of the region",
  ),
  's3.region': optional(
    'ERRATA_S3_REGION',
    text,
    "The bucket's region.",
    "`us-east-1` with an endpoint, else the SDK's own (`AWS_REGION`, a profile)",
  ),
  's3.pathStyle': optional(
    'ERRATA_S3_PATH_STYLE',
    flag,
    'Whether the bucket is named in the path instead of the host name.',
    '`true` with an endpoint, else `false`',
  ),
  's3.accessKeyId': optional(
    'ERRATA_S3_ACCESS_KEY_ID',
    text,
    'The id of the access key to the bucket; docs/security.md lists the rights that it needs.',
    "the SDK's own (`AWS_ACCESS_KEY_ID`, a profile, the machine's role)",
  ),
  's3.secretAccessKey': optional('ERRATA_S3_SECRET_ACCESS_KEY', secret, 'The secret of that key.'),
  's3.ca': authority('ERRATA_S3_CA', "the server's certificate"),
  device: setting(
    'ERRATA_DEVICE',
    choice('cpu', 'gpu'),
    ['cpu'],
    "Which TensorFlow is installed and loaded. `gpu` is TensorFlow's CUDA build.",
  ),
  model: optional(
    'ERRATA_MODEL',
    modelName,
    `The model to edit: a \`.gguf\` file, a folder in the Hugging Face layout, or a Hugging Face id
     (\`owner/name\`), which is downloaded.`,
    'the embedded SmolLM2-135M-Instruct',
  ),
  hubToken: optional(
    'ERRATA_HUB_TOKEN',
    secret,
    'The Hugging Face access token, for models that need one.',
  ),
  lineages: setting(
    'ERRATA_LINEAGES',
    names,
    [['default']],
    'The lineages. Each has its own topics, workflow, edit queue and version log.',
  ),
  'kafka.brokers': optional(
    'ERRATA_KAFKA_BROKERS',
    addresses,
    'The Kafka cluster.',
    'a broker that `errata up` starts',
  ),
  'kafka.clientId': setting('ERRATA_KAFKA_CLIENT_ID', text, ['errata'], 'The client id for Kafka.'),
  'kafka.ssl.enabled': setting(
    'ERRATA_KAFKA_SSL',
    flag,
    [false],
    'Whether to use TLS to the brokers; any of the three files below enables it as well.',
  ),
  'kafka.ssl.ca': authority('ERRATA_KAFKA_SSL_CA', "the brokers' certificates"),
  'kafka.ssl.certificate': optional(
    'ERRATA_KAFKA_SSL_CERTIFICATE',
    filePath,
    "The client's certificate, PEM.",
  ),
  'kafka.ssl.key': optional('ERRATA_KAFKA_SSL_KEY', filePath, "The client's key, PEM."),
  'kafka.sasl.mechanism': optional(
    'ERRATA_KAFKA_SASL_MECHANISM',
    choice('plain', 'scram-sha-256', 'scram-sha-512'),
    'How the client authenticates to the brokers.',
  ),
  'kafka.sasl.username': optional('ERRATA_KAFKA_SASL_USERNAME', text, 'The SASL user.'),
  'kafka.sasl.password': optional('ERRATA_KAFKA_SASL_PASSWORD', secret, 'The SASL password.'),
  'kafka.partitions': setting(
    'ERRATA_KAFKA_PARTITIONS',
    integer(1, 1_000),
    [3],
    'The partitions of topics that Errata creates.',
  ),
  'kafka.replicationFactor': setting(
    'ERRATA_KAFKA_REPLICATION_FACTOR',
    integer(1, 10),
    [1],
    'The replicas of topics that Errata creates; use 3 on a cluster.',
  ),
  'kafka.port': setting(
    'ERRATA_KAFKA_PORT',
    port,
    [9092],
    `The port of the broker that \`errata up\` starts. The default may be replaced by a free port;
     a port that you set may not.`,
  ),
  'temporal.address': optional(
    'ERRATA_TEMPORAL_ADDRESS',
    address,
    "Temporal's front end.",
    'a server that `errata up` starts',
  ),
  'temporal.namespace': setting('ERRATA_TEMPORAL_NAMESPACE', text, ['errata'], 'The namespace.'),
  'temporal.tls.enabled': setting(
    'ERRATA_TEMPORAL_TLS',
    flag,
    [false],
    'Whether to use TLS to Temporal; any of the settings below enables it as well.',
  ),
  'temporal.tls.ca': authority('ERRATA_TEMPORAL_TLS_CA', "the server's certificate", 'none'),
  'temporal.tls.certificate': optional(
    'ERRATA_TEMPORAL_TLS_CERTIFICATE',
    filePath,
    "The client's certificate (mTLS), PEM.",
  ),
  'temporal.tls.key': optional('ERRATA_TEMPORAL_TLS_KEY', filePath, "The client's key, PEM."),
  'temporal.tls.serverName': optional(
    'ERRATA_TEMPORAL_TLS_SERVER_NAME',
    text,
    "The name in the server's certificate, if it is not the address.",
  ),
  'temporal.apiKey': optional('ERRATA_TEMPORAL_API_KEY', secret, 'The API key; enables TLS.'),
  'temporal.payloadKeys': optional(
    'ERRATA_TEMPORAL_PAYLOAD_KEYS',
    payloadKeys,
    `Keys that encrypt the corrections in Temporal's payloads; use the same for all processes and
     commands. See docs/security.md.`,
    'none: Temporal stores corrections in plain text',
  ),
  'temporal.port': setting('ERRATA_TEMPORAL_PORT', port, [0], 'The port of the embedded server.'),
  'temporal.retentionDays': setting(
    'ERRATA_TEMPORAL_RETENTION_DAYS',
    integer(1, 3_650),
    [365],
    `For how many days the Temporal server that \`errata up\` starts keeps closed workflows. Your
     own cluster has its own retention; \`errata doctor\` shows it.`,
  ),
  'temporal.searchAttributes': optional(
    'ERRATA_TEMPORAL_SEARCH_ATTRIBUTES',
    flag,
    `Whether workflows can be found in Temporal by lineage, version, outcome and correction ids.
     Search attributes are never encrypted.`,
    'true, or false if payload keys are set',
  ),
  'temporal.pageUrl': optional(
    'ERRATA_TEMPORAL_PAGE_URL',
    url,
    "Temporal's web page, for links to histories.",
    'the page of the server that `errata up` starts',
  ),
  'temporal.uiPort': setting(
    'ERRATA_TEMPORAL_UI_PORT',
    port,
    [8233],
    `The port of the web page of the server that \`errata up\` starts. The default may be replaced
     by a free port; a port that you set may not.`,
  ),
  archiveHistories: setting(
    'ERRATA_ARCHIVE_HISTORIES',
    flag,
    [true],
    `Whether the histories of closed workflows are archived beside the versions, so that they
     outlive Temporal's retention.`,
  ),
  'registry.url': optional(
    'ERRATA_SCHEMA_REGISTRY_URL',
    urlWithoutUser,
    `A schema registry with Confluent's API (for Apicurio, with its path \`/apis/ccompat/v7\`). Its
     wire format and compatibility rules then apply. See docs/schemas.md.`,
    "none: records carry Avro's single-object header",
  ),
  'registry.username': optional(
    'ERRATA_SCHEMA_REGISTRY_USERNAME',
    text,
    "The registry's user (HTTP basic authentication).",
  ),
  'registry.password': optional('ERRATA_SCHEMA_REGISTRY_PASSWORD', secret, "That user's password."),
  'registry.ca': authority('ERRATA_SCHEMA_REGISTRY_CA', "the registry's certificate"),
  'serve.host': setting(
    'ERRATA_HOST',
    text,
    ['127.0.0.1'],
    `The address that \`serve\` binds. Without tokens, an address that other machines can reach
     (\`0.0.0.0\`) is refused.`,
  ),
  'serve.port': setting(
    'ERRATA_PORT',
    port,
    [8080],
    `The port of \`serve\`. \`errata up\` may replace the default by a free port, but not a port
     that you set.`,
  ),
  'serve.url': optional(
    'ERRATA_SERVE_URL',
    url,
    'The address of the `serve` that `errata ask` uses.',
    'the one that `errata up` runs',
  ),
  'serve.tokens': optional(
    'ERRATA_TOKENS',
    filePath,
    `The file of the tokens that \`serve\` accepts (docs/access.md); \`errata token create\` writes
     it. Without the file, requests need no token.`,
    '`tokens.json` in the data folder',
  ),
  'serve.open': setting(
    'ERRATA_HTTP_OPEN',
    flag,
    [false],
    `Whether a proxy in front of \`serve\` authenticates the users. \`serve\` may then bind any
     address without tokens, and answers to any host name. If there are tokens, requests still need
     one.`,
  ),
  'serve.token': optional('ERRATA_TOKEN', secret, 'The token that commands present to `serve`.'),
  'alert.url': optional(
    'ERRATA_ALERT_URL',
    secretUrl,
    `The webhook to which the workflow worker posts when a batch failed or was given up, or a
     lineage froze (docs/operating.md). No other process receives it, and it does not pass through
     Temporal.`,
    'none: no alerts',
  ),
  'alert.secret': optional(
    'ERRATA_ALERT_SECRET',
    secret,
    'The key that signs alerts: `x-errata-signature: sha256=<HMAC of the body>`.',
    'none: alerts are not signed',
  ),
  logLevel: setting(
    'ERRATA_LOG_LEVEL',
    choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    ['info'],
    'The lowest level that is logged. Prompts and targets are logged at `debug` and below only.',
  ),
  keyStatisticsText: optional(
    'ERRATA_KEY_STATISTICS_TEXT',
    filePath,
    'Ordinary text (UTF-8) for the key statistics.',
    "the model's own samples",
  ),
  parameterSet: optional(
    'ERRATA_PARAMETER_SET',
    parameterSetFile,
    `A file with hyper-parameters for this model, from \`errata tune\`; a model of another shape
     refuses it.`,
    "the project's set for the model, else its general rule",
  ),
  hyperParameters: setting(
    'ERRATA_HYPER_PARAMETERS',
    hyperParameters,
    [{}, "the model's own set"],
    `Hyper-parameters that override those of the parameter set. Each version stores the ones that
     made it.`,
  ),
};
