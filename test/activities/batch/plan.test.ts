import { expect, it } from 'vitest';
import { planOf } from '../../../activities/batch/plan.ts';
import { precedentsOf } from '../../../activities/batch/plan-batch.ts';
import type { FactRevision } from '../../../schemas/correction.ts';
import { VersionLog } from '../../../versions/log/version-log.ts';
import { addedCorrection, appendChange } from '../../versions/entries.ts';
import { MemoryStore } from '../../harness/memory-store.ts';
import { correction, retraction, LINEAGE } from '../../harness/corrections.ts';

type Correction = ReturnType<typeof correction>;

async function logWith(...corrections: Correction[]): Promise<VersionLog> {
  const log = new VersionLog(new MemoryStore(), LINEAGE);
  if (corrections.length > 0) {
    await appendChange(log, {
      add: corrections.map(({ factKey, correction: { id, subject, prompt, target, issuedAt } }) =>
        addedCorrection(id, { factKey, subject, prompt, target, issuedAt }),
      ),
    });
  }
  return log;
}

const plan = async (log: VersionLog, ...revisions: FactRevision[]) => {
  const batch = { lineage: LINEAGE, batchId: 'b', revisions };
  return planOf(await precedentsOf(log, await log.read(), batch), batch, 42);
};
const ids = (revisions: readonly Correction[]) =>
  revisions.map((revision) => revision.correction.id);
const settled = (made: Awaited<ReturnType<typeof plan>>) =>
  made.settled.map(({ revisionId, status, version }) => ({ revisionId, status, version }));

it('a plan edits new facts in order', async () => {
  const log = await logWith();
  const made = await plan(log, correction('a'), correction('b'));
  expect(ids(made.edits)).toEqual(['a', 'b']);
  expect(made).toMatchObject({
    head: { version: 0, hash: null },
    committed: null,
    removals: [],
    withdrawals: [],
    settled: [],
  });
});

it('a plan settles committed or repeated corrections as duplicates', async () => {
  const log = await logWith(correction('a'));
  const twice = correction('b');
  const made = await plan(log, correction('a'), twice, { ...twice });
  expect(ids(made.edits)).toEqual(['b']);
  expect(settled(made)).toEqual([
    { revisionId: 'a', status: 'DUPLICATE', version: 1 },
    { revisionId: 'b', status: 'DUPLICATE', version: null },
  ]);
});

it('a plan settles a record as committed if a part of the batch committed it', async () => {
  const a = correction('a');
  const log = new VersionLog(new MemoryStore(), LINEAGE);
  await appendChange(log, {
    add: [addedCorrection('a', { factKey: a.factKey, position: a.position })],
  });
  expect(settled(await plan(log, a))).toEqual([
    { revisionId: 'a', status: 'COMMITTED', version: 1 },
  ]);
});

it('a plan settles a committed correction as a duplicate even after it left the hook', async () => {
  const a = correction('a');
  const log = await logWith(a);
  await appendChange(log, {
    remove: [{ correctionId: 'a', factKey: a.factKey, because: 'retracted', by: 'r' }],
  });
  expect(settled(await plan(log, correction('a')))).toEqual([
    { revisionId: 'a', status: 'DUPLICATE', version: 1 },
  ]);
});

it('a plan removes the committed correction that a later one supersedes', async () => {
  const log = await logWith(correction('old'));
  const made = await plan(
    log,
    correction('new', { subject: 'Subject old', target: 'Oslo', issuedAt: 1_001 }),
  );
  expect(ids(made.edits)).toEqual(['new']);
  expect(made.removals).toMatchObject([
    { correctionId: 'old', factKey: made.edits[0]!.factKey, because: 'superseded', by: 'new' },
  ]);
});

it('a plan lets a correction win a tie in time, since its record came later', async () => {
  const log = await logWith(correction('old', { issuedAt: 5 }));
  expect(
    (await plan(log, correction('new', { subject: 'Subject old', issuedAt: 5 }))).removals,
  ).toHaveLength(1);
});

it('a plan keeps neither of two contradicting corrections if one is committed', async () => {
  const log = await logWith(correction('first', { issuedAt: 5 }));
  const second = correction('second', { subject: 'Subject first', target: 'Oslo', issuedAt: 5 });
  const made = await plan(log, second);
  expect(made).toMatchObject({
    edits: [],
    settled: [],
    withdrawals: [second],
    removals: [{ correctionId: 'first', because: 'contradicted', by: 'second' }],
  });
  await appendChange(log, {
    remove: [
      { correctionId: 'first', factKey: second.factKey, because: 'contradicted', by: 'second' },
    ],
  });
  const third = await plan(log, correction('third', { subject: 'Subject first', issuedAt: 5 }));
  expect(third.settled).toMatchObject([
    {
      revisionId: 'third',
      status: 'QUARANTINED',
      measured: { code: 'contradiction', issuedAt: 5 },
    },
  ]);
  expect(
    ids((await plan(log, correction('later', { subject: 'Subject first', issuedAt: 6 }))).edits),
  ).toEqual(['later']);
  expect(
    (await plan(log, correction('earlier', { subject: 'Subject first', issuedAt: 4 }))).settled,
  ).toMatchObject([{ status: 'SUPERSEDED', version: 2 }]);
});

it('a plan settles a late old correction as superseded by the committed one', async () => {
  const log = await logWith(correction('newer', { issuedAt: 5_000 }));
  const made = await plan(log, correction('older', { subject: 'Subject newer', issuedAt: 4_999 }));
  expect(made.edits).toEqual([]);
  expect(made.removals).toEqual([]);
  expect(settled(made)).toEqual([{ revisionId: 'older', status: 'SUPERSEDED', version: 1 }]);
});

it('a plan supersedes a correction that is older than the retraction of its fact', async () => {
  const a = correction('a');
  const log = await logWith(a);
  await appendChange(log, {
    remove: [{ correctionId: 'a', factKey: a.factKey, because: 'retracted', by: 'r' }],
    retractions: [{ id: 'r', factKey: a.factKey, issuedAt: 3_000, position: a.position }],
  });
  expect(
    settled(await plan(log, correction('late', { subject: 'Subject a', issuedAt: 2_999 }))),
  ).toEqual([{ revisionId: 'late', status: 'SUPERSEDED', version: 2 }]);
  expect(
    ids((await plan(log, correction('again', { subject: 'Subject a', issuedAt: 3_001 }))).edits),
  ).toEqual(['again']);
});

it('a plan keeps the newest of several revisions of one fact', async () => {
  const log = await logWith();
  const same = { subject: 'S' };
  const [first, newest, last] = [
    correction('1', { ...same, issuedAt: 10 }),
    correction('2', { ...same, issuedAt: 30 }),
    correction('3', { ...same, issuedAt: 20 }),
  ];
  const made = await plan(log, first, newest, last);
  expect(ids(made.edits)).toEqual(['2']);
  expect(made.settled.map(({ revisionId, status }) => [revisionId, status])).toEqual([
    ['1', 'SUPERSEDED'],
    ['3', 'SUPERSEDED'],
  ]);
});

it('a plan keeps different facts of one subject apart', async () => {
  const log = await logWith();
  const made = await plan(
    log,
    correction('1', { subject: 'S', prompt: 'S is in' }),
    correction('2', { subject: 'S', prompt: 'S speaks' }),
  );
  expect(ids(made.edits)).toEqual(['1', '2']);
});

it('a plan edits the newer of two facts that answer one prompt differently', async () => {
  const log = await logWith();
  const made = await plan(
    log,
    correction('1', { subject: 'S', relation: 'place', target: 'Oslo' }),
    correction('2', { subject: 'S', relation: 'location', target: 'Rome', issuedAt: 2_000 }),
  );
  expect(ids(made.edits)).toEqual(['2']);
  expect(made.settled[0]).toMatchObject({
    revisionId: '1',
    status: 'SUPERSEDED',
    measured: { by: '2' },
  });
  const equal = await plan(
    log,
    correction('3', { subject: 'S', relation: 'place', target: 'Oslo' }),
    correction('4', { subject: 'S', relation: 'location', target: 'Rome' }),
  );
  expect(equal.edits).toEqual([]);
  expect(
    equal.settled.map(({ revisionId, status, measured }) => [revisionId, status, measured['code']]),
  ).toEqual([
    ['3', 'QUARANTINED', 'contradiction'],
    ['4', 'QUARANTINED', 'contradiction'],
  ]);
});

it('a plan supersedes a committed correction with its prompt but another relation', async () => {
  const log = await logWith(correction('old', { subject: 'S', relation: 'place', target: 'Oslo' }));
  const made = await plan(
    log,
    correction('new', { subject: 'S', relation: 'location', target: 'Rome', issuedAt: 9_000 }),
  );
  expect(made.removals).toMatchObject([
    { correctionId: 'old', factKey: 'S|place', because: 'superseded', by: 'new' },
  ]);
  expect(
    settled(
      await plan(
        log,
        correction('older', { subject: 'S', relation: 'location', target: 'Rome', issuedAt: 9 }),
      ),
    ),
  ).toEqual([{ revisionId: 'older', status: 'SUPERSEDED', version: 1 }]);
});

it('a plan retracts a committed fact', async () => {
  const a = correction('a');
  const log = await logWith(a);
  const gone = retraction(a);
  const made = await plan(log, gone);
  expect(made.withdrawals).toEqual([gone]);
  expect(made.removals).toMatchObject([
    { correctionId: 'a', factKey: a.factKey, because: 'retracted', by: gone.id },
  ]);
});

it('a plan has nothing to retract for an unknown fact, and keeps a later correction', async () => {
  const a = correction('a', { issuedAt: 9_000 });
  const log = await logWith(a);
  expect(settled(await plan(log, retraction(correction('unknown'))))).toMatchObject([
    { status: 'NOTHING_TO_RETRACT', version: null },
  ]);
  expect(settled(await plan(log, retraction(a, 8_999)))).toMatchObject([
    { status: 'SUPERSEDED', version: 1 },
  ]);
});

it('a plan compares a correction and a retraction of one fact by time', async () => {
  const log = await logWith();
  const a = correction('a', { issuedAt: 1_000 });
  const made = await plan(log, a, retraction(a, 2_000));
  expect(made.edits).toEqual([]);
  expect(made.settled.map(({ status }) => status).sort()).toEqual([
    'NOTHING_TO_RETRACT',
    'SUPERSEDED',
  ]);
  const later = await plan(log, retraction(a, 500), a);
  expect(ids(later.edits)).toEqual(['a']);
});

it('a plan decides every revision exactly once', async () => {
  const committed = [correction('a'), correction('b', { issuedAt: 9_000 }), correction('c')];
  const log = await logWith(...committed);
  const revisions = [
    correction('a'),
    correction('b2', { subject: 'Subject b' }),
    correction('c2', { subject: 'Subject c', issuedAt: 5_000 }),
    retraction(committed[0]!),
    retraction(committed[2]!, 4_000),
    correction('d'),
    correction('d'),
  ];
  const made = await plan(log, ...revisions);
  expect(made.edits.length + made.withdrawals.length + made.settled.length).toBe(revisions.length);
});
