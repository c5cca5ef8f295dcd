import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { batchIdOf, partIdOf } from '../../../pipelines/batch/batch-id.ts';
import { revisionId } from '../../../schemas/correction.ts';
import { collidingRevisions, correctionAt, factCorrection } from '../../harness/corrections.ts';

describe('the name of a batch', () => {
  const revisions = [0, 1, 2].map((i) => correctionAt(i, factCorrection(`c${i}`)));

  it('is its position and a digest of its records', () => {
    expect(batchIdOf(12, revisions)).toMatch(/^000012-[0-9a-f]{16}$/);
  });

  it('is the same for the same records in any order', () => {
    fc.assert(
      fc.property(collidingRevisions, (items) => {
        expect(batchIdOf(1, [...items].reverse())).toBe(batchIdOf(1, items));
      }),
    );
  });

  // Regression: the version log uses the name as the token of a commit, and a sequence may restart
  // at 0.
  it('differs for different records at the same position', () => {
    const moved = correctionAt(3, factCorrection('c2'));
    expect(batchIdOf(0, [...revisions.slice(0, 2), moved])).not.toBe(batchIdOf(0, revisions));
    fc.assert(
      fc.property(collidingRevisions, collidingRevisions, (a, b) => {
        const records = (items: typeof a): string =>
          items
            .map((item) => `${revisionId(item)} ${item.position.partition} ${item.position.offset}`)
            .sort()
            .join();
        if (records(a) !== records(b)) expect(batchIdOf(0, a)).not.toBe(batchIdOf(0, b));
      }),
    );
  });

  it('of a part starts with that of the whole, also for a part of a part', () => {
    const whole = batchIdOf(3, revisions);
    const half = partIdOf(whole, revisions.slice(0, 2));
    const quarter = partIdOf(half, revisions.slice(0, 1));
    expect(half.startsWith(`${whole}.`)).toBe(true);
    expect(quarter.startsWith(`${whole}.`)).toBe(true);
    expect(new Set([whole, half, quarter]).size).toBe(3);
  });
});
