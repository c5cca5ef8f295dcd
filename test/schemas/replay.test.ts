import { describe, expect, it } from 'vitest';
import { CORRECTION_LIMITS } from '../../schemas/correction.ts';
import { replayedId, replayedRecord, replayedSource } from '../../schemas/replay.ts';

describe('what is sent again', () => {
  it('counts on from the name it had, the same each time', () => {
    expect(['c', 'c~2', 'c~9', 'a~b', 'c~x', 'c~2~3'].map(replayedId)).toEqual([
      'c~2',
      'c~3',
      'c~10',
      'a~b~2',
      'c~x~2',
      'c~2~4',
    ]);
  });

  it('has a name of allowed length, whatever it was called', () => {
    const long = 'x'.repeat(CORRECTION_LIMITS.idCharactersMax);
    const names = new Set([long]);
    let id = long;
    for (let i = 0; i < 200; i++) names.add((id = replayedId(id)));
    expect(names.size).toBe(201);
    for (const name of names)
      expect(name.length).toBeLessThanOrEqual(CORRECTION_LIMITS.idCharactersMax);
    expect(replayedId(`${'x'.repeat(CORRECTION_LIMITS.idCharactersMax - 1)}y`)).not.toBe(
      replayedId(long),
    );
    expect(replayedId(`${'x'.repeat(180)}${'\u{1F600}'.repeat(10)}`).isWellFormed()).toBe(true);
  });

  it('says who sent it behind whom it came from, once', () => {
    expect(replayedSource('desk', 'Mira')).toBe('desk; replayed by Mira');
    expect(replayedSource('desk; replayed by Mira', 'Jo')).toBe('desk; replayed by Jo');
    expect(replayedSource('d'.repeat(5_000), 'Jo')).toHaveLength(
      CORRECTION_LIMITS.sourceCharactersMax,
    );
    expect(replayedRecord({ topic: 't', partition: 1, offset: '5' })).toBe('record:t-1@5');
  });
});
