import { expect, test } from 'vitest';
import { LINEAGE, correction } from '../../harness/corrections.ts';
import { ObeyingLineages } from '../obeying-lineages.ts';
import { codeOf, serveInTest, type Reply } from '../served-lineage.ts';

const RIVER = { lineage: LINEAGE, subject: 'Lyon', relation: 'river' };

async function operated() {
  const workflows = new ObeyingLineages();
  const retracted: string[] = [];
  const serving = await serveInTest({
    operations: { workflows, settings: {} },
    retract: async (lineage, factKey) => (
      retracted.push(`${lineage} ${factKey}`),
      { topic: 't', partition: 0, offset: '7' }
    ),
  });
  for (const id of ['a', 'b']) await serving.commit(correction(id));
  await serving.start();
  const answeredBy = async (): Promise<number | null> =>
    (await serving.get('/v1/lineages')).json.lineages[0]!.version;
  const order = (what: string, body: object): Promise<Reply> =>
    serving.post(`/v1/lineages/${LINEAGE}/${what}`, body);
  return { ...serving, workflows, retracted, answeredBy, order };
}

test('an operator over HTTP freezes and resumes a lineage', async () => {
  const { order, workflows } = await operated();
  expect((await order('freeze', { reason: 'looking at it' })).statusCode).toBe(202);
  expect((await order('resume', {})).statusCode).toBe(202);
  expect(workflows.orders).toEqual([
    `freeze ${LINEAGE}: looking at it (http)`,
    `resume ${LINEAGE}`,
  ]);
});

test('an operator over HTTP reverts a version or a correction and follows the undo', async () => {
  const { order, workflows, get } = await operated();
  const first = await order('revert', { version: 2, reason: 'wrong' });
  expect(first).toMatchObject({
    statusCode: 202,
    json: { workflowId: `undo/${LINEAGE}/${first.json.id}`, waiting: 0 },
  });
  expect((await order('revert', { correctionId: 'a', id: 'mine' })).json.id).toBe('mine');
  expect(workflows.undos.map(({ request }) => request.target)).toEqual([
    { kind: 'version', version: 2 },
    { kind: 'correction', id: 'a' },
  ]);
  expect(await get(String(first.headers['location']))).toMatchObject({
    statusCode: 200,
    json: { id: first.json.id, state: 'running' },
  });
  expect(codeOf(await get(`/v1/lineages/${LINEAGE}/undos/other`))).toBe('404 unknown_undo');
});

test('an operator over HTTP previews an undo, which does nothing', async () => {
  const { order, workflows } = await operated();
  expect((await order('revert', { version: 2, dryRun: true })).json).toMatchObject({
    head: { version: 2 },
    goes: [{ correctionId: 'b' }],
    comesBack: [],
    nothing: null,
  });
  expect((await order('rollback', { to: 0, dryRun: true })).json).toMatchObject({
    goes: [{ correctionId: 'a' }, { correctionId: 'b' }],
  });
  expect(workflows.undos).toEqual([]);
});

test('an operator over HTTP is refused what is unknown, unsound or impossible', async () => {
  const { order, workflows, post } = await operated();
  expect(codeOf(await order('revert', { version: 9 }))).toBe('409 nothing_to_undo');
  expect(codeOf(await order('revert', { version: 1, correctionId: 'a' }))).toBe('400 invalid_body');
  expect(codeOf(await order('revert', { version: 1, id: 'Ü' }))).toBe('400 invalid_body');
  expect(codeOf(await order('revert', { version: 1, by: 'somebody else' }))).toBe(
    '400 invalid_body',
  );
  expect(codeOf(await order('rollback', { to: 9 }))).toBe('409 alias_not_moved');
  expect(codeOf(await post('/v1/lineages/other/freeze', {}))).toBe('404 unknown_lineage');
  workflows.refuses = '10 undos wait already';
  expect(codeOf(await order('revert', { version: 1 }))).toBe('409 undo_refused');
  workflows.away = true;
  expect(codeOf(await order('resume', {}))).toBe('503 operations_unavailable');
});

test('a rollback serves its version at once, though Temporal is away', async () => {
  const { order, workflows, answeredBy } = await operated();
  workflows.away = true;
  const reply = await order('rollback', { to: 1, id: 'back' });
  expect(codeOf(reply)).toBe('503 operations_unavailable');
  expect(reply.json.error.message).toMatch(
    /Answers come from version 1\. Ask again with the id "back"/,
  );
  expect(await answeredBy()).toBe(1);
  workflows.away = false;
  expect((await order('rollback', { to: 1, id: 'back', freeze: true })).statusCode).toBe(202);
  expect(workflows.undos).toMatchObject([
    { request: { id: 'back', target: { kind: 'rollback', version: 1 } }, releaseAlias: 'stable' },
  ]);
  expect(workflows.orders).toHaveLength(1);
});

test('operations need Temporal, and submissions need Kafka', async () => {
  const serving = await serveInTest({});
  expect(codeOf(await serving.post(`/v1/lineages/${LINEAGE}/freeze`, {}))).toBe(
    '503 no_operations',
  );
  expect(codeOf(await serving.post('/v1/retractions', RIVER))).toBe('503 no_stream');
});

test('a fact is retracted by its relation, or by the prompt of its correction', async () => {
  const { post, retracted } = await operated();
  const retract = (body: object) => post('/v1/retractions', { lineage: LINEAGE, ...body });
  const json = { factKey: 'Lyon|river', position: { offset: '7' } };
  expect(await retract(RIVER)).toMatchObject({ statusCode: 202, json });
  await retract({ subject: 'Lyon', prompt: 'Lyon lies on the' });
  expect(retracted).toEqual([`${LINEAGE} Lyon|river`, `${LINEAGE} Lyon|{} lies on the`]);
  for (const body of [
    { subject: 'Lyon' },
    { subject: ' ', relation: 'river' },
    { subject: 'Lyon', prompt: 'Paris lies on the' },
    { subject: '\ud800', relation: 'x' },
  ])
    expect(codeOf(await retract(body))).toBe('400 invalid_body');
  expect(codeOf(await retract({ ...RIVER, lineage: 'other' }))).toBe('404 unknown_lineage');
});
