import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint.ts';
import { answerTokens } from '../../model/sequences.ts';
import { tinyPath } from './tiny-model.ts';

let checkpoint: Checkpoint;
beforeAll(async () => {
  checkpoint = await openCheckpoint(tinyPath('llama'));
});
afterAll(() => checkpoint.close());

describe('the tokens of an answer', () => {
  it('are none for an empty one, whatever stands before it', () => {
    for (const prompt of ['', 'tom is', 'tom is ']) for (const answer of ['', ' ', '\n\t ']) expect(answerTokens(checkpoint.tokenizer, prompt, answer)).toEqual([]);
  });

  it('begin with a space, unless the prompt ends in one or there is none', () => {
    const { tokenizer } = checkpoint;
    expect(answerTokens(tokenizer, 'tom is', 'greek')).toEqual(tokenizer.encode(' greek'));
    expect(answerTokens(tokenizer, 'tom is', ' greek ')).toEqual(tokenizer.encode(' greek'));
    expect(answerTokens(tokenizer, 'tom is ', 'greek')).toEqual(tokenizer.encode('greek'));
    expect(answerTokens(tokenizer, '', 'greek')).toEqual(tokenizer.encode('greek'));
    expect(tokenizer.encode(' greek')).not.toEqual(tokenizer.encode('greek'));
  });
});
