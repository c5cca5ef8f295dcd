import { expect, test } from 'vitest';
import { CORRECTION_LIMITS } from '../../schemas/correction.ts';
import { resubmittedId, recordReference, resubmittedSource } from '../../schemas/resubmit.ts';

test('the id of a resubmission is counted on from the one before, the same each time', () => {
  expect(['c', 'c~2', 'c~9', 'a~b', 'c~x', 'c~2~3'].map(resubmittedId)).toEqual([
    'c~2',
    'c~3',
    'c~10',
    'a~b~2',
    'c~x~2',
    'c~2~4',
  ]);
});

test('the id of a resubmission has an allowed length', () => {
  const long = 'x'.repeat(CORRECTION_LIMITS.idCharactersMax);
  const names = new Set([long]);
  let id = long;
  for (let i = 0; i < 200; i++) names.add((id = resubmittedId(id)));
  expect(names.size).toBe(201);
  for (const name of names)
    expect(name.length).toBeLessThanOrEqual(CORRECTION_LIMITS.idCharactersMax);
  expect(resubmittedId(`${'x'.repeat(CORRECTION_LIMITS.idCharactersMax - 1)}y`)).not.toBe(
    resubmittedId(long),
  );
  expect(resubmittedId(`${'x'.repeat(180)}${'\u{1F600}'.repeat(10)}`).isWellFormed()).toBe(true);
});

test('the source names who resubmits behind who submitted, once', () => {
  expect(resubmittedSource('desk', 'Mira')).toBe('desk; replayed by Mira');
  expect(resubmittedSource('desk; replayed by Mira', 'Jo')).toBe('desk; replayed by Jo');
  expect(resubmittedSource('d'.repeat(5_000), 'Jo')).toHaveLength(
    CORRECTION_LIMITS.sourceCharactersMax,
  );
  expect(recordReference({ topic: 't', partition: 1, offset: '5' })).toBe('record:t-1@5');
});
