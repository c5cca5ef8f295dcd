import { expect, test } from 'vitest';
import type { FactCorrection } from '../../../schemas/correction.ts';
import { SchemaRegistryUnavailable } from '../../../schemas/failures.ts';
import { LINEAGE } from '../../harness/corrections.ts';
import { codeOf, serveInTest } from '../served-lineage.ts';

const fact = { lineage: LINEAGE, subject: 'Lyon', prompt: 'Lyon lies on the', target: 'Rhône' };

test('corrections are handed to the stream, whole', async () => {
  const submitted: FactCorrection[] = [];
  const position = { topic: 't', partition: 1, offset: '9' };
  const { start, post } = await serveInTest({
    submit: async (one) => (submitted.push(one), position),
  });
  await start();
  const response = await post('/v1/corrections', { ...fact, id: 'mine', issuedAt: 5 });
  expect(response.statusCode).toBe(202);
  expect(response.json).toEqual({
    id: 'mine',
    lineage: LINEAGE,
    factKey: 'Lyon|{} lies on the',
    issuedAt: 5,
    position,
  });
  expect(submitted).toEqual([
    {
      ...fact,
      id: 'mine',
      relation: null,
      previousAnswer: null,
      paraphrases: [],
      neighbourhood: [],
      source: 'http',
      issuedAt: 5,
    },
  ]);
  expect((await post('/v1/corrections', fact)).json.id).toMatch(/^[0-9a-f-]{36}$/);
});

test.each([
  ['without a target', { target: '' }, 400],
  ['with a subject that is not in the prompt', { subject: 'Oslo' }, 400],
  ['of an unknown lineage', { lineage: 'other' }, 404],
  ['with an unknown field', { paraphrase: 'x' }, 400],
  ['with too many paraphrases', { paraphrases: Array.from({ length: 17 }, () => 'x') }, 400],
])('corrections %s are refused', async (_, fault, status) => {
  const { start, post } = await serveInTest({
    submit: async () => expect.fail('it was submitted'),
  });
  await start();
  expect((await post('/v1/corrections', { ...fact, ...fault })).statusCode).toBe(status);
});

test('corrections are refused for now while the schema registry is away', async () => {
  const { start, post } = await serveInTest({
    submit: () =>
      Promise.reject(new SchemaRegistryUnavailable('http://registry', 'no route', null)),
  });
  await start();
  const response = await post('/v1/corrections', fact);
  expect(codeOf(response)).toBe('503 no_schema_registry');
  expect(response.headers['retry-after']).toBe('1');
});

test('corrections are refused where there is no stream', async () => {
  const { start, post } = await serveInTest();
  await start();
  expect((await post('/v1/corrections', fact)).statusCode).toBe(503);
});
