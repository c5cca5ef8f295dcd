import { expect, test } from 'vitest';
import { baseAnswer } from '../../harness/fake-engine.ts';
import { correction, LINEAGE } from '../../harness/corrections.ts';
import { PROMPT, serveInTest } from '../served-lineage.ts';

test('versions are listed newest first, in pages', async () => {
  const { start, commit, get } = await serveInTest();
  for (const id of ['a', 'b', 'c', 'd', 'e']) await commit(correction(id));
  await start();
  const numbers = async (query: string) => {
    const page = (await get(`/v1/lineages/${LINEAGE}/versions${query}`)).json;
    return [page.versions.map(({ version }) => version), page.next];
  };
  expect(await numbers('')).toEqual([[5, 4, 3, 2, 1], null]);
  expect(await numbers('?limit=2')).toEqual([[5, 4], 4]);
  expect(await numbers('?limit=2&before=4')).toEqual([[3, 2], 2]);
  expect(await numbers('?limit=2&before=2')).toEqual([[1], null]);
  expect((await get(`/v1/lineages/${LINEAGE}/versions?limit=0`)).statusCode).toBe(400);
  expect((await get('/v1/lineages/other/versions')).statusCode).toBe(404);
});

test('a version is shown whole, with the probes of each correction', async () => {
  const { start, commit, get } = await serveInTest();
  await commit(correction('a'));
  await start();
  const version = (await get(`/v1/lineages/${LINEAGE}/versions/1`)).json;
  expect(version).toMatchObject({
    hash: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    entry: { version: 1, added: [{ correctionId: 'a' }] },
    probes: [{ id: 'a', effective: true, answerAfter: ' Lyon' }],
  });
  expect((await get(`/v1/lineages/${LINEAGE}/versions/2`)).statusCode).toBe(404);
  for (const name of ['0', 'x', '-1', '1.5'])
    expect((await get(`/v1/lineages/${LINEAGE}/versions/${name}`)).statusCode).toBe(400);
});

test('compare gives both answers, the opened gates and their correction', async () => {
  const { start, commit, post } = await serveInTest();
  await commit(correction('z'), correction('a', { source: 'gazetteer' }));
  await start();
  expect((await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT })).json).toEqual({
    lineage: LINEAGE,
    version: 1,
    prompt: PROMPT,
    base: { text: ` ${baseAnswer(PROMPT)}.`, finish: 'end' },
    edited: {
      text: ' Lyon.',
      finish: 'end',
      opened: [
        {
          position: 1,
          token: 'subject',
          layer: 1,
          score: 0.7,
          threshold: 0.3,
          correction: {
            id: 'a',
            subject: 'Subject a',
            prompt: PROMPT,
            target: 'Lyon',
            source: 'gazetteer',
            version: 1,
          },
        },
      ],
    },
  });
});

test('compare uses the model once where no gate opened', async () => {
  const { start, commit, post, engine } = await serveInTest();
  await commit(correction('a'));
  await start();
  const answer = (
    await post('/v1/compare', { lineage: LINEAGE, prompt: 'Something else is in', version: 1 })
  ).json;
  expect(answer.base.text).toBe(answer.edited.text);
  expect(engine.calls.filter((call) => call === 'generate')).toHaveLength(1);
});

test('compare refuses unknown lineages and versions', async () => {
  const { start, post } = await serveInTest();
  await start();
  expect(
    (await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT, version: 3 })).statusCode,
  ).toBe(404);
  expect(
    (await post('/v1/compare', { lineage: LINEAGE, prompt: PROMPT, colour: 'red' })).statusCode,
  ).toBe(400);
  expect((await post('/v1/compare', { lineage: LINEAGE })).statusCode).toBe(400);
});
