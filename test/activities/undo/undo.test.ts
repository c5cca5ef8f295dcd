import { expect, it } from 'vitest';
import { createEditActivities } from '../../../activities/index.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../../schemas/settings.ts';
import type { Outcome } from '../../../schemas/outcome.ts';
import type { UndoTarget } from '../../../schemas/undo.ts';
import { StagingGone } from '../../../versions/log/failures.ts';
import { OBJECT_BYTES_MAX } from '../../../versions/stores/object-store.ts';
import { undoOf } from '../../../versions/undo.ts';
import { FakeEngine } from '../../harness/fake-engine.ts';
import { addedCorrection, appendChange } from '../../versions/entries.ts';
import { correction, LINEAGE, retraction } from '../../harness/corrections.ts';
import {
  fresh,
  one,
  planned,
  rollback,
  runUndo,
  undoRequest,
  version,
} from '../../harness/undo-run.ts';

/** A newer correction of the fact that `correction(id)` corrects. */
function successor(id: string) {
  return correction(`${id}2`, { subject: `Subject ${id}`, target: 'Oslo', issuedAt: 1_500 });
}

function quarantinedOutcome(
  revisionId: string,
  reason: string,
  measured: Outcome['measured'],
): Outcome {
  const position = { topic: 't', partition: 0, offset: '99' };
  const decided = { lineage: LINEAGE, batchId: 'b3', decidedAt: 1, version: null, position };
  const factKey = revisionId === 'b2' ? 'Subject b|' : 'x|';
  return { ...decided, revisionId, factKey, status: 'QUARANTINED', reason, measured };
}

it('an undo is a version that removes what was added and restores what was removed', async () => {
  const { batch, undo, log, versions } = fresh();
  const a = correction('a', { replayOf: 'z' });
  await batch(a, correction('b'));
  await batch(successor('a'), correction('c'));
  const { version: made, probes } = await undo('u', version(2));
  expect(made).toBe(3);
  expect(probes!.after).toMatchObject({ efficacy: 1, retention: 1 });
  const first = (await log.entry(1)).entry.added[0]!;
  expect((await log.entry(3)).entry).toMatchObject({
    batchId: 'undo-u',
    undo: undoRequest('u', version(2)),
    added: [{ ...first, row: 0, origin: { version: 1, row: 0 } }],
    removed: [
      { correctionId: 'a2', because: 'reverted', by: 'undo:u' },
      { correctionId: 'c', because: 'reverted', by: 'undo:u' },
    ],
    retractions: [],
    searches: [],
    corrections: 2,
    workflow: { workflowId: 'undo/l/u' },
  });
  expect([...(await log.read()).active.keys()]).toEqual(['a', 'b']);
  expect((await versions.verify(LINEAGE)).findings).toEqual([]);
});

it('an undo of a retraction or a contradiction restores what that removed', async () => {
  const { batch, undo, log } = fresh();
  const a = correction('a');
  await batch(a, correction('b'));
  const taking = retraction(a);
  await batch(taking);
  await undo('u1', one(taking.id));
  expect([...(await log.read()).active.keys()]).toEqual(['a', 'b']);
  const plan = await batch(correction('b2', { subject: 'Subject b', target: 'Oslo' }));
  expect(plan.withdrawals).toHaveLength(1);
  expect([...(await log.read()).active.keys()]).toEqual(['a']);
  const register = await log.register();
  await register.settle([
    quarantinedOutcome('b2', 'contradicts', { code: 'contradiction', others: 1, issuedAt: 1_000 }),
  ]);
  await undo('u2', one('b2'));
  expect([...(await log.read()).active.keys()]).toEqual(['a', 'b']);
});

it('an undo leaves a fact that a later change corrects, and names that change', async () => {
  const { batch, undo, log } = fresh();
  const a = correction('a');
  await batch(a, correction('b'), correction('c'));
  await batch(successor('a'), successor('b'), successor('c'));
  await batch(
    retraction(a, 3_000),
    correction('b3', { subject: 'Subject b', target: 'Rome', issuedAt: 3_000 }),
  );
  const { plan } = await undo('u', version(2));
  expect(plan).toMatchObject({
    removed: 1,
    restored: 1,
    kept: [
      {
        correctionId: 'a',
        reason: expect.stringMatching(
          new RegExp(
            '^"a2", which had its fact, was retracted by "retract:.*" in version 3; ' +
              'undo that version, or roll back$',
          ),
        ) as string,
      },
      { correctionId: 'b', reason: '"b3", in version 3, holds its fact' },
    ],
  });
  expect([...(await log.read()).active.keys()]).toEqual(['c', 'b3']);
  // Once the later change is undone, the rest can be undone too.
  await undo('u2', version(3));
  expect([...(await log.read()).active.keys()]).toEqual(['c', 'a2', 'b2']);
  await undo('u3', version(2));
  expect([...(await log.read()).active.keys()]).toEqual(['a', 'b', 'c']);
});

it('an undo restores nothing that was since retracted or corrected otherwise', async () => {
  const { batch, undo, log } = fresh();
  const a = correction('a');
  await batch(a, correction('b'));
  await undo('u1', version(1));
  await batch(correction('rival', { subject: 'Subject a', relation: 'another', target: 'Rome' }));
  const settled = (await batch(retraction(correction('b')))).settled;
  await (await log.register()).settle(settled);
  const { plan, version: made } = await undo('u2', version(2));
  expect([made, plan.nothing]).toEqual([
    null,
    'nothing of version 2 is left to undo: what it added does not hold, ' +
      'and what it took out cannot come back',
  ]);
  expect(plan.kept).toEqual([
    { correctionId: 'a', reason: '"rival", in version 3, answers the same prompt differently' },
    {
      correctionId: 'b',
      reason: expect.stringMatching(
        /^"retract:.*" retracted its fact while nothing held it$/,
      ) as string,
    },
  ]);
});

it('an undo says why there is nothing to do', async () => {
  const { batch, undo, activities, log } = fresh();
  await batch(correction('a'));
  await batch(successor('a'));
  const refused = quarantinedOutcome('x', 'it does not hold', { code: 'not-effective' });
  await (await log.register()).settle([refused]);
  const why = async (target: UndoTarget) =>
    (await planned(activities, undoRequest('w', target))).nothing;
  expect(await why(version(12))).toBe('version 12 does not exist; HEAD is 2');
  expect(await why(rollback(12))).toBe('version 12 does not exist; HEAD is 2');
  expect(await why(rollback(2))).toBe('HEAD is version 2');
  expect(await why(one('unheard'))).toBe(
    'no correction or retraction "unheard" was decided in this lineage',
  );
  expect(await why(one('x'))).toBe(
    '"x" was never committed: it became quarantined (it does not hold)',
  );
  expect(await why(one('a'))).toBe(
    '"a" does not hold: it became superseded in version 2 (superseded by a2); ' +
      'undo "a2" or version 2',
  );
  await undo('u', one('a2'));
  expect(await why(one('a2'))).toBe(
    '"a2" does not hold: it became retracted in version 3 (reverted by undo:u); undo version 3',
  );
  expect(await why(version(2))).toBe(
    'nothing of version 2 is left to undo: what it added does not hold, and what it took out holds',
  );
  expect(await why(rollback(1))).toBe('the corrections of version 1 are those that hold');
  expect(await undoOf(log, undoRequest('dry', version(3)))).toMatchObject({
    head: { version: 3 },
    nothing: null,
    removals: [{ correctionId: 'a', because: 'reverted', by: 'undo:dry' }],
    restored: [{ revision: { correction: { id: 'a2' } }, origin: { version: 2, row: 0 } }],
  });
});

it('an undo to the base model removes everything, and its undo restores everything', async () => {
  const { batch, undo, log } = fresh();
  await batch(correction('a'), correction('b'));
  await batch(correction('c'));
  await undo('u1', rollback(0));
  expect((await log.entry(3)).entry).toMatchObject({ pairs: null, added: [], corrections: 0 });
  await undo('u2', rollback(2));
  expect([...(await log.read()).active.keys()]).toEqual(['a', 'b', 'c']);
});

it('an undo that would exceed the size of a version is not started', async () => {
  const { log, activities } = fresh();
  await appendChange(log, {
    add: [addedCorrection('a'), addedCorrection('b')],
    pairs: { sha256: 'ab'.repeat(32), bytes: OBJECT_BYTES_MAX },
  });
  await appendChange(log, {
    remove: [
      { correctionId: 'a', factKey: 'a|{} is in', because: 'superseded', by: 'c' },
      { correctionId: 'b', factKey: 'b|{} is in', because: 'superseded', by: 'c' },
    ],
    add: [addedCorrection('c')],
  });
  expect(await planned(activities, undoRequest('u', rollback(1)))).toMatchObject({
    steps: null,
    nothing:
      'it would take out 1 and restore 2 corrections, more than one version has room for; ' +
      'roll back to a version in between first',
  });
  expect(await planned(activities, undoRequest('v', rollback(0)))).toMatchObject({
    removed: 1,
    restored: 0,
    nothing: null,
  });
});

it('an undo that fails its probes is refused and writes nothing', async () => {
  const { batch, activities, versions, log } = fresh();
  await batch(correction('a'), correction('b'));
  await batch(successor('a'));
  const strict = { ...DEFAULT_LINEAGE_SETTINGS.verdict, editNormMax: 0.001 };
  const engine = new FakeEngine();
  const hold = engine.holdHook.bind(engine);
  // The staged hook has a greater norm than the committed one.
  engine.holdHook = async (...hook) => ({
    ...(await hold(...hook)),
    layers: [{ layer: 1, editNorm: 3, threshold: 0.3 }],
  });
  const refused = await runUndo(
    { ...activities, ...createEditActivities({ engine, versions }) },
    undoRequest('u', version(2)),
    strict,
  );
  expect(refused).toMatchObject({
    version: null,
    probes: { verdict: { pass: false, failing: [{ id: 'a', code: 'norm-exceeded' }] } },
  });
  await expect(refused.commit!()).rejects.toThrow(/its probes failed/);
  expect((await log.read()).head.version).toBe(2);
});

it('an undo repeated at any step, after a crash or reset, makes one version', async () => {
  const { store, batch, undo, log } = fresh();
  await batch(correction('a'), correction('b'));
  const done = await undo('u', one('a'));
  const again = fresh(store);
  expect(await done.commit!()).toMatchObject({ kind: 'committed', version: 2, already: true });
  expect(await planned(again.activities, undoRequest('u', one('a')))).toMatchObject({
    committed: { version: 2 },
    steps: null,
    removed: 1,
    restored: 0,
    nothing: null,
  });
  // Its staged objects are gone, so a late step plans again.
  await expect(again.activities.stageUndo(done.step!)).rejects.toThrow(StagingGone);
  expect((await log.read()).head.version).toBe(2);
});

it('an undo that loses the race for HEAD changes nothing and is planned again', async () => {
  const { batch, activities, log } = fresh();
  await batch(correction('a'), correction('b'));
  const request = undoRequest('u', one('a'));
  const plan = await planned(activities, request);
  const step = { lineage: LINEAGE, batchId: 'undo-u', head: plan.head, steps: plan.steps! };
  const staged = await activities.stageUndo(step);
  const settings = DEFAULT_LINEAGE_SETTINGS.verdict;
  const probes = await activities.probeUndo({ ...step, staged, settings });
  const workflow = { workflowId: 'w', runId: 'r' };
  await batch(successor('a'));
  expect(await activities.commitUndo({ ...step, staged, probes, request, workflow })).toMatchObject(
    { kind: 'head-moved', head: { version: 2 } },
  );
  expect((await planned(activities, request)).nothing).toBe(
    '"a" does not hold: it became superseded in version 2 (superseded by a2); ' +
      'undo "a2" or version 2',
  );
  expect((await log.read()).head.version).toBe(2);
});
