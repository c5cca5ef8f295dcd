/**
 * Explains refused connections to Kafka or Temporal by the settings that fix them. The clients'
 * errors use the terms of OpenSSL, rustls, gRPC and SASL; none of those texts holds a secret.
 */
import { ErrataFailure } from '../schemas/failures.ts';

export interface Channel {
  to: 'Kafka' | 'Temporal';
  tls: boolean;
  certificate: boolean;
  /** Whether a user (SASL) or an API key is used. */
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
    ({ sign, likely, of = {} }) =>
      (likely !== true || sure === 'likely') &&
      sign.test(met) &&
      Object.entries(of).every(([name, value]) => channel[name as keyof Channel] === value),
  );
  if (rule === undefined) return null;
  const filled = (text: string) =>
    text.replace(/\{(\w+)\}/g, (_, name) => SETTINGS[channel.to][name as keyof Settings]);
  const facts = { to: channel.to, met: inShort(error) };
  const message = `${filled(rule.problem)} (${facts.met})`;
  return new ChannelRefused(message, facts, filled(rule.fix), { cause: error });
}

/**
 * Shortens a client's error to one line that depends only on the cause: without times, memory
 * addresses and lines of code.
 */
export function inShort(error: unknown): string {
  const messages = chainOf(error).map(({ message }) => message);
  // The last error of the chain has the cause; the others only name the request.
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

/** Settings that replace the names in braces in the rules' texts. */
const SETTINGS = {
  Kafka: {
    to: 'Kafka',
    address: 'ERRATA_KAFKA_BROKERS',
    tls: 'ERRATA_KAFKA_SSL',
    authority: 'ERRATA_KAFKA_SSL_CA',
    pair: 'ERRATA_KAFKA_SSL_CERTIFICATE and ERRATA_KAFKA_SSL_KEY',
    credential:
      'ERRATA_KAFKA_SASL_MECHANISM, ERRATA_KAFKA_SASL_USERNAME and ERRATA_KAFKA_SASL_PASSWORD',
    login: 'the user and password',
    name:
      "ERRATA_KAFKA_BROKERS, and the brokers' advertised.listeners, must name them as " +
      'their certificate does.',
  },
  Temporal: {
    to: 'Temporal',
    address: 'ERRATA_TEMPORAL_ADDRESS',
    tls: 'ERRATA_TEMPORAL_TLS',
    authority: 'ERRATA_TEMPORAL_TLS_CA',
    pair: 'ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY',
    credential: 'ERRATA_TEMPORAL_API_KEY',
    login: 'the API key',
    name:
      'Set ERRATA_TEMPORAL_TLS_SERVER_NAME to the name in its certificate, ' +
      'or use that name in ERRATA_TEMPORAL_ADDRESS.',
  },
};

type Settings = (typeof SETTINGS)[Channel['to']];

interface Rule {
  sign: RegExp;
  /** Set if an outage may look the same. */
  likely?: true;
  /** The channels to which the rule applies. */
  of?: Partial<Channel>;
  problem: string;
  fix: string;
}

const LOGIN_REFUSED = anyOf([
  /KafkaJSSASLAuthenticationError/,
  /SASL \S+ mechanism is not supported/,
  /UNAUTHENTICATED/,
  /valid authentication credentials/,
]);
const CERTIFICATE_REFUSED = anyOf(
  [
    /alert (bad certificate|unsupported certificate|unknown ca)/,
    /alert certificate (required|unknown|revoked|expired)/,
    /fatal alert: (Bad|Unsupported)?Certificate/,
    /fatal alert: UnknownCA/,
  ],
  'i',
);
const HANDSHAKE_BROKEN = /disconnected before secure TLS|UnexpectedEof|close_notify/;
/** rustls reports a rejected certificate like this when the reset overtakes the alert. */
const RESET = /ConnectionReset|"connection closed"/;
const CLOSED = /Closed connection|broken pipe|Last error: Failed to connect/;

/** The first matching rule applies. */
const RULES: readonly Rule[] = [
  {
    sign: LOGIN_REFUSED,
    of: { credential: true },
    problem: '{to} does not take {login}',
    fix: 'Look at {credential} (or its file, with _FILE behind the name).',
  },
  { sign: LOGIN_REFUSED, problem: '{to} asks for {login}', fix: 'Set {credential}.' },
  {
    sign: /current SASL state/,
    problem: '{to} expects no user there',
    fix: 'Look at the port in {address}, or unset {credential}.',
  },
  {
    sign: CERTIFICATE_REFUSED,
    of: { certificate: true },
    problem: "{to} does not take this client's certificate",
    fix: 'Look at {pair}: is it valid, and of an authority that the other end knows?',
  },
  { sign: CERTIFICATE_REFUSED, problem: '{to} asks for a client certificate', fix: 'Set {pair}.' },
  {
    sign: anyOf([
      /key values mismatch/,
      /KeyMismatch/,
      /InconsistentKeys/,
      /no start line/,
      /PEM routines/,
      /PrivateKeyParseError/,
      /CertificateParseError/,
    ]),
    problem: 'the client certificate or its key for {to} cannot be used',
    fix: 'Look at {pair}: PEM files, the key without a password, and of this certificate.',
  },
  {
    sign: anyOf([
      /self[- ]signed certificate/,
      /unable to verify/,
      /unable to get (local )?issuer/,
      /UnknownIssuer/,
      /certificate not trusted/,
      /BadSignature/,
      /certificate signature failure/,
    ]),
    problem: "{to}'s certificate is of an authority that is not known here",
    fix: '{authority} must name the PEM file of that authority.',
  },
  {
    sign: /ERR_TLS_CERT_ALTNAME_INVALID|NotValidForName/,
    problem: "{to}'s certificate is for another name",
    fix: '{name}',
  },
  {
    sign: anyOf([
      /certificate has expired/,
      /CERT_HAS_EXPIRED/,
      /certificate is not yet valid/,
      /CERT_NOT_YET_VALID/,
      /InvalidCertificate\((Expired|NotValidYet)/,
    ]),
    problem: "{to}'s certificate is not valid at this time",
    fix: "Renew it there, or look at this machine's clock.",
  },
  {
    sign: /wrong version number|InvalidContentType|packet length too long/,
    problem: '{to} does not speak TLS there',
    fix: 'Look at the port in {address}, or switch {tls} off.',
  },
  ...likely(HANDSHAKE_BROKEN, '{to} breaks the TLS handshake off', [
    [{ certificate: true }, 'Does it speak TLS at {address}? Does it take {pair}?'],
    [{}, 'Does it speak TLS at {address}? Does it ask for {pair}?'],
  ]),
  ...likely(RESET, '{to} closes the connection', [
    [{ tls: false }, 'Does it ask for TLS ({tls})?'],
    [{ certificate: true }, 'Does it take {pair}?'],
    [{}, 'Does it ask for {pair}?'],
  ]),
  ...likely(CLOSED, '{to} closes the connection', [
    [{ tls: false }, 'Does it ask for TLS ({tls})?'],
    [
      { credential: false, certificate: true },
      'Does it ask for {login} ({credential})? Does it take {pair}?',
    ],
    [{ credential: false }, 'Does it ask for {login} ({credential})? Or for {pair}?'],
  ]),
];

function likely(sign: RegExp, problem: string, fixes: [Partial<Channel>, string][]): Rule[] {
  return fixes.map(([of, fix]) => ({ sign, likely: true, of, problem, fix }));
}

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

/** Matches where any of the patterns does. */
function anyOf(patterns: readonly RegExp[], flags = ''): RegExp {
  return new RegExp(patterns.map(({ source }) => source).join('|'), flags);
}
