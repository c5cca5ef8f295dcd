/**
 * Explains why Kafka or Temporal refuses a connection, by the settings that fix it. The clients'
 * errors use the terms of OpenSSL, rustls, gRPC and SASL; none of those texts holds a secret.
 */
import { ErrataFailure } from '../schemas/failures.ts';

export interface Channel {
  to: 'Kafka' | 'Temporal';
  tls: boolean;
  /** A client certificate is used. */
  certificate: boolean;
  /** A user (SASL) or an API key is used. */
  credential: boolean;
}

/** The other end refuses this client, or this client does not trust it: a setting is wrong. */
export class ChannelRefused extends ErrataFailure {
  override readonly name = 'ChannelRefused';
}

/**
 * Returns the refusal that a client's error indicates, or null. `sure`: only if it cannot be an
 * outage, so that a retry is useless.
 */
export function refusalOf(
  error: unknown,
  channel: Channel,
  sure: 'sure' | 'likely' = 'likely',
): ChannelRefused | null {
  const met = textOf(error);
  const rule = RULES.find(
    ({ sign, likely }) => (likely !== true || sure === 'likely') && sign.test(met),
  );
  const told = rule?.tell(channel, SETTINGS[channel.to]);
  return told === undefined || told === null
    ? null
    : new ChannelRefused(
        `${told[0]} (${inShort(error)})`,
        { to: channel.to, met: inShort(error) },
        told[1],
        { cause: error },
      );
}

/**
 * Shortens a client's error to one line that depends only on the cause: without times, memory
 * addresses and lines of code.
 */
export function inShort(error: unknown): string {
  const messages = chainOf(error).map(({ message }) => message);
  // The last error of the chain has the cause; the others only say what was requested.
  const text = messages.at(-1) ?? String(error);
  return text
    .replace(/(\w+:)?error:\w+:[^:]*:[^:]*:([^:\n]*)[^\n]*/g, '$2')
    .replace(/^Connection error: /, '')
    .replace(/^.*Last error: (Error( \[\w+\])?: )?/s, '')
    .replace(/\s*(\(\d{4}-\d\d-\d\dT[\d:.]+Z\))?\.?\s*Resolution note:.*$/s, '')
    .trim()
    .slice(0, SHORT_CHARACTERS_MAX);
}

const SHORT_CHARACTERS_MAX = 400;

interface Settings {
  address: string;
  tls: string;
  authority: string;
  pair: string;
  credential: string;
  credentialWords: string;
  name: string;
}

const SETTINGS: Record<Channel['to'], Settings> = {
  Kafka: {
    address: 'ERRATA_KAFKA_BROKERS',
    tls: 'ERRATA_KAFKA_SSL',
    authority: 'ERRATA_KAFKA_SSL_CA',
    pair: 'ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY',
    credential:
      'ERRATA_KAFKA_SASL_MECHANISM, ERRATA_KAFKA_SASL_USERNAME and ERRATA_KAFKA_SASL_PASSWORD',
    credentialWords: 'the user and password',
    name:
      "ERRATA_KAFKA_BROKERS, and the brokers' advertised.listeners, must name them as " +
      'their certificate does.',
  },
  Temporal: {
    address: 'ERRATA_TEMPORAL_ADDRESS',
    tls: 'ERRATA_TEMPORAL_TLS',
    authority: 'ERRATA_TEMPORAL_TLS_CA',
    pair: 'ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY',
    credential: 'ERRATA_TEMPORAL_API_KEY',
    credentialWords: 'the API key',
    name:
      'Set ERRATA_TEMPORAL_TLS_SERVER_NAME to the name in its certificate, ' +
      'or use that name in ERRATA_TEMPORAL_ADDRESS.',
  },
};

interface Rule {
  sign: RegExp;
  /** An outage may look the same. */
  likely?: true;
  /** Returns the problem and the fix; null where the sign means something else here. */
  tell(channel: Channel, settings: Settings): readonly [string, string] | null;
}

/** The first match applies. */
const RULES: readonly Rule[] = [
  {
    sign: /KafkaJSSASLAuthenticationError|SASL \S+ mechanism is not supported|UNAUTHENTICATED|valid authentication credentials/,
    tell: ({ to, credential }, settings) =>
      credential
        ? [
            `${to} does not take ${settings.credentialWords}`,
            `Look at ${settings.credential} (or its file, with _FILE behind the name).`,
          ]
        : [`${to} asks for ${settings.credentialWords}`, `Set ${settings.credential}.`],
  },
  {
    sign: /current SASL state/,
    tell: ({ to }, { address, credential }) => [
      `${to} expects no user there`,
      `Look at the port in ${address}, or unset ${credential}.`,
    ],
  },
  {
    sign: /alert (bad certificate|certificate (required|unknown|revoked|expired)|unsupported certificate|unknown ca)|fatal alert: (Bad|Unsupported)?Certificate|fatal alert: UnknownCA/i,
    tell: ({ to, certificate }, { pair }) =>
      certificate
        ? [
            `${to} does not take this client's certificate`,
            `Look at ${pair}: is it valid, and of an authority that the other end knows?`,
          ]
        : [`${to} asks for a client certificate`, `Set ${pair}.`],
  },
  {
    sign: /key values mismatch|KeyMismatch|InconsistentKeys|no start line|PEM routines|PrivateKeyParseError|CertificateParseError/,
    tell: ({ to }, { pair }) => [
      `the client certificate or its key for ${to} cannot be used`,
      `Look at ${pair}: PEM files, the key without a password, and of this certificate.`,
    ],
  },
  {
    sign: /self[- ]signed certificate|unable to verify|unable to get (local )?issuer|UnknownIssuer|certificate not trusted|BadSignature|certificate signature failure/,
    tell: ({ to }, { authority }) => [
      `${to}'s certificate is of an authority that is not known here`,
      `${authority} must name the PEM file of that authority.`,
    ],
  },
  {
    sign: /ERR_TLS_CERT_ALTNAME_INVALID|NotValidForName/,
    tell: ({ to }, { name }) => [`${to}'s certificate is for another name`, name],
  },
  {
    sign: /certificate has expired|CERT_HAS_EXPIRED|certificate is not yet valid|CERT_NOT_YET_VALID|InvalidCertificate\((Expired|NotValidYet)/,
    tell: ({ to }) => [
      `${to}'s certificate is not valid at this time`,
      "Renew it there, or look at this machine's clock.",
    ],
  },
  {
    sign: /wrong version number|InvalidContentType|packet length too long/,
    tell: ({ to }, { address, tls }) => [
      `${to} does not speak TLS there`,
      `Look at the port in ${address}, or switch ${tls} off.`,
    ],
  },
  {
    sign: /disconnected before secure TLS|UnexpectedEof|close_notify/,
    likely: true,
    tell: ({ to, certificate }, { address, pair }) => [
      `${to} breaks the TLS handshake off`,
      `Does it speak TLS at ${address}? Does it ${certificate ? 'take' : 'ask for'} ${pair}?`,
    ],
  },
  {
    // To rustls a rejected certificate looks like this when the reset overtakes the alert.
    sign: /ConnectionReset|"connection closed"/,
    likely: true,
    tell: ({ to, tls, certificate }, { pair, tls: setting }) => [
      `${to} closes the connection`,
      tls
        ? certificate
          ? `Does it take ${pair}?`
          : `Does it ask for ${pair}?`
        : `Does it ask for TLS (${setting})?`,
    ],
  },
  {
    sign: /Closed connection|broken pipe|Last error: Failed to connect/,
    likely: true,
    tell: ({ to, tls, certificate, credential }, settings) => {
      if (tls && credential) return null;
      const pair = certificate ? `Does it take ${settings.pair}?` : `Or for ${settings.pair}?`;
      const missing = tls
        ? `${settings.credentialWords} (${settings.credential})? ${pair}`
        : `TLS (${settings.tls})?`;
      return [`${to} closes the connection`, `Does it ask for ${missing}`];
    },
  },
];

function textOf(error: unknown): string {
  return chainOf(error)
    .map(({ name, code, message }) => `${name} ${code ?? ''} ${message}`)
    .join('\n');
}

function chainOf(error: unknown): (Error & { code?: string | number })[] {
  const chain: Error[] = [];
  for (let at = error; at instanceof Error && !chain.includes(at); at = at.cause) chain.push(at);
  return chain;
}
