/**
 * What holds in the end hangs on what was said and when, not on the order of arrival or on where
 * batches were cut.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planBatch } from '../../activities/batch/plan-batch.ts';
import { revisionId, revisionIssuedAt, type FactRevision } from '../../schemas/correction.ts';
import { removalsInForce, type Outcome } from '../../schemas/editing.ts';
import { Versions } from '../../versions/versions.ts';
import { addedCorrection, appendChange } from '../versions/entries.ts';
import { MemoryStore } from '../versions/stores/memory-store.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';

interface Said {
  fact: number;
  issuedAt: number;
  /** Null retracts. */
  target: string | null;
  /** The same id again, of another record. */
  twice: boolean;
}

const said = fc.record({
  fact: fc.nat(2),
  issuedAt: fc.integer({ min: 1, max: 4 }),
  target: fc.constantFrom('Lyon', 'Oslo', null),
  twice: fc.boolean(),
});

it('of a fact holds what was said last, unless it was contradicted, however it arrived', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(said, { minLength: 1, maxLength: 10 }).chain((items) =>
        fc.tuple(
          fc.constant(items),
          fc.shuffledSubarray(
            items.flatMap((item, i) => (item.twice && item.target !== null ? [i, i] : [i])),
            { minLength: items.length },
          ),
          fc.array(fc.boolean(), { minLength: 24, maxLength: 24 }),
        ),
      ),
      async ([items, arrival, cuts]) => {
        const revisions = arrival.map((i, offset) => revisionOf(items[i]!, i, offset));
        const { held, fates } = await admitted(revisions, cuts);
        expect([...fates.keys()].sort()).toEqual(
          revisions.map(({ position }) => position.offset).sort(),
        );
        for (const fact of new Set(revisions.map(({ factKey }) => factKey))) {
          const ofFact = revisions.filter(({ factKey }) => factKey === fact);
          const latest = Math.max(...ofFact.map(revisionIssuedAt));
          const last = ofFact.filter((revision) => revisionIssuedAt(revision) === latest);
          const targets = new Set(
            last.map((revision) =>
              revision.kind === 'correction' ? revision.correction.target : null,
            ),
          );
          // A retraction and a correction of one time: the record that came last counts, which is a
          // matter of order.
          if (targets.has(null) && targets.size > 1) continue;
          const [target] = targets;
          if (targets.size === 1) expect(held.get(fact) ?? null).toBe(target);
          else
            expect(
              held.has(fact) &&
                ofFact.some(
                  (one) =>
                    one.kind === 'correction' &&
                    one.correction.issuedAt === latest &&
                    revisionId(one) === held.get(`${fact} id`),
                ),
            ).toBe(false);
        }
      },
    ),
    { numRuns: 150 },
  );
});

function revisionOf({ fact, issuedAt, target }: Said, id: number, offset: number): FactRevision {
  const made = correction(`c${id}`, {
    subject: `Subject ${fact}`,
    issuedAt,
    target: target ?? 'Lyon',
  });
  const position = { ...made.position, offset: String(offset) };
  return target === null
    ? { ...retraction(made, issuedAt), position, id: `r${offset}` }
    : { ...made, position };
}

/**
 * What holds by fact, and every record's own outcomes, once all were planned and committed in
 * batches.
 */
async function admitted(
  revisions: readonly FactRevision[],
  cuts: readonly boolean[],
): Promise<{ held: Map<string, string>; fates: Map<string, Outcome['status'][]> }> {
  const versions = new Versions(new MemoryStore());
  const log = versions.log(LINEAGE);
  const fates = new Map<string, Outcome['status'][]>();
  const note = (outcome: Outcome) =>
    fates.set(outcome.position.offset, [
      ...(fates.get(outcome.position.offset) ?? []),
      outcome.status,
    ]);
  let from = 0;
  for (let end = 1; end <= revisions.length; end++) {
    if (end < revisions.length && cuts[end % cuts.length] !== true) continue;
    const plan = await planBatch(versions, {
      lineage: LINEAGE,
      batchId: `b${from}`,
      revisions: revisions.slice(from, end),
    });
    const register = await log.register();
    (await register.settle(plan.settled)).forEach(note);
    const remove = removalsInForce(plan.removals, plan.edits.map(revisionId)).map(
      ({ correctionId, factKey, because, by }) => ({ correctionId, factKey, because, by }),
    );
    if (plan.edits.length + remove.length > 0) {
      await appendChange(log, {
        batchId: `b${from}`,
        add: plan.edits.map(
          ({ factKey, position, correction: { id, subject, prompt, target, issuedAt } }) =>
            addedCorrection(id, { factKey, position, subject, prompt, target, issuedAt }),
        ),
        remove,
        retractions: plan.withdrawals.flatMap((one) =>
          one.kind === 'retraction'
            ? [{ id: one.id, factKey: one.factKey, issuedAt: one.issuedAt, position: one.position }]
            : [],
        ),
      });
    }
    const decided = {
      lineage: LINEAGE,
      version: null,
      reason: null,
      batchId: `b${from}`,
      decidedAt: 1,
    };
    const contradicted = plan.withdrawals.flatMap((one): Outcome[] =>
      one.kind === 'correction'
        ? [
            {
              ...decided,
              revisionId: one.correction.id,
              factKey: one.factKey,
              status: 'QUARANTINED',
              position: one.position,
              measured: { code: 'contradiction', issuedAt: one.correction.issuedAt },
            },
          ]
        : [],
    );
    (await (await log.register()).settle(contradicted)).forEach(note);
    for (const edit of plan.edits) fates.set(edit.position.offset, ['COMMITTED']);
    for (const one of plan.withdrawals)
      if (one.kind === 'retraction') fates.set(one.position.offset, ['RETRACTED']);
    from = end;
  }
  const { active } = await log.read();
  for (const [offset, statuses] of fates)
    expect([offset, statuses]).toEqual([offset, [statuses[0]]]);
  return {
    held: new Map(
      [...active.values()].flatMap(({ factKey, target, correctionId }) => [
        [factKey, target],
        [`${factKey} id`, correctionId],
      ]),
    ),
    fates,
  };
}
