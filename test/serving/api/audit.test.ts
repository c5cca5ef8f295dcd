import { expect, test } from 'vitest';
import type { AskedDifference } from '../../../serving/api/audit.ts';
import { AUDIT_LIMITS } from '../../../serving/api/audit.ts';
import type { Blame } from '../../../serving/answers/blame.ts';
import type { Explanation } from '../../../serving/answers/explain.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { baseAnswer } from '../../harness/fake-engine.ts';
import { codeOf, serveInTest, type Reply } from '../served-lineage.ts';

/** A lineage where `a` was superseded, `b` retracted and `c` holds. */
async function serve() {
  const serving = await serveInTest();
  const b = correction('b');
  await serving.commit(correction('a'), b);
  const a2 = { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000, source: 'who asked' };
  await serving.commit(correction('a2', a2));
  await serving.commit(correction('c'), retraction(b) as unknown as ReturnType<typeof correction>);
  await serving.start();
  const post = (what: string, body: object) =>
    serving.post(`/v1/${what}`, { lineage: LINEAGE, ...body });
  const trace = (id: string) =>
    serving.get(`/v1/lineages/${LINEAGE}/corrections/${encodeURIComponent(id)}`);
  return { ...serving, post, trace };
}

/** The answer of a request that succeeded. */
function answerOf<Answer>({ statusCode, body }: Reply): Answer {
  expect(statusCode, body).toBe(200);
  return JSON.parse(body) as Answer;
}

test('why shows the gates that opened, their margins and the corrections behind them', async () => {
  const { post } = await serve();
  const answer = answerOf<Explanation>(await post('why', { prompt: 'Subject a is in' }));
  expect(answer).toMatchObject({
    version: 3,
    base: { text: ` ${baseAnswer('Subject a is in')}.` },
    edited: { text: ' Oslo.' },
    untouched: false,
    gates: [{ token: 'subject', layer: 1, score: 0.7, threshold: 0.3, correction: { id: 'a2' } }],
    corrections: [
      {
        id: 'a2',
        state: 'holds',
        correction: { source: 'who asked' },
        committed: { version: 2, batchId: 'batch-2' },
      },
    ],
    named: [{ subject: 'Subject a', corrections: [{ id: 'a2', version: 2 }] }],
    earlier: [],
    refused: null,
  });
  expect(answer.gates[0]!.margin).toBeCloseTo(0.4);
});

test('why of an untouched answer shows what the log has of the prompt', async () => {
  const { post } = await serve();
  expect(answerOf(await post('why', { prompt: 'Subject b is in' }))).toMatchObject({
    untouched: true,
    gates: [],
    corrections: [],
    named: [],
    earlier: [{ id: 'b', state: 'left', later: [{ change: 'retracted', version: 3 }] }],
  });
  expect(answerOf(await post('why', { prompt: 'Nobody is in' }))).toMatchObject({
    untouched: true,
    earlier: [],
    refused: { outcomes: [], complete: true },
  });
});

test('why explains a named version', async () => {
  const { post } = await serve();
  expect(answerOf(await post('why', { prompt: 'Subject a is in', version: 1 }))).toMatchObject({
    version: 1,
    edited: { text: ' Lyon.' },
    corrections: [{ id: 'a', state: 'left', later: [{ version: 2, change: 'superseded' }] }],
  });
  expect(codeOf(await post('why', { prompt: 'x', version: 9 }))).toBe('404 unknown_version');
  expect(codeOf(await post('why', { prompt: 'x', lineage: 'other' }))).toBe('404 unknown_lineage');
  expect(codeOf(await post('why', {}))).toBe('400 invalid_body');
});

test('the trace of a correction is found by an id of any characters', async () => {
  const { trace, commit, notify } = await serve();
  const left = { id: 'a', state: 'left', later: [{ by: 'a2' }] };
  expect(answerOf(await trace('a'))).toMatchObject(left);
  const odd = `é/?#%~2 ${'x'.repeat(150)}`;
  await commit(correction(odd, { subject: 'Subject odd', prompt: 'Subject odd is in' }));
  await notify();
  expect(answerOf(await trace(odd))).toMatchObject({ id: odd, state: 'holds' });
  expect(codeOf(await trace('nobody'))).toBe('404 unknown_correction');
});

test('diff shows what differs, and the answers of both versions to given prompts', async () => {
  const { post } = await serve();
  const prompts = ['Subject a is in', 'Nobody is in'];
  const answer = answerOf<AskedDifference>(await post('diff', { from: 1, prompts }));
  expect(answer).toMatchObject({
    from: { version: 1 },
    to: { version: 3 },
    added: [{ correctionId: 'c' }],
    superseded: [{ before: { correctionId: 'a' }, after: { correctionId: 'a2' } }],
    retracted: [{ correctionId: 'b' }],
  });
  const base = ` ${baseAnswer('Nobody is in')}`;
  expect(answer.asked).toEqual([
    { prompt: 'Subject a is in', from: ' Lyon', to: ' Oslo' },
    { prompt: 'Nobody is in', from: base, to: base },
  ]);
  expect(codeOf(await post('diff', { from: 1, to: 9 }))).toBe('404 unknown_version');
});

test('blame shows which version changed each answer', async () => {
  const { post } = await serve();
  const prompts = ['Subject a is in'];
  const blamed = answerOf<Blame>(await post('blame', { prompts }));
  expect(blamed.prompts[0]!.answers.map(({ version, text }) => [version, text])).toEqual([
    [0, ` ${baseAnswer('Subject a is in')}`],
    [1, ' Lyon'],
    [2, ' Oslo'],
  ]);
  expect(answerOf(await post('blame', { prompts, version: 1 }))).toMatchObject({ version: 1 });
});

test('blame refuses too many prompts, and a second request beside the first', async () => {
  const { post, engine } = await serve();
  const blame = (prompts = ['Subject a is in']) => post('blame', { prompts });
  const tooMany = new Array<string>(AUDIT_LIMITS.promptsMax + 1).fill('x');
  expect(codeOf(await blame(tooMany))).toBe('400 invalid_body');
  expect(codeOf(await blame([]))).toBe('400 invalid_body');
  const probe = engine.probe.bind(engine);
  const [begun, release] = [milestone(), milestone()];
  engine.probe = async (...asked) => {
    begun.resolve();
    await release.promise;
    return probe(...asked);
  };
  const first = blame();
  await begun.promise;
  expect(codeOf(await blame())).toBe('429 too_many_waiting');
  release.resolve();
  expect((await first).statusCode).toBe(200);
  expect((await blame()).statusCode).toBe(200);
});

/** A promise that is kept from outside. */
function milestone(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((keep) => (resolve = keep));
  return { promise, resolve };
}
