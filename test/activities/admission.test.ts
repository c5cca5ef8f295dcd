/**
 * Checks that the corrections that hold in the end depend on the revisions and their times, not on
 * arrival order or batch boundaries: the buffer and the plan decide alike.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { planBatch } from '../../activities/batch/plan-batch.ts';
import { cutNumbered } from '../../pipelines/batch/buffer.ts';
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { removalsInForce, type BatchPlan } from '../../schemas/editing.ts';
import { decideFact } from '../../schemas/supersession.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { Versions } from '../../versions/versions.ts';
import { addedCorrection, appendChange } from '../versions/entries.ts';
import { MemoryStore } from '../harness/memory-store.ts';
import { correction, LINEAGE, retraction } from '../harness/corrections.ts';

interface Submitted {
  fact: number;
  issuedAt: number;
  /** Null retracts. */
  target: string | null;
  /** The same id is sent again as another record. */
  twice: boolean;
  partition: number;
}

const submitted = fc.record({
  fact: fc.nat(2),
  issuedAt: fc.integer({ min: 1, max: 4 }),
  target: fc.constantFrom('Lyon', 'Oslo', null),
  twice: fc.boolean(),
  partition: fc.nat(2),
});

it('the winner of a fact holds, unless contradicted, in any order of arrival', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(submitted, { minLength: 1, maxLength: 10 }).chain((items) =>
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
        const { held, outcomes } = await admitted(revisions, cuts);
        expect([...outcomes.keys()].sort()).toEqual(
          revisions.map(({ position }) => position.offset).sort(),
        );
        for (const fact of new Set(revisions.map(({ factKey }) => factKey))) {
          const ofFact = revisions.filter(({ factKey }) => factKey === fact);
          // The first of two records with one id counts.
          const first = new Map([...ofFact].reverse().map((one) => [revisionId(one), one]));
          const { winners } = decideFact([...first.values()]);
          const [winner] = winners;
          const holder = held.get(fact) ?? null;
          if (winner!.kind === 'retraction') expect(holder).toBeNull();
          else if (winners.length > 1) expect(winners.map(revisionId)).not.toContain(holder);
          // A tie between equal answers may go to the older one if the newer id came twice.
          else if (first.size < ofFact.length)
            expect(first.get(holder!)).toMatchObject({
              correction: answerOf(winner as CorrectionRevision),
            });
          else expect(holder).toBe(revisionId(winner!));
        }
      },
    ),
    { numRuns: 150 },
  );
});

function revisionOf(
  { fact, issuedAt, target, partition }: Submitted,
  id: number,
  offset: number,
): FactRevision {
  const made = correction(`c${id}`, {
    subject: `Subject ${fact}`,
    issuedAt,
    target: target ?? 'Lyon',
  });
  const position = { ...made.position, partition, offset: String(offset) };
  return target === null
    ? { ...retraction(made, issuedAt), position, id: `r${offset}` }
    : { ...made, position };
}

function answerOf({ correction: { target, issuedAt } }: CorrectionRevision) {
  return { target, issuedAt };
}

/** The id in force for each fact, and every record's outcomes, once all batches are committed. */
async function admitted(
  revisions: readonly FactRevision[],
  cuts: readonly boolean[],
): Promise<{ held: Map<string, string>; outcomes: Map<string, Outcome['status'][]> }> {
  const versions = new Versions(new MemoryStore());
  const log = versions.log(LINEAGE);
  const outcomes = new Map<string, Outcome['status'][]>();
  const note = (outcome: Outcome) =>
    outcomes.set(outcome.position.offset, [
      ...(outcomes.get(outcome.position.offset) ?? []),
      outcome.status,
    ]);
  let from = 0;
  for (let end = 1; end <= revisions.length; end++) {
    if (end < revisions.length && cuts[end % cuts.length] !== true) continue;
    const waiting = revisions
      .slice(from, end)
      .map((revision) => ({ revision, bytes: 1, arrivedAt: 0 }));
    const limits = { editsMax: 100, bytesMax: 100 };
    const cut = cutNumbered(waiting, limits, { lineage: LINEAGE, sequence: from, now: 1 });
    const plan = await planBatch(versions, {
      lineage: LINEAGE,
      batchId: `b${from}`,
      revisions: cut.revisions,
    });
    const register = await log.register();
    (await register.settle([...cut.settled, ...plan.settled])).forEach(note);
    await commitPlan(log, `b${from}`, plan);
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
    for (const edit of plan.edits) outcomes.set(edit.position.offset, ['COMMITTED']);
    for (const one of plan.withdrawals)
      if (one.kind === 'retraction') outcomes.set(one.position.offset, ['RETRACTED']);
    from = end;
  }
  const { active } = await log.read();
  for (const [offset, statuses] of outcomes)
    expect([offset, statuses]).toEqual([offset, [statuses[0]]]);
  return {
    held: new Map([...active.values()].map(({ factKey, correctionId }) => [factKey, correctionId])),
    outcomes,
  };
}

async function commitPlan(log: VersionLog, batchId: string, plan: BatchPlan): Promise<void> {
  const remove = removalsInForce(plan.removals, plan.edits.map(revisionId)).map(
    ({ correctionId, factKey, because, by }) => ({ correctionId, factKey, because, by }),
  );
  if (plan.edits.length + remove.length > 0) {
    await appendChange(log, {
      batchId,
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
}
