import fc from 'fast-check';
import { expect, it } from 'vitest';
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import { compareRanks, decideFact, rankOf } from '../../schemas/supersession.ts';
import { correctionAt, factCorrection, retractionAt } from '../harness/corrections.ts';

const FACT = 'S|place';

/** Revisions of one fact with few times and targets, so that ties are common; ids differ. */
const revisions = fc
  .array(
    fc.record({
      issuedAt: fc.integer({ min: 1, max: 3 }),
      target: fc.constantFrom('Lyon', 'Oslo', null),
      partition: fc.nat(1),
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((items) =>
    items.map(({ issuedAt, target, partition }, i): FactRevision => {
      const offset = Math.floor(i / 2);
      const given = { subject: 'S', issuedAt, target: target ?? '' };
      return target === null
        ? retractionAt(i + 100, FACT, issuedAt, partition)
        : correctionAt(offset, factCorrection(`c${i}`, given), partition);
    }),
  );
const targetsOf = (decided: readonly FactRevision[]): unknown[] =>
  [...new Set(decided.map((one) => one.kind === 'correction' && one.correction.target))].sort();

it('the same revisions of a fact win in whatever order they come', () => {
  const shuffled = revisions.chain((items) =>
    fc.tuple(fc.constant(items), fc.shuffledSubarray(items, { minLength: items.length })),
  );
  fc.assert(
    fc.property(shuffled, ([items, other]) => {
      const ids = (all: readonly FactRevision[]): string[] => all.map(revisionId);
      const [one, two] = [decideFact(items), decideFact(other)];
      // Two records at one place differ in their ids alone, which no rank compares.
      fc.pre(new Set(items.map((item) => JSON.stringify(rankOf(item)))).size === items.length);
      expect(ids(two.winners)).toEqual(ids(one.winners));
      expect(ids(two.superseded)).toEqual(ids(one.superseded));
    }),
  );
});

it('the same revision wins if only the winners of the earlier ones are left', () => {
  fc.assert(
    fc.property(revisions, revisions, (earlier, later) => {
      const renamed = later.map((one): FactRevision =>
        one.kind === 'correction'
          ? { ...one, correction: { ...one.correction, id: `later-${one.correction.id}` } }
          : one,
      );
      const whole = decideFact([...earlier, ...renamed]);
      const folded = decideFact([...decideFact(earlier).winners, ...renamed]);
      expect(compareRanks(rankOf(folded.winners[0]!), rankOf(whole.winners[0]!))).toBe(0);
      expect(targetsOf(folded.winners)).toEqual(targetsOf(whole.winners));
    }),
  );
});

it('at the same time a retraction wins over a correction, whatever its offset', () => {
  const correction = correctionAt(9, factCorrection('c', { subject: 'S', issuedAt: 5 }));
  const retraction = retractionAt(1, correction.factKey, 5);
  const decided = { winners: [retraction], superseded: [correction] };
  expect(decideFact([correction, retraction])).toEqual(decided);
});
