/**
 * Requests of any kind get an answer or a refusal in the usual form, never a fault of the server,
 * and no name reaches a path.
 */
import fc from 'fast-check';
import { connect, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { REFUSAL_LIMITS, type ErrorBody } from '../../serving/access/refusals.ts';
import { DEFAULT_SERVING_LIMITS } from '../../serving/server.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { correction, LINEAGE } from '../harness/corrections.ts';
import { servedLineage } from '../serving/served-lineage.ts';
import { always, damaged, nestedJson, oddJson, oddParts, oddText } from '../harness/odd-inputs.ts';

let serving: Awaited<ReturnType<typeof servedLineage>>;
const submitted: FactCorrection[] = [];
const names = new Set<string>();

beforeAll(async () => {
  serving = await servedLineage({
    submit: async (one) => {
      submitted.push(one);
      return { topic: 't', partition: 0, offset: '0' };
    },
  });
  await serving.commit(correction('a'));
  await serving.start();
  const get = serving.store.get.bind(serving.store);
  serving.store.get = (name) => (names.add(name), get(name));
  await serving.server.listen({ port: 0, host: '127.0.0.1' });
});
afterAll(() => serving.close());

const BODIES: Record<string, unknown> = {
  '/v1/completions': {
    model: LINEAGE,
    prompt: 'Subject a is in',
    max_tokens: 4,
    temperature: 0,
    stop: ['x'],
    top_p: 0.5,
    seed: 1,
  },
  '/v1/compare': { lineage: LINEAGE, prompt: 'Subject a is in', version: 1, tokensMax: 4 },
  '/v1/corrections': {
    lineage: LINEAGE,
    subject: 'Lyon',
    prompt: 'Lyon lies on the',
    target: 'Rhône',
    paraphrases: ['a Lyon'],
    neighbourhood: [],
    source: 's',
    issuedAt: 5,
    id: 'i',
    relation: null,
  },
};
const POSTED = Object.keys(BODIES);

function isAnswerOrRefusal({ statusCode, body }: { statusCode: number; body: string }): void {
  expect(statusCode, body).toBeLessThan(500);
  if (statusCode < 400) return;
  const { error } = JSON.parse(body) as ErrorBody;
  expect(Object.keys(error).sort()).toEqual(['code', 'message', 'param', 'type']);
  expect(error.message).not.toBe('');
  expect(error.message.length).toBeLessThanOrEqual(REFUSAL_LIMITS.messageCharactersMax + 1);
  expect(error.message).not.toMatch(/\n\s+at /);
  expect(error.code).toMatch(/^[a-z0-9_]+$/);
  expect(error.param?.length ?? 0).toBeLessThanOrEqual(REFUSAL_LIMITS.parameterCharactersMax + 1);
}

const post = (url: string, payload: Uint8Array | string, type = 'application/json') =>
  serving.server.inject({
    method: 'POST',
    url,
    headers: { 'content-type': type },
    payload: Buffer.from(payload),
  });

/** A URL with a body derived from its sound one. */
const postedWith = <T>(bodyOf: (sound: unknown) => fc.Arbitrary<T>) =>
  fc.constantFrom(...POSTED).chain((url) => fc.tuple(fc.constant(url), bodyOf(BODIES[url])));

test('any JSON body is answered or refused, and submits only sound corrections', async () => {
  const body = postedWith((sound) => fc.oneof(oddParts(sound), oddJson));
  await always(500, body, async ([url, value]) =>
    isAnswerOrRefusal(await post(url, JSON.stringify(value) ?? '')),
  );
  for (const one of submitted) expect(faultsOf(one)).toEqual([]);
});

test('any bytes of any content type are answered or refused', async () => {
  const body = postedWith((sound) => damaged(JSON.stringify(sound)));
  const json = fc.constantFrom('application/json', 'application/json; charset=utf-8');
  const forms = ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data'];
  const odd = ['application/json; charset=latin1', '', 'a', 'application/', '*/*'];
  const type = fc.oneof({ weight: 5, arbitrary: json }, fc.constantFrom(...forms, ...odd));
  await always(500, body, type, async ([url, bytes], kind) =>
    isAnswerOrRefusal(await post(url, bytes, kind)),
  );
});

const factWith = (more: object = {}) =>
  JSON.stringify({ ...(BODIES['/v1/corrections'] as object), ...more });
const LARGE = Array(32).fill('é'.repeat(1_500));

test.each<[string, Uint8Array | string, number, string]>([
  ['no bytes', '', 400, 'fst_err_ctp_empty_json_body'],
  [
    'more bytes than are taken',
    factWith({ source: 'x'.repeat(DEFAULT_SERVING_LIMITS.bodyBytesMax) }),
    413,
    'fst_err_ctp_body_too_large',
  ],
  [
    'bytes that are not UTF-8',
    Buffer.from([...Buffer.from(factWith({ source: '' })).subarray(0, -2), 0xff, 0x22, 0x7d]),
    400,
    'invalid_utf8',
  ],
  ['half a JSON', '{"lineage":', 400, 'fst_err_ctp_invalid_json_body'],
  ['levels without end', nestedJson(100_000), 400, 'invalid_body'],
  ['levels without end in a field', `{"subject":${nestedJson(100_000)}}`, 400, 'invalid_body'],
  ['null', 'null', 400, 'invalid_body'],
  ['a prototype', '{"__proto__":{"lineage":"l"}}', 400, 'fst_err_ctp_invalid_json_body'],
  ['half a surrogate pair', factWith({ target: '\uD800' }), 400, 'invalid_correction'],
  ['an id of half a surrogate pair', factWith({ id: '\uDC00' }), 400, 'invalid_correction'],
  ['a time without end', factWith().replace('At":5', 'At":1e999'), 400, 'invalid_body'],
  ['a time past any date', factWith({ issuedAt: 8.64e15 + 1 }), 400, 'invalid_correction'],
  ['a path as lineage', factWith({ lineage: '../../etc' }), 400, 'invalid_correction'],
  ['more than a Kafka record', factWith({ neighbourhood: LARGE }), 400, 'invalid_correction'],
  ['many faults', factWith({ paraphrases: Array(100_000).fill(1) }), 400, 'invalid_body'],
  ['an endless name', factWith({ ['k'.repeat(100_000)]: 1 }), 400, 'invalid_body'],
])('a body of %s is refused as a correction', async (_, body, status, code) => {
  const before = submitted.length;
  const answered = await post('/v1/corrections', body);
  isAnswerOrRefusal(answered);
  expect(answered.statusCode).toBe(status);
  expect(JSON.parse(answered.body)).toMatchObject({ error: { code } });
  expect(submitted.length).toBe(before);
});

test.each(['\0', '\uD800', '\u001b[2J', '\uFEFF', '{}', 'x'.repeat(8_000)])(
  'a body with the prompt %j is answered',
  async (prompt) => {
    for (const [url, fields] of [
      ['/v1/completions', { model: LINEAGE, max_tokens: 1 }],
      ['/v1/compare', { lineage: LINEAGE, tokensMax: 1 }],
    ] as const) {
      expect((await post(url, JSON.stringify({ ...fields, prompt }))).statusCode).toBe(200);
    }
  },
);

const segment = fc.oneof(
  oddText.filter((text) => text.length < 300).map(encoded),
  fc.constantFrom(
    ...['v1', 'lineages', 'versions', 'models', LINEAGE, '1', '999', 'x'.repeat(2_000)],
    ...['..', '.', '%2e%2e', '%2F', '..%2f..%2fetc%2fpasswd', ';', ':', '~', '__proto__', '*'],
    ...['%00', '%', '%zz', '%ff', '%E0%A4%A', '%C0%AE'],
  ),
);
const parameter = fc.constantFrom('limit', 'before', 'version', '__proto__', '', 'limit[]');
const oddNumber = fc.constantFrom('0', '-1', '1e9', '9007199254740993', '%', '1&limit=2');
const query = fc
  .array(fc.tuple(parameter, fc.oneof(oddText.map(encoded), oddNumber)))
  .map((pairs) => pairs.map(([name, value]) => `${name}=${value}`).join('&'));
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE'];
const method = fc.constantFrom(...METHODS) as fc.Arbitrary<'GET'>;

/** The part of a text that may appear in a URL. */
function encoded(text: string): string {
  return text.isWellFormed() ? encodeURIComponent(text) : '%ED%A0%80';
}

test("any path is answered or refused, and reads only the lineage's own objects", async () => {
  const path = fc.oneof(
    fc.array(segment, { maxLength: 6 }).map((segments) => `/${segments.join('/')}`),
    segment.map((lineage) => `/v1/lineages/${lineage}/versions`),
    fc.tuple(segment, segment).map(([lineage, n]) => `/v1/lineages/${lineage}/versions/${n}`),
  );
  await always(600, method, path, query, async (verb, where, what) => {
    const url = what === '' ? where : `${where}?${what}`;
    const { statusCode, body } = await serving.server.inject({ method: verb, url });
    if ((verb as string) !== 'HEAD') isAnswerOrRefusal({ statusCode, body });
    else expect(statusCode).toBeLessThan(500);
  });
  for (const name of names) expect(name.startsWith(`lineages/${LINEAGE}/`), name).toBe(true);
});

test.each<[string, number]>([
  ['/v1/lineages/..%2f..%2fetc%2fpasswd/versions', 404],
  ['/v1/lineages/../../../etc/passwd', 404],
  [`/v1/lineages/${LINEAGE}/versions/..%2f..%2f1`, 400],
  [`/v1/lineages/${LINEAGE}%00/versions`, 404],
  [`/v1/lineages/${LINEAGE}/versions/1%00`, 400],
  [`/v1/lineages/${LINEAGE}/versions/%zz`, 400],
  ['/%', 400],
  ['/%ff%fe', 400],
  [`/v1/lineages/${'x'.repeat(10_000)}/versions`, 414],
  [`/v1/lineages/${LINEAGE}/versions?limit=1&limit=2`, 400],
  [`/v1/lineages/${LINEAGE}/versions?before=1e999`, 400],
  [`/v1/lineages/${LINEAGE}/versions?__proto__=1`, 400],
  ['/page.js/..%2f..%2fpackage.json', 404],
  ['/..%2fserver.ts', 404],
])('a path %s is refused with %i', async (url, status) => {
  const answered = await serving.server.inject({ method: 'GET', url });
  isAnswerOrRefusal(answered);
  expect(answered.statusCode).toBe(status);
});

/** The head of a POST with these headers. */
function posted(...headers: string[]): string {
  return ['POST /v1/corrections HTTP/1.1', 'host: 127.0.0.1', ...headers, '', ''].join('\r\n');
}

/** Everything that the server sends before it closes the connection. */
const answerTo = (bytes: Uint8Array) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect((serving.server.server.address() as AddressInfo).port, '127.0.0.1');
    let answer = '';
    socket.on('data', (part: Buffer) => (answer += part.toString('latin1')));
    // The server may reset the connection.
    socket.on('error', (fault: NodeJS.ErrnoException) =>
      fault.code === 'ECONNRESET' || fault.code === 'EPIPE' ? resolve(answer) : reject(fault),
    );
    socket.on('close', () => resolve(answer));
    socket.end(Buffer.from(bytes));
  });

test('a damaged request is answered or refused, and the server continues', async () => {
  const body = JSON.stringify(BODIES['/v1/corrections']);
  const length = `content-length: ${Buffer.byteLength(body)}`;
  const head = posted('content-type: application/json', 'connection: close', length);
  const sound = Buffer.from(head + body);
  expect(await answerTo(sound)).toMatch(/^HTTP\/1\.1 202 /);
  await always(150, damaged(sound, 0.6), async (bytes) => {
    const answer = await answerTo(bytes);
    if (answer === '') return;
    const [, status] = /^HTTP\/1\.1 (\d{3}) /.exec(answer) ?? [];
    expect(status, answer).toBeDefined();
    const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
    const first = body.startsWith('{') ? body.slice(0, body.indexOf('}}') + 2) : body;
    if (Number(status) >= 400 && body !== '')
      isAnswerOrRefusal({ statusCode: Number(status), body: first });
    else expect(Number(status)).toBeLessThan(500);
  });
  const { port } = serving.server.server.address() as AddressInfo;
  expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
});

test.each<[string, string, number]>([
  ['a header larger than is read', posted(`x: ${'x'.repeat(20_000)}`), 431],
  ['no protocol', 'hello\r\n\r\n', 400],
  ['a length below zero', posted('content-type: application/json', 'content-length: -1'), 400],
  ['two lengths', posted('content-length: 1', 'content-length: 2'), 400],
  ['a length and chunks', posted('content-length: 1', 'transfer-encoding: chunked'), 400],
])('a request with %s is refused in the usual form', async (_, request, status) => {
  const answer = await answerTo(Buffer.from(request));
  expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  isAnswerOrRefusal({ statusCode: status, body: answer.slice(answer.indexOf('\r\n\r\n') + 4) });
});
