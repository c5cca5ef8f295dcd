import { expect, test } from 'vitest';
import { shellWord } from '../../../operations/failures/failure.ts';

test('shellWord quotes a word where the shell needs it', () => {
  const words: [string, string][] = [
    ['treaty-2026', 'treaty-2026'],
    ['a~2', 'a~2'],
    ['a b', "'a b'"],
    ["it's", "'it'\\''s'"],
    ['$(x)', "'$(x)'"],
    ['~root', "'~root'"],
  ];
  for (const [word, written] of words) expect(shellWord(word)).toBe(written);
});
