import { expect, it } from 'vitest';
import { inShort, refusalOf, type Channel } from '../../pipelines/refused-channel.ts';

const KAFKA: Channel = { to: 'Kafka', tls: true, certificate: false, credential: true };
const TEMPORAL: Channel = { to: 'Temporal', tls: true, certificate: true, credential: false };
const grpc = (text: string): Error =>
  new Error('Failed to signalWithStart Workflow', { cause: new Error(text) });

it('a refusal is explained in one line that is the same at every try', () => {
  const required =
    'error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:' +
    '../deps/openssl/openssl/ssl/record/rec_layer_s3.c:1601:SSL alert number 116';
  const one = grpc(
    `14 UNAVAILABLE: No connection established. Last error: 804C42A55F7F0000:` +
      `${required}\n (2026-11-26T16:47:11.337Z). Resolution note: `,
  );
  const other = grpc(
    `14 UNAVAILABLE: No connection established. Last error: 804C42B66F7F0000:` +
      `${required}\n (2026-11-26T17:00:00.001Z). Resolution note: `,
  );
  expect(inShort(one)).toBe('tlsv13 alert certificate required');
  expect(inShort(other)).toBe(inShort(one));
  expect(
    inShort(
      grpc(
        '14 UNAVAILABLE: No connection established. ' +
          'Last error: Error: connect ECONNREFUSED 127.0.0.1:9. Resolution note: ',
      ),
    ),
  ).toBe('connect ECONNREFUSED 127.0.0.1:9');
  expect(inShort(new Error('Connection error: connect ECONNREFUSED 127.0.0.1:9'))).toBe(
    'connect ECONNREFUSED 127.0.0.1:9',
  );
});

it('an outage is not a refusal', () => {
  for (const text of [
    'connect ECONNREFUSED 127.0.0.1:9',
    'getaddrinfo ENOTFOUND broker',
    'Connection timeout',
    'read ECONNRESET',
    '4 DEADLINE_EXCEEDED: Deadline exceeded after 20s',
  ]) {
    for (const channel of [KAFKA, TEMPORAL]) expect(refusalOf(new Error(text), channel)).toBeNull();
  }
  // Over plain text, a closed connection may mean a broker that is stopping; only the last try
  // suggests TLS.
  expect(refusalOf(new Error('Closed connection'), { ...KAFKA, tls: false }, 'sure')).toBeNull();
  expect(refusalOf(new Error('Closed connection'), KAFKA)).toBeNull();
});

it('a refusal names the settings of its channel', () => {
  const of = (text: string, channel: Channel): string =>
    `${refusalOf(new Error(text), channel)?.message} ${refusalOf(new Error(text), channel)?.hint}`;
  expect(of('16 UNAUTHENTICATED: no', { ...TEMPORAL, credential: true })).toMatch(
    /does not take the API key.*ERRATA_TEMPORAL_API_KEY/,
  );
  expect(of('16 UNAUTHENTICATED: no', TEMPORAL)).toMatch(
    /asks for the API key.*Set ERRATA_TEMPORAL_API_KEY/,
  );
  expect(of('InvalidCertificate(UnknownIssuer)', TEMPORAL)).toMatch(
    /not known here.*ERRATA_TEMPORAL_TLS_CA/,
  );
  expect(of('InvalidCertificate(NotValidForNameContext {})', TEMPORAL)).toMatch(
    /another name.*ERRATA_TEMPORAL_TLS_SERVER_NAME/,
  );
  expect(
    of('received fatal alert: CertificateRequired', { ...TEMPORAL, certificate: false }),
  ).toMatch(
    /asks for a client certificate.*ERRATA_TEMPORAL_TLS_CERTIFICATE and ERRATA_TEMPORAL_TLS_KEY/,
  );
  expect(of('received fatal alert: CertificateExpired', TEMPORAL)).toMatch(
    /does not take this client's certificate/,
  );
  expect(of('InvalidCertificate(Expired)', TEMPORAL)).toMatch(/not valid at this time/);
  expect(of('certificate has expired', KAFKA)).toMatch(
    /Kafka's certificate is not valid at this time/,
  );
  expect(of('InvalidMessage(InvalidContentType)', TEMPORAL)).toMatch(
    /does not speak TLS.*ERRATA_TEMPORAL_TLS/,
  );
  expect(of('SASL SCRAM-SHA-256 mechanism is not supported by the server', KAFKA)).toMatch(
    /ERRATA_KAFKA_SASL_MECHANISM/,
  );
  expect(of('Closed connection', { ...KAFKA, tls: false })).toMatch(
    /Does it ask for TLS \(ERRATA_KAFKA_SSL\)/,
  );
});
