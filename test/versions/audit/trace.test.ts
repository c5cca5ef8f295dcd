import { describe, expect, it } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../../activities/index.ts';
import { differenceOf } from '../../../versions/audit/difference.ts';
import { traces } from '../../../versions/audit/trace.ts';
import { factOf, refusedAbout } from '../../../versions/audit/refused.ts';
import { Versions } from '../../../versions/versions.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import { runBatch } from '../../harness/test-lineage.ts';
import { runUndo, undoRequest } from '../../harness/undo-run.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { addedCorrection, appendChange } from '../entries.ts';
import { MemoryStore } from '../../harness/memory-store.ts';

type Revisions = Parameters<typeof runBatch>[2];

/** A lineage of these batches, read by somebody who has read nothing yet. */
async function lineageOf(...batches: Revisions[]) {
  const store = new MemoryStore();
  const writing = new Versions(store);
  const activities = {
    ...createEditActivities({ engine: new FakeEngine(), versions: writing }),
    ...createLedgerActivities({ versions: writing }),
  };
  for (const [i, revisions] of batches.entries())
    await (await runBatch(activities, `batch-${i + 1}`, revisions)).commit();
  return { store, writing, log: new Versions(store).log(LINEAGE) };
}

it('a trace has the record, the version, its probes and no later touches', async () => {
  const a = correction('a', { source: 'editor' });
  const { log } = await lineageOf([a, correction('b')]);
  const [trace] = await traces(log, { ids: ['a'] });
  expect(trace).toMatchObject({
    id: 'a',
    kind: 'correction',
    state: 'holds',
    correction: {
      subject: 'Subject a',
      target: 'Lyon',
      source: 'editor',
      position: a.position,
    },
    outcome: { status: 'COMMITTED', version: 1, position: a.position },
    committed: {
      version: 1,
      batchId: 'batch-1',
      workflow: { workflowId: 'edit-batch/l/1', runId: 'run' },
      probe: { id: 'a', answerAfter: ' Lyon', effective: true },
      scores: { after: { efficacy: 1 } },
    },
    later: [],
    sameSubject: [],
  });
});

it('a trace has the later changes of the correction and of its subject', async () => {
  const { log } = await lineageOf(
    [correction('a')],
    [
      correction('beside', {
        subject: 'Subject a',
        prompt: 'The mayor of Subject a is',
        target: 'Anna',
      }),
    ],
    [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 })],
    [correction('c')],
  );
  const [trace] = await traces(log, { ids: ['a'] });
  expect(trace).toMatchObject({
    state: 'left',
    later: [
      {
        version: 3,
        change: 'superseded',
        by: 'a2',
        successor: { id: 'a2', target: 'Oslo' },
        batchId: 'batch-3',
      },
    ],
    sameSubject: [
      { version: 2, correctionId: 'beside', change: 'added', target: 'Anna' },
      { version: 3, correctionId: 'a2', change: 'added', target: 'Oslo' },
    ],
  });
  expect((await traces(log, { ids: ['a'] }, 2))[0]).toMatchObject({ state: 'holds', later: [] });
});

it('a trace is found by subject and by prompt, the latest first', async () => {
  const { log } = await lineageOf(
    [correction('a')],
    [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }), correction('b')],
  );
  expect((await traces(log, { subjects: ['  Subject   a '] })).map(({ id }) => id)).toEqual([
    'a2',
    'a',
  ]);
  expect((await traces(log, { prompts: ['One finds Subject b in'] })).map(({ id }) => id)).toEqual([
    'b',
  ]);
  expect(await traces(log, { subjects: ['Subject'] })).toEqual([]);
});

it('a retraction has a trace with the correction that it removed', async () => {
  const a = correction('a');
  const gone = retraction(a);
  const { log } = await lineageOf([a], [gone]);
  expect((await traces(log, { ids: [gone.id] }))[0]).toMatchObject({
    kind: 'retraction',
    state: 'carried-out',
    committed: { version: 2, probe: null },
    later: [{ correctionId: 'a', change: 'retracted' }],
  });
  expect((await traces(log, { ids: ['a'] }))[0]).toMatchObject({
    state: 'left',
    later: [{ change: 'retracted', by: gone.id, successor: null }],
  });
});

it('a trace of an unregistered version is complete, and writes nothing', async () => {
  const { store, log } = await lineageOf([correction('a')]);
  const before = [...store.objects.keys()];
  expect((await traces(log, { ids: ['a'] }))[0]).toMatchObject({
    outcome: { status: 'COMMITTED', version: 1 },
  });
  expect([...store.objects.keys()]).toEqual(before);
  expect(before.some((name) => name.includes('/register/revisions/'))).toBe(false);
});

it('a trace of a refused correction has its outcome and its resubmission', async () => {
  const { writing, log } = await lineageOf([correction('a')]);
  const refused = {
    lineage: LINEAGE,
    revisionId: 'x',
    factKey: 'Subject x|{} is in',
    status: 'QUARANTINED' as const,
    version: null,
    reason: 'it has no effect',
    measured: { code: 'not-effective' },
    position: { topic: 't', partition: 1, offset: '7' },
    batchId: 'batch-9',
    decidedAt: 5,
  };
  await (await writing.log(LINEAGE).register()).settle([refused]);
  await appendChange(writing.log(LINEAGE), {
    add: [
      addedCorrection('x~2', {
        subject: 'Subject x',
        replayOf: 'x',
        factKey: 'Subject x|{} is in',
      }),
    ],
  }).catch(() => undefined);
  expect((await traces(log, { ids: ['x'] }))[0]).toMatchObject({
    state: 'never-held',
    correction: null,
    committed: null,
    outcome: {
      status: 'QUARANTINED',
      reason: 'it has no effect',
      position: { partition: 1, offset: '7' },
    },
    replayedBy: [{ id: 'x~2', version: 2 }],
  });
  expect((await refusedAbout(log, { prompt: 'Subject x is in' })).outcomes).toMatchObject([
    { revisionId: 'x' },
  ]);
  expect((await refusedAbout(log, { subjects: ['Subject x'] })).outcomes).toMatchObject([
    { revisionId: 'x' },
  ]);
  expect((await refusedAbout(log, { prompt: 'Subject y is in' })).outcomes).toEqual([]);
});

it('an id that was never decided has no trace', async () => {
  const { log } = await lineageOf([correction('a')]);
  expect(await traces(log, { ids: ['nobody'] })).toEqual([]);
});

it('factOf parses the key of a fact', () => {
  expect(factOf('Subject a|{} is in')).toEqual({
    subject: 'Subject a',
    relation: '{} is in',
    prompt: 'Subject a is in',
  });
  expect(factOf('a\\|b\\\\|mayor')).toEqual({
    subject: 'a|b\\',
    relation: 'mayor',
    prompt: null,
  });
  expect(factOf('no key')).toBeNull();
});

describe('an undo', () => {
  it('is in the traces of what it removed and restored, and in the difference', async () => {
    const versions = new Versions(new MemoryStore());
    const activities = {
      ...createEditActivities({ engine: new FakeEngine(), versions }),
      ...createLedgerActivities({ versions }),
    };
    await (await runBatch(activities, '1', [correction('a')])).commit();
    await (
      await runBatch(activities, '2', [
        correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 1_500 }),
        correction('c'),
      ])
    ).commit();
    await runUndo(activities, undoRequest('u', { kind: 'version', version: 2 }));
    const log = versions.log(LINEAGE);
    expect((await traces(log, { ids: ['a'] }))[0]).toMatchObject({
      state: 'holds',
      committed: { version: 1 },
      later: [
        { version: 2, change: 'superseded', by: 'a2' },
        { version: 3, change: 'restored', by: 'undo:u', undo: { id: 'u' } },
      ],
    });
    expect((await traces(log, { ids: ['a2'] }))[0]).toMatchObject({
      state: 'left',
      later: [{ version: 3, change: 'reverted', by: 'undo:u', undo: { id: 'u' } }],
    });
    expect(await differenceOf(log, 2, 3)).toMatchObject({
      superseded: [{ before: { correctionId: 'a2' }, after: { correctionId: 'a' } }],
      restored: [{ correctionId: 'a' }],
      reverted: [{ correctionId: 'c', by: { revision: 'undo:u' } }],
      retracted: [],
    });
    expect(await differenceOf(log, 1, 3)).toMatchObject({
      added: [],
      superseded: [],
      reverted: [],
      restored: [],
    });
  });
});

describe('the difference of two versions', () => {
  it('names facts that came, went and changed, whichever version is the earlier one', async () => {
    const b = correction('b');
    const { log } = await lineageOf(
      [correction('a'), b],
      [correction('a2', { subject: 'Subject a', target: 'Oslo', issuedAt: 2_000 }), retraction(b)],
      [correction('c')],
    );
    expect(await differenceOf(log, 1, 3)).toMatchObject({
      from: { version: 1, corrections: 2 },
      to: { version: 3, corrections: 2 },
      added: [{ correctionId: 'c', by: { version: 3 } }],
      superseded: [
        {
          before: { correctionId: 'a', target: 'Lyon' },
          after: { correctionId: 'a2', target: 'Oslo' },
          by: { version: 2 },
        },
      ],
      retracted: [{ correctionId: 'b', by: { version: 2 } }],
      notYet: [],
      passing: 0,
      answers: { left: 0 },
    });
    expect(await differenceOf(log, 3, 1)).toMatchObject({
      added: [{ correctionId: 'b' }],
      superseded: [{ before: { target: 'Oslo' }, after: { target: 'Lyon' } }],
      notYet: [{ correctionId: 'c' }],
      retracted: [],
    });
    const own = (await differenceOf(log, 0, 3)).answers.changed.find(
      ({ prompt, kind }) => kind === 'own' && prompt === 'Subject a is in',
    );
    expect(own).toMatchObject({ after: ' Oslo', version: 2, correctionId: 'a2' });
  });

  it('is nothing between a version and itself, and counts what only passed', async () => {
    const a = correction('a');
    const { log } = await lineageOf([correction('z')], [a], [retraction(a)]);
    expect(await differenceOf(log, 3, 3)).toMatchObject({
      added: [],
      superseded: [],
      retracted: [],
      notYet: [],
      madeWith: [],
      answers: { changed: [] },
    });
    expect(await differenceOf(log, 1, 3)).toMatchObject({ added: [], retracted: [], passing: 1 });
    await expect(differenceOf(log, 1, 9)).rejects.toMatchObject({ name: 'VersionUnknown' });
  });
});
