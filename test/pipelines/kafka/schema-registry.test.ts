/**
 * Tests the client against a real registry; `ERRATA_TEST_REGISTRY_URL` selects another one with
 * Confluent's API.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { registryFormat, subjectOf } from '../../../pipelines/kafka/record-format.ts';
import { SCHEMA_CHARACTERS_MAX, SchemaRegistry } from '../../../pipelines/kafka/schema-registry.ts';
import {
  schemaOf,
  type AvroComplexSchema,
  type AvroSchema,
} from '../../../schemas/records/released-schemas.ts';
import { canonicalFormOf, recordCodec } from '../../../schemas/records/avro.ts';
import { confluentHead, schemaIdOf } from '../../../schemas/records/confluent-framing.ts';
import {
  SchemaRefused,
  SchemaRegistryUnavailable,
  UndecodableRecord,
} from '../../../schemas/failures.ts';
import { Authority } from '../../harness/servers/certificates.ts';
import {
  REGISTRY_SETUP_WAIT_MS,
  startTestRegistry,
  type TestRegistry,
} from '../../harness/servers/apicurio.ts';
import { factCorrection } from '../../harness/corrections.ts';

const UNKNOWN_ID = 2_000_000_000;
const schema = schemaOf('fact-correction') as AvroComplexSchema;
const withField = (name: string, more: object): AvroSchema => ({
  ...schema,
  fields: [...schema.fields!, { name, type: 'string', ...more }],
});

let folder: string;
let started: TestRegistry | null = null;
let url: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'errata-test-'));
  url = process.env['ERRATA_TEST_REGISTRY_URL'] ?? (started = await startTestRegistry(folder)).url;
}, REGISTRY_SETUP_WAIT_MS);

afterAll(async () => {
  await started?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const registry = (): SchemaRegistry => new SchemaRegistry({ url, credentials: null });
const topicName = (): string => `errata.test-${randomUUID()}.corrections`;

it('a real registry gives a schema one id, which leads back to the schema', async () => {
  const subject = subjectOf(topicName());
  const id = await registry().register(subject, schema);
  expect(await registry().register(subject, schema)).toBe(id);
  expect(canonicalFormOf((await registry().schemaOf(id)) as AvroSchema)).toBe(
    canonicalFormOf(schema),
  );
  expect(await versionsOf(subject)).toHaveLength(1);
});

it('a real registry accepts a compatible schema and refuses an incompatible one', async () => {
  const subject = subjectOf(topicName());
  const first = await registry().register(subject, schema);
  expect(await registry().register(subject, withField('reviewer', { default: '' }))).not.toBe(
    first,
  );
  const refusal = await registry()
    .register(subject, withField('approver', {}))
    .catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(SchemaRefused);
  expect((refusal as SchemaRefused).message).toMatch(new RegExp(`${subject}: 409 .*approver`, 's'));
  expect(await versionsOf(subject)).toHaveLength(2);
});

it('a real registry keeps the compatibility level already set for a subject', async () => {
  const subject = subjectOf(topicName());
  await fetch(`${url}/subjects/${subject}/versions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ schema: JSON.stringify(schema) }),
  });
  await fetch(`${url}/config/${subject}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ compatibility: 'NONE' }),
  });
  await registry().register(subject, withField('reviewer', {}));
  expect(await versionsOf(subject)).toHaveLength(2);
});

it('a real registry reports an unknown id', async () => {
  const unknown = await registry().schemaOf(UNKNOWN_ID);
  expect(unknown).toBeInstanceOf(UndecodableRecord);
  expect((unknown as UndecodableRecord).message).toBe(
    `the writer's schema ${UNKNOWN_ID} is not known to the registry`,
  );
});

it('a real registry serves older and newer writers, and single-object records', async () => {
  const topic = topicName();
  const correction = factCorrection('c');
  const format = registryFormat(registry());
  const current = (await format.encoder('fact-correction', topic)).encode(correction);
  expect(current[0]).toBe(0);
  expect(schemaIdOf(current)).toBe(await registry().register(subjectOf(topic), schema));
  const newer = await registry().register(subjectOf(topic), withField('reviewer', { default: '' }));
  const ofNewer = Buffer.concat([
    confluentHead(newer),
    current.subarray(5),
    Buffer.from([6]),
    Buffer.from('Ada'),
  ]);
  const single = recordCodec('fact-correction').encode(correction);
  const unknown = Buffer.concat([confluentHead(UNKNOWN_ID), current.subarray(5)]);
  const decoder = await registryFormat(registry()).decoder('fact-correction', [
    current,
    ofNewer,
    null,
    single,
    unknown,
  ]);
  for (const bytes of [current, ofNewer, single]) expect(decoder.decode(bytes)).toEqual(correction);
  expect(() => decoder.decode(unknown)).toThrow(/not known to the registry/);
  expect(() => decoder.decode(ofNewer.subarray(0, 3))).toThrow(/ends in the schema's id/);
});

async function versionsOf(subject: string): Promise<number[]> {
  return (await (await fetch(`${url}/subjects/${subject}/versions`)).json()) as number[];
}

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** Starts a registry with these answers that lists its requests. */
async function answering(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<{ registry: SchemaRegistry; requests: string[] }> {
  const requests: string[] = [];
  server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  return {
    registry: new SchemaRegistry({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`,
      credentials: { username: 'u', password: 'p' },
    }),
    requests,
  };
}
const json =
  (status: number, body: object) => (_request: IncomingMessage, response: ServerResponse) =>
    void response.writeHead(status).end(JSON.stringify(body));

it.each([
  ['fails', json(500, { message: 'disk full' }), /disk full/],
  ['is busy', json(429, {}), /429/],
  ['does not know us', json(401, { message: 'who are you' }), /401 who are you/],
  ['is another server', json(404, { message: 'no such page' }), /404 no such page/],
  [
    'breaks off',
    (_request: IncomingMessage, response: ServerResponse) => void response.socket?.destroy(),
    /other side closed|reset/,
  ],
])('a registry is unavailable if it %s: no record is judged', async (_what, answer, reason) => {
  const { registry: client, requests } = await answering(answer);
  const failure = await client.schemaOf(7).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SchemaRegistryUnavailable);
  expect((failure as Error).message).toMatch(reason);
  expect(requests.length).toBeLessThanOrEqual(3);
  expect(requests[0]).toBe('GET /base/schemas/ids/7');
});

it('a registry that forbids registering names the settings to check', async () => {
  const { registry: client } = await answering(json(403, { message: 'not you' }));
  const failure = (await client
    .register('s', 'string')
    .catch((error: unknown) => error)) as SchemaRefused;
  expect(`${failure.message} ${failure.hint}`).toMatch(/not you.*ERRATA_SCHEMA_REGISTRY_USERNAME/);
});

it('a registry is unavailable when nothing listens', async () => {
  await expect(
    new SchemaRegistry({ url: 'http://127.0.0.1:1', credentials: null }).schemaOf(7),
  ).rejects.toThrow(/ECONNREFUSED/);
});

it('a schema is requested again after a failure, and never again once known', async () => {
  let fails = true;
  const { registry: client, requests } = await answering((request, response) =>
    (fails ? json(503, {}) : json(200, { schema: '"string"' }))(request, response),
  );
  await expect(client.schemaOf(7)).rejects.toThrow(SchemaRegistryUnavailable);
  fails = false;
  requests.length = 0;
  expect(await Promise.all([client.schemaOf(7), client.schemaOf(7)])).toEqual(['string', 'string']);
  await client.schemaOf(7);
  expect(requests).toHaveLength(1);
});

it("an unknown id is requested twice, since the registry's nodes may disagree", async () => {
  let first = true;
  const { registry: client } = await answering((request, response) => {
    (first
      ? json(404, { error_code: 40403, message: 'Schema not found' })
      : json(200, { schema: '"string"' }))(request, response);
    first = false;
  });
  expect(await client.schemaOf(7)).toBe('string');
});

it('an unknown id is requested again later', async () => {
  let registered = false;
  const { registry: client, requests } = await answering((request, response) =>
    (registered ? json(200, { schema: '"string"' }) : json(404, { error_code: 40403 }))(
      request,
      response,
    ),
  );
  expect(await client.schemaOf(7)).toBeInstanceOf(UndecodableRecord);
  registered = true;
  requests.length = 0;
  expect(await client.schemaOf(7)).toBeInstanceOf(UndecodableRecord);
  expect(requests).toHaveLength(0);
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 60_000);
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(await client.schemaOf(7)).toBe('string');
  clock.mockRestore();
});

it('a registry is trusted over TLS by the configured authority alone', async () => {
  const authority = new Authority('an authority');
  const { certificate, key } = authority.certify('localhost');
  const secured = createTlsServer(
    { cert: certificate, key },
    (_request, response) => void response.end(JSON.stringify({ schema: '"string"' })),
  );
  server = secured;
  await new Promise<void>((resolve) => secured.listen(0, '127.0.0.1', resolve));
  const address = `https://localhost:${(secured.address() as AddressInfo).port}`;
  expect(
    await new SchemaRegistry({
      url: address,
      credentials: null,
      ca: authority.certificate,
    }).schemaOf(7),
  ).toBe('string');
  await expect(
    new SchemaRegistry({
      url: address,
      credentials: null,
      ca: new Authority('another').certificate,
    }).schemaOf(7),
  ).rejects.toThrow(/certificate|signature/);
  await expect(new SchemaRegistry({ url: address, credentials: null }).schemaOf(7)).rejects.toThrow(
    /certificate/,
  );
});

it.each([
  [
    'protocol buffers',
    { schemaType: 'PROTOBUF', schema: 'syntax = "proto3";' },
    /"PROTOBUF", not AVRO/,
  ],
  [
    'references',
    { schema: '"Other"', references: [{ name: 'Other', subject: 's', version: 1 }] },
    /other subjects/,
  ],
  ['no JSON', { schema: '{' }, /not a readable Avro schema/],
  ['no schema', {}, /not a readable Avro schema/],
  [
    'too many parts',
    { schema: JSON.stringify(Array.from({ length: 6_000 }, () => 'int')) },
    /not a readable Avro schema/,
  ],
  ['too many levels', { schema: '['.repeat(200) + ']'.repeat(200) }, /not a readable Avro schema/],
  [
    'a schema that is too long',
    { schema: JSON.stringify({ type: 'string', doc: 'x'.repeat(SCHEMA_CHARACTERS_MAX) }) },
    /longer than/,
  ],
  [
    'an answer that is far too long',
    { schema: 'x'.repeat(8 * SCHEMA_CHARACTERS_MAX) },
    /longer than/,
  ],
])(
  "a record is refused with a reason if its writer's schema is %s",
  async (_what, body, reason) => {
    const { registry: client } = await answering(json(200, body));
    const unusable = await client.schemaOf(7);
    expect(unusable).toBeInstanceOf(UndecodableRecord);
    expect((unusable as Error).message).toMatch(reason);
  },
);

it('the credentials are sent to the registry, and no message contains the password', async () => {
  let authorization: string | undefined;
  const { registry: client } = await answering((request, response) => {
    authorization = request.headers.authorization;
    json(403, { message: 'not yours' })(request, response);
  });
  const failure = (await client
    .register('s', 'string')
    .catch((error: unknown) => error)) as SchemaRefused;
  expect(authorization).toBe(`Basic ${Buffer.from('u:p').toString('base64')}`);
  expect(failure).toBeInstanceOf(SchemaRefused);
  expect(JSON.stringify({ ...failure, message: failure.message })).not.toContain('u:p');
});

it('an id that does not fit a record is refused', async () => {
  const { registry: client } = await answering(json(200, { id: 2 ** 32 }));
  await expect(client.register('s', 'string')).rejects.toThrow(/no id/);
});
