import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import {
  openCheckpoint,
  UnsupportedCheckpoint,
  type Checkpoint,
} from '../../../model/checkpoint/checkpoint.ts';
import { createTokenizer, type Tokenizer } from '../../../model/tokenizer/tokenizer.ts';
import type { TokenizerDescription } from '../../../model/tokenizer/description.ts';

const folder = join(import.meta.dirname, '../../golden/tokenisers');
const kinds = readdirSync(folder)
  .filter((name) => !name.startsWith('smollm2'))
  .map((name) => name.replace('.json', ''));

interface Case {
  text: string;
  ids: number[];
  offsets: [number, number][];
  decoded: string;
}

interface Golden {
  tokenizer: TokenizerDescription;
  cases: Case[];
}

const readGolden = (name: string) =>
  JSON.parse(readFileSync(join(folder, name), 'utf8')) as unknown;
const create = (description: TokenizerDescription) =>
  createTokenizer(description, { beginToken: null, endTokens: [] });
const ranges = (tokenizer: Tokenizer, text: string) => {
  const { starts, ends } = tokenizer.encodeWithOffsets(text);
  return starts.map((start, i): [number, number] => [start, ends[i]!]);
};
/** The library's decoder drops U+FEFF as a byte-order mark when it decodes bytes. */
const withoutMark = (text: string) => text.replaceAll('\ufeff', '');

describe.each(kinds)('a %s tokeniser', (kind) => {
  const { tokenizer: golden, cases } = readGolden(`${kind}.json`) as Golden;
  const tokenizer = create(golden);
  const byBytes = kind.startsWith('metaspace');

  test('reads hard strings as the Python library does', () => {
    for (const { text, ids } of cases)
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
  });

  test('finds the characters of each token', () => {
    for (const { text, ids, offsets } of cases) {
      const found = ranges(tokenizer, text);
      expect(found).toHaveLength(ids.length);
      found.forEach(([start, end], i) => {
        const [from, to] = offsets[i]!;
        const where = `token ${i} of ${JSON.stringify(text)}`;
        if (kind === 'qwen2' && text.normalize('NFC') !== text) {
          // Python names the first of the joined characters; ours covers all of them.
          expect([start <= from, end >= to], where).toEqual([true, true]);
        } else if (kind === 'missing-bytes') {
          // Python's offsets are shifted by characters dropped earlier: compare with the text.
          const letters = [...tokenizer.tokenText(ids[i]!)].filter((letter) => letter !== '\ufffd');
          expect(
            letters.filter((letter) => !text.slice(start, end).includes(letter)),
            where,
          ).toEqual([]);
        } else if (byBytes && start === end) {
          // The added space covers nothing in ours, the first character in Python's.
          expect([start, tokenizer.tokenText(ids[i]!).trim()], where).toEqual([from, '']);
        } else expect([start, end], where).toEqual([from, to]);
      });
    }
  });

  test('decodes as the Python library does', () => {
    for (const { ids, decoded } of cases) {
      const written = tokenizer.decode(ids);
      if (byBytes) expect(withoutMark(written)).toBe(withoutMark(decoded));
      else expect(written).toBe(decoded);
    }
  });
});

let checkpoint: Checkpoint;
let tokenizer: Tokenizer;
beforeAll(async () => {
  checkpoint = await openCheckpoint(homeFromEnvironment().model.folder);
  tokenizer = checkpoint.tokenizer;
});
afterAll(() => checkpoint.close());
const cases = readGolden('smollm2-cases.json') as Case[];

test('the tokeniser in the embedded GGUF reads hard strings as the Python library does', () => {
  for (const { text, ids, offsets, decoded } of cases) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    expect(ranges(tokenizer, text), JSON.stringify(text)).toEqual(offsets);
    expect(tokenizer.decode(ids)).toBe(decoded);
  }
});

test('the tokeniser in the embedded GGUF names the begin and end tokens', () => {
  expect(tokenizer.tokenText(tokenizer.beginToken!)).toBe('<|im_start|>');
  expect(tokenizer.endTokens.map((id) => tokenizer.tokenText(id))).toEqual([
    '<|im_end|>',
    '<|endoftext|>',
  ]);
  expect(tokenizer.vocabulary).toBe(49152);
});

test('the tokeniser in the embedded GGUF restores any text and covers it without gaps', () => {
  const planes = fc.string({
    unit: fc.oneof(
      fc.constantFrom(' ', '\n', '7', 'é', 'e\u0301', '😀', 'あ', '\ud800', '\udc00', "'s"),
      fc.integer({ min: 0x20, max: 0x3fff }).map((code) => String.fromCharCode(code)),
    ),
    maxLength: 40,
  });
  fc.assert(
    fc.property(planes, (text) => {
      const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
      expect(tokenizer.decode(ids)).toBe(text.toWellFormed());
      let covered = 0;
      starts.forEach((start, i) => {
        expect(start).toBeLessThanOrEqual(covered);
        expect(ends[i]).toBeGreaterThan(start);
        covered = Math.max(covered, ends[i]!);
      });
      expect(covered).toBe(text.length);
    }),
    { numRuns: 300 },
  );
});

test('the tokeniser in the embedded GGUF accepts an empty text and an id without a token', () => {
  expect(tokenizer.encodeWithOffsets('')).toEqual({ ids: [], starts: [], ends: [] });
  expect(tokenizer.decode([])).toBe('');
  expect(tokenizer.tokenText(1_000_000)).toBe('[unused 1000000]');
});

const { tokenizer: description } = readGolden('gpt2.json') as Golden;
const byteLevel = { type: 'ByteLevel', add_prefix_space: true, use_regex: true };

test.each([
  [
    'model',
    { ...description, model: { ...description.model, type: 'Unigram' } },
    /model is "Unigram"/,
  ],
  [
    'normaliser',
    { ...description, normalizer: { type: 'Lowercase' } },
    /normaliser is "Lowercase"/,
  ],
  [
    'pre-tokeniser',
    { ...description, pre_tokenizer: { type: 'BertPreTokenizer' } },
    /"BertPreTokenizer"/,
  ],
  ['prefix space', { ...description, pre_tokenizer: byteLevel }, /"ByteLevel with a prefix space"/],
  ['missing pre-tokeniser', { ...description, pre_tokenizer: null }, /pre-tokeniser is "none"/],
])('an unsupported tokeniser is refused with the name of its %s', (_, refused, message) => {
  expect(() => create(refused)).toThrow(UnsupportedCheckpoint);
  expect(() => create(refused)).toThrow(message);
});
