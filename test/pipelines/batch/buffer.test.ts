import fc from 'fast-check';
import { expect, it } from 'vitest';
import { cutBatch, type Waiting } from '../../../pipelines/batch/buffer.ts';
import { revisionId, revisionIssuedAt, type FactRevision } from '../../../schemas/correction.ts';
import {
  collidingRevisions,
  correctionAt,
  factCorrection,
  retractionAt,
} from '../../harness/corrections.ts';

const waitingFor = (revisions: readonly FactRevision[], bytes = 10): Waiting[] =>
  revisions.map((revision, i) => ({ revision, bytes, arrivedAt: i }));
const ALL = { editsMax: 1_000, bytesMax: 1_000_000 };
const ids = (revisions: readonly FactRevision[]): string[] => revisions.map(revisionId);

it('a cut puts every revision in one place: the batch, the decided, or the rest', () => {
  fc.assert(
    fc.property(collidingRevisions, fc.nat(4), fc.nat(80), (revisions, editsMax, bytesMax) => {
      const cut = cutBatch(waitingFor(revisions), { editsMax: editsMax + 1, bytesMax });
      const placed = [
        ...cut.revisions,
        ...cut.settled.map(({ revision }) => revision),
        ...cut.rest.map(({ revision }) => revision),
      ];
      expect(placed).toHaveLength(revisions.length);
      expect(new Set(placed)).toEqual(new Set(revisions));
    }),
  );
});

it('a cut takes the latest revision of a fact and those that contradict it', () => {
  fc.assert(
    fc.property(collidingRevisions, (revisions) => {
      const { revisions: cut } = cutBatch(waitingFor(revisions), ALL);
      for (const { factKey } of cut) {
        const group = cut.filter((one) => one.factKey === factKey);
        // Several revisions of one fact are corrections that disagree.
        expect(
          group.length === 1 ||
            new Set(group.map((one) => one.kind === 'correction' && one.correction.target)).size >
              1,
        ).toBe(true);
      }
      const first = new Map(
        revisions.map((revision) => [revisionId(revision), revision]).reverse() as [
          string,
          FactRevision,
        ][],
      );
      for (const winner of cut) {
        const rivals = [...first.values()].filter(({ factKey }) => factKey === winner.factKey);
        expect(revisionIssuedAt(winner)).toBe(Math.max(...rivals.map(revisionIssuedAt)));
      }
    }),
  );
});

it('a cut decides the same for any order of arrival', () => {
  // The order decides which of two records with one id is the first, so the ids here differ.
  const distinct = collidingRevisions.map((revisions) =>
    revisions.filter(
      (revision, i) =>
        revisions.findIndex((other) => revisionId(other) === revisionId(revision)) === i,
    ),
  );
  const decisions = (revisions: readonly FactRevision[]): string[] => {
    const cut = cutBatch(waitingFor(revisions), ALL);
    return [
      ...ids(cut.revisions).map((id) => `${id} edited`),
      ...cut.settled.map(({ kind, revision }) => `${revisionId(revision)} ${kind}`),
    ].sort();
  };
  fc.assert(
    fc.property(
      distinct.chain((revisions) =>
        fc.tuple(
          fc.constant(revisions),
          fc.shuffledSubarray(revisions, { minLength: revisions.length }),
        ),
      ),
      ([revisions, shuffled]) => {
        expect(decisions(shuffled)).toEqual(decisions(revisions));
      },
    ),
  );
});

it('a cut keeps within its bounds, but accepts a first fact of any size', () => {
  const revisions = [0, 1, 2, 3].map((i) => correctionAt(i, factCorrection(`c${i}`)));
  expect(ids(cutBatch(waitingFor(revisions), { editsMax: 3, bytesMax: 1_000 }).revisions)).toEqual([
    'c0',
    'c1',
    'c2',
  ]);
  expect(ids(cutBatch(waitingFor(revisions), { editsMax: 10, bytesMax: 25 }).revisions)).toEqual([
    'c0',
    'c1',
  ]);
  expect(ids(cutBatch(waitingFor(revisions), { editsMax: 10, bytesMax: 5 }).revisions)).toEqual([
    'c0',
  ]);
});

it('a cut keeps a fact together with the revisions that it supersedes', () => {
  const old = correctionAt(0, factCorrection('old', { subject: 'A', issuedAt: 1 }));
  const other = correctionAt(1, factCorrection('other', { subject: 'B' }));
  const late = correctionAt(2, factCorrection('new', { subject: 'A', issuedAt: 2 }));
  const cut = cutBatch(waitingFor([old, other, late]), { editsMax: 1, bytesMax: 1_000 });
  expect(ids(cut.revisions)).toEqual(['new']);
  expect(cut.settled).toEqual([{ kind: 'superseded', revision: old, by: late }]);
  expect(cut.rest.map(({ revision }) => revision)).toEqual([other]);
});

it('a cut takes the higher offset of two corrections of the same time', () => {
  const [first, second] = ['a', 'b'].map((id, i) =>
    correctionAt(i + 9, factCorrection(id, { subject: 'A' })),
  );
  const cut = cutBatch(waitingFor([second!, first!]), ALL);
  expect(ids(cut.revisions)).toEqual(['b']);
});

it('a cut keeps contradicting corrections together, and supersedes older ones', () => {
  const about = { subject: 'A' };
  const old = correctionAt(0, factCorrection('old', { ...about, issuedAt: 1 }));
  const [one, two] = ['Lyon', 'Oslo'].map((target, i) =>
    correctionAt(i + 1, factCorrection(`new${i}`, { ...about, target, issuedAt: 2 })),
  );
  const cut = cutBatch(waitingFor([old, one!, two!]), ALL);
  expect(ids(cut.revisions)).toEqual(['new1', 'new0']);
  expect(cut.settled.map(({ kind, revision }) => `${revisionId(revision)} ${kind}`)).toEqual([
    'old superseded',
  ]);
});

it('a cut does not treat a different spelling as a contradiction', () => {
  const [one, two] = ['Zürich', 'Zu\u0308rich '].map((target, i) =>
    correctionAt(i, factCorrection(`c${i}`, { subject: 'A', target })),
  );
  expect(ids(cutBatch(waitingFor([one!, two!]), ALL).revisions)).toEqual(['c1']);
});

it('a cut lets the later of a correction and a retraction win', () => {
  const correction = correctionAt(0, factCorrection('c', { subject: 'A', issuedAt: 5 }));
  const gone = retractionAt(1, correction.factKey, 6);
  const back = correctionAt(2, factCorrection('back', { subject: 'A', issuedAt: 7 }));
  expect(ids(cutBatch(waitingFor([correction, gone]), ALL).revisions)).toEqual([gone.id]);
  expect(ids(cutBatch(waitingFor([correction, gone, back]), ALL).revisions)).toEqual(['back']);
});
