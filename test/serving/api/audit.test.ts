import { afterEach, expect, test } from 'vitest';
import type { AskedDifference } from '../../../serving/api/audit.ts';
import { AUDIT_LIMITS } from '../../../serving/api/audit.ts';
import type { Blame } from '../../../serving/answers/blame.ts';
import type { Explanation } from '../../../serving/answers/explain.ts';
import type { Trace } from '../../../versions/audit/trace.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { baseAnswer } from '../../harness/fake-engine.ts';
import { servedLineage } from '../served-lineage.ts';

const open: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const serving of open.splice(0)) await serving.close();
});

/** A lineage where `a` was superseded, `b` retracted and `c` holds. */
async function serve() {
  const serving = await servedLineage();
  open.push(serving);
  const b = correction('b');
  await serving.commit(correction('a'), b);
  await serving.commit(
    correction('a2', {
      subject: 'Subject a',
      target: 'Oslo',
      issuedAt: 2_000,
      source: 'who asked',
    }),
  );
  await serving.commit(correction('c'), retraction(b) as unknown as ReturnType<typeof correction>);
  await serving.start();
  const ask = async <Answer>(url: string, body?: object) => {
    const reply = await (body === undefined ? serving.get(url) : serving.post(url, body));
    return {
      status: reply.statusCode,
      answer: JSON.parse(reply.body) as Answer,
      code: reply.json.error?.code,
    };
  };
  return { ...serving, ask };
}

test('why shows the gates that opened, their margins and the corrections behind them', async () => {
  const { ask } = await serve();
  const { status, answer } = await ask<Explanation>('/v1/why', {
    lineage: LINEAGE,
    prompt: 'Subject a is in',
  });
  expect(status).toBe(200);
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
  const { ask } = await serve();
  expect(
    (await ask<Explanation>('/v1/why', { lineage: LINEAGE, prompt: 'Subject b is in' })).answer,
  ).toMatchObject({
    untouched: true,
    gates: [],
    corrections: [],
    named: [],
    earlier: [{ id: 'b', state: 'left', later: [{ change: 'retracted', version: 3 }] }],
  });
  expect(
    (await ask<Explanation>('/v1/why', { lineage: LINEAGE, prompt: 'Nobody is in' })).answer,
  ).toMatchObject({ untouched: true, earlier: [], refused: { outcomes: [], complete: true } });
});

test('why explains a named version', async () => {
  const { ask } = await serve();
  expect(
    (
      await ask<Explanation>('/v1/why', {
        lineage: LINEAGE,
        prompt: 'Subject a is in',
        version: 1,
      })
    ).answer,
  ).toMatchObject({
    version: 1,
    edited: { text: ' Lyon.' },
    corrections: [{ id: 'a', state: 'left', later: [{ version: 2, change: 'superseded' }] }],
  });
  expect(await ask('/v1/why', { lineage: LINEAGE, prompt: 'x', version: 9 })).toMatchObject({
    status: 404,
    code: 'unknown_version',
  });
  expect(await ask('/v1/why', { lineage: 'other', prompt: 'x' })).toMatchObject({
    status: 404,
    code: 'unknown_lineage',
  });
  expect(await ask('/v1/why', { lineage: LINEAGE })).toMatchObject({
    status: 400,
    code: 'invalid_body',
  });
});

test('the trace of a correction is found by an id of any characters', async () => {
  const { ask, commit, notify } = await serve();
  expect((await ask<Trace>(`/v1/lineages/${LINEAGE}/corrections/a`)).answer).toMatchObject({
    id: 'a',
    state: 'left',
    later: [{ by: 'a2' }],
  });
  const odd = `é/?#%~2 ${'x'.repeat(150)}`;
  await commit(correction(odd, { subject: 'Subject odd', prompt: 'Subject odd is in' }));
  await notify();
  expect(
    (await ask<Trace>(`/v1/lineages/${LINEAGE}/corrections/${encodeURIComponent(odd)}`)).answer,
  ).toMatchObject({ id: odd, state: 'holds' });
  expect(await ask(`/v1/lineages/${LINEAGE}/corrections/nobody`)).toMatchObject({
    status: 404,
    code: 'unknown_correction',
  });
});

test('diff shows what differs, and the answers of both versions to given prompts', async () => {
  const { ask } = await serve();
  const { answer } = await ask<AskedDifference>('/v1/diff', {
    lineage: LINEAGE,
    from: 1,
    prompts: ['Subject a is in', 'Nobody is in'],
  });
  expect(answer).toMatchObject({
    from: { version: 1 },
    to: { version: 3 },
    added: [{ correctionId: 'c' }],
    superseded: [{ before: { correctionId: 'a' }, after: { correctionId: 'a2' } }],
    retracted: [{ correctionId: 'b' }],
  });
  expect(answer.asked).toEqual([
    { prompt: 'Subject a is in', from: ' Lyon', to: ' Oslo' },
    {
      prompt: 'Nobody is in',
      from: ` ${baseAnswer('Nobody is in')}`,
      to: ` ${baseAnswer('Nobody is in')}`,
    },
  ]);
  expect(await ask('/v1/diff', { lineage: LINEAGE, from: 1, to: 9 })).toMatchObject({
    status: 404,
    code: 'unknown_version',
  });
});

test('blame shows which version changed each answer', async () => {
  const { ask } = await serve();
  const { answer } = await ask<Blame>('/v1/blame', {
    lineage: LINEAGE,
    prompts: ['Subject a is in'],
  });
  expect(answer.prompts[0]!.answers.map(({ version, text }) => [version, text])).toEqual([
    [0, ` ${baseAnswer('Subject a is in')}`],
    [1, ' Lyon'],
    [2, ' Oslo'],
  ]);
  expect(
    (
      await ask<Blame>('/v1/blame', {
        lineage: LINEAGE,
        prompts: ['Subject a is in'],
        version: 1,
      })
    ).answer,
  ).toMatchObject({ version: 1 });
});

test('blame refuses too many prompts, and a second request beside the first', async () => {
  const { ask, engine } = await serve();
  expect(
    await ask('/v1/blame', {
      lineage: LINEAGE,
      prompts: new Array(AUDIT_LIMITS.promptsMax + 1).fill('x'),
    }),
  ).toMatchObject({ status: 400, code: 'invalid_body' });
  expect(await ask('/v1/blame', { lineage: LINEAGE, prompts: [] })).toMatchObject({
    status: 400,
  });
  const probe = engine.probe.bind(engine);
  const [begun, release] = [milestone(), milestone()];
  engine.probe = async (...asked) => {
    begun.resolve();
    await release.promise;
    return probe(...asked);
  };
  const blame = { lineage: LINEAGE, prompts: ['Subject a is in'] };
  const first = ask('/v1/blame', blame);
  await begun.promise;
  expect(await ask('/v1/blame', blame)).toMatchObject({ status: 429, code: 'too_many_waiting' });
  release.resolve();
  expect((await first).status).toBe(200);
  expect((await ask('/v1/blame', blame)).status).toBe(200);
});

/** A promise that is kept from outside. */
function milestone(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((keep) => (resolve = keep));
  return { promise, resolve };
}
