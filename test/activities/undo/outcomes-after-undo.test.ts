import { expect, it } from 'vitest';
import type { Outcome } from '../../../schemas/outcome.ts';
import { correction, retraction } from '../../harness/corrections.ts';
import { fresh, one, rollback, version } from '../../harness/undo-run.ts';

const historyOf = (announced: readonly Outcome[], id: string) =>
  announced
    .filter(({ revisionId }) => revisionId === id)
    .map(({ status, version: in_ }) => `${status} ${in_}`);

it('after an undo a repeated record gets the current outcome of its history', async () => {
  const { batch, undo, announce, announced, log } = fresh();
  const a = correction('a');
  await batch(a);
  await announce(1);
  await batch(correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }));
  await announce(2);
  await undo('u1', version(2));
  await announce(3);
  await undo('u2', version(3));
  await announce(4);
  expect(historyOf(announced, 'a')).toEqual([
    'COMMITTED 1',
    'SUPERSEDED 2',
    'COMMITTED 3',
    'RETRACTED 4',
  ]);
  expect(historyOf(announced, 'a2')).toEqual(['COMMITTED 2', 'RETRACTED 3', 'COMMITTED 4']);
  expect(announced.at(-1)!.measured).toEqual({ code: 'reverted', by: 'undo:u2' });
  const { settled } = await batch(a);
  expect(await announce(null, settled)).toMatchObject([
    { status: 'RETRACTED', version: 4, reason: 'reverted by undo:u2' },
  ]);
  expect((await (await log.register()).outcomeHistory('a')).map(({ version: in_ }) => in_)).toEqual(
    [1, 2, 3, 4],
  );
});

it('after an undo a repeated record does not bring back what was undone', async () => {
  const { batch, undo, log } = fresh();
  const a = correction('a');
  await batch(a);
  await undo('u', version(1));
  expect((await batch(a)).edits).toEqual([]);
  expect((await log.read()).active.size).toBe(0);
});

it('after an undo a late revision is compared with what is in force', async () => {
  const { batch, undo, log } = fresh();
  const a = correction('a', { issuedAt: 100 });
  await batch(a);
  const taking = retraction(a, 200);
  await batch(taking);
  await undo('u1', version(2));
  const late = (id: string, issuedAt: number) =>
    correction(id, { subject: 'Subject a', target: `${id} town`, issuedAt });
  await batch(late('late', 150));
  expect([...(await log.read()).active.keys()]).toEqual(['late']);
  // After another undo the fact has no active correction, so the latest outcome of all counts.
  await undo('u2', rollback(0));
  const { settled } = await batch(late('later', 160));
  expect(settled).toMatchObject([
    {
      revisionId: 'later',
      status: 'SUPERSEDED',
      reason: expect.stringContaining('which retracted the fact, was issued later') as string,
    },
  ]);
  expect((await batch(late('newest', 300))).edits).toHaveLength(1);
});

it('after an undo an older revision is superseded by the undo that reverted the fact', async () => {
  const { batch, undo } = fresh();
  await batch(correction('a', { issuedAt: 100 }));
  await undo('u', one('a'));
  expect(
    (await batch(correction('older', { subject: 'Subject a', target: 'Oslo', issuedAt: 50 })))
      .settled,
  ).toMatchObject([
    {
      status: 'SUPERSEDED',
      reason: '"undo:u" reverted a later correction of the fact',
    },
  ]);
  expect(
    (await batch(correction('newer', { subject: 'Subject a', target: 'Oslo', issuedAt: 100 })))
      .edits,
  ).toHaveLength(1);
});
