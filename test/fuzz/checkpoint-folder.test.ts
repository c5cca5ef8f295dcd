/** Model folders open as a model or fail with a clear fault, whatever their files contain. */
import fc from 'fast-check';
import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { CheckpointFault, UnreadableCheckpoint } from '../../model/format/faults.ts';
import { JSON_BYTES_MAX } from '../../model/checkpoint/huggingface-folder.ts';
import { INDEX_BYTES_MAX } from '../../model/format/safetensors-files.ts';
import { createTokenizer } from '../../model/tokenizer/tokenizer.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { testFolder } from '../harness/clean-up.ts';
import { useModel } from '../harness/use-model.ts';
import {
  always,
  damaged,
  faultOf,
  nestedJson,
  oddJson,
  oddParts,
  oddText,
} from '../harness/odd-inputs.ts';

const FAMILIES = ['llama', 'llama3', 'qwen2', 'gpt2', 'gptj'];
const SHARD = 'model-00001-of-00002.safetensors';

const folder = testFolder();
for (const family of FAMILIES)
  cpSync(goldenPath('tiny', family), join(folder, family), { recursive: true });

const original = (family: string, file: string) =>
  new Uint8Array(readFileSync(goldenPath('tiny', family, file)));
const jsonOf = (family: string, file: string) =>
  JSON.parse(Buffer.from(original(family, file)).toString()) as unknown;

/** The fault of a folder with other content in one file; the file is restored. */
async function faultWith(family: string, file: string, content: Uint8Array | string) {
  const path = join(folder, family);
  writeFileSync(join(path, file), content);
  const fault = await faultOf(() => useModel(path));
  writeFileSync(join(path, file), original(family, file));
  return fault;
}

function expectClear(fault: unknown): void {
  if (fault === undefined) return;
  expect(fault).toBeInstanceOf(CheckpointFault);
  expect((fault as Error).message.length).toBeLessThan(2_000);
}

test('odd values in config.json give a model or a clear fault', async () => {
  const configuration = fc
    .constantFrom(...FAMILIES)
    .chain((family) => fc.tuple(fc.constant(family), oddParts(jsonOf(family, 'config.json'))));
  await always(80, configuration, async ([family, content]) =>
    expectClear(await faultWith(family, 'config.json', JSON.stringify(content))),
  );
});

test("odd values in the tokeniser's files give a model or a clear fault", async () => {
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await always(60, oddParts(jsonOf('llama', file)), async (content) =>
      expectClear(await faultWith('llama', file, JSON.stringify(content))),
    );
  }
});

test('odd indexes give a model or a clear fault, and open no file outside', async () => {
  const file = 'model.safetensors.index.json';
  const outside = ['..', '../llama/model.safetensors', '/etc/passwd', ''];
  const names = fc.constantFrom(...outside, `./${SHARD}`, `${SHARD}\0`, SHARD);
  const content = fc.oneof(
    oddParts(jsonOf('qwen2', file)),
    fc
      .dictionary(oddText, fc.oneof(names, oddJson), { noNullPrototype: true })
      .map((map) => ({ weight_map: map })),
  );
  await always(80, content, async (value) =>
    expectClear(await faultWith('qwen2', file, JSON.stringify(value))),
  );
});

test('damaged files give a model or a clear fault', async () => {
  const files: [string, string, number][] = [
    ['llama', 'config.json', 1],
    ['llama', 'tokenizer.json', 1],
    ['qwen2', 'model.safetensors.index.json', 1],
    ['llama', 'model.safetensors', 0.03],
    ['qwen2', SHARD, 0.05],
  ];
  const damage = fc
    .constantFrom(...files)
    .chain(([family, file, span]) =>
      fc.tuple(fc.constant(family), fc.constant(file), damaged(original(family, file), span)),
    );
  await always(150, damage, async ([family, file, bytes]) =>
    expectClear(await faultWith(family, file, bytes)),
  );
});

test.each([
  ['llama', 'config.json', 64],
  ['llama', 'tokenizer.json', 64],
  ['qwen2', 'model.safetensors.index.json', 8],
])('JSON nested a hundred thousand deep in %s/%s is refused', async (family, file, depthMax) => {
  const fault = await faultWith(family, file, nestedJson(100_000, 'object'));
  expect(String(fault)).toContain(`nested deeper than ${depthMax} levels`);
});

test.each([
  ['config.json', JSON_BYTES_MAX],
  ['tokenizer.json', JSON_BYTES_MAX],
  ['model.safetensors.index.json', INDEX_BYTES_MAX],
])('%s of a terabyte is refused before it is read', async (file, bytesMax) => {
  const path = join(folder, 'qwen2', file);
  // The file takes no disk space, but would take far too much memory.
  truncateSync(path, 2 ** 40);
  try {
    const fault = await faultOf(() => openCheckpoint(join(folder, 'qwen2')));
    expect(fault).toBeInstanceOf(UnreadableCheckpoint);
    expect(String(fault)).toContain(`${2 ** 40} bytes. At most ${bytesMax} are read`);
  } finally {
    writeFileSync(path, original('qwen2', file));
  }
});

const addedToken = (content: unknown) => ({ added_tokens: [{ id: 0, content }] });
const bytePairs = (vocab: Record<string, number>, merges: string[][] = []) => ({
  model: { type: 'BPE', vocab, merges },
});
const sequenceOf = (pretokenizers: unknown[]) => ({ type: 'Sequence', pretokenizers });
const sequence = (...parts: unknown[]) => ({ pre_tokenizer: sequenceOf(parts) });
const nestedSequence = (levels: number): object =>
  sequenceOf(levels === 1 ? [] : [nestedSequence(levels - 1)]);

test.each<[string, object, RegExp]>([
  ['a number as added token', addedToken(5), /added_tokens\.0\.content/],
  ['an empty added token', addedToken(''), /added_tokens\.0\.content/],
  ['an id beyond any embedding', bytePairs({ a: 2 ** 32 }), /model\.vocab/],
  ['a negative id', bytePairs({ a: -1 }), /model\.vocab/],
  ['a merge of three', bytePairs({ a: 1 }, [['a', 'b', 'c']]), /model\.merges\.0/],
  [
    'an invalid pattern',
    sequence(
      { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated', invert: false },
      { type: 'ByteLevel', use_regex: false },
    ),
    /tokeniser: it cannot be made/,
  ],
  ['a number as component', sequence(5), /sequence/],
  ['sequences in sequences', sequence(nestedSequence(19)), /sequence/],
])('a tokenizer.json with %s is refused', async (_, change, message) => {
  const fault = await faultWith(
    'llama',
    'tokenizer.json',
    JSON.stringify({ ...(jsonOf('llama', 'tokenizer.json') as object), ...change }),
  );
  expect(fault).toBeInstanceOf(CheckpointFault);
  expect(String(fault)).toMatch(message);
});

test('heads that are too wide are refused before a rotary table is allocated', async () => {
  const config = {
    ...(jsonOf('llama', 'config.json') as object),
    head_dim: 100_000,
    num_attention_heads: 1,
    num_key_value_heads: 1,
  };
  expect(String(await faultWith('llama', 'config.json', JSON.stringify(config)))).toMatch(
    /impossible model: heads of 100000 channels/,
  );
});

test('a tokeniser may have a quarter of a million tokens', () => {
  const vocab = Object.fromEntries(Array.from({ length: 262_144 }, (_, id) => [`token ${id}`, id]));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: true };
  const { vocabulary } = createTokenizer(
    { ...bytePairs(vocab), normalizer: null, pre_tokenizer: byteLevel, decoder: byteLevel },
    { beginToken: null, endTokens: [] },
  );
  expect(vocabulary).toBe(262_144);
});

test('a tokeniser encodes any text and gives each token a range of it', async () => {
  const tokenizers = await Promise.all(
    FAMILIES.map(async (family) => {
      const checkpoint = await openCheckpoint(goldenPath('tiny', family));
      await checkpoint.close();
      return checkpoint.tokenizer;
    }),
  );
  await always(300, fc.constantFrom(...tokenizers), oddText, (tokenizer, text) => {
    const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(typeof tokenizer.decode(ids)).toBe('string');
    ids.forEach((_, i) =>
      expect(0 <= starts[i]! && starts[i]! <= ends[i]! && ends[i]! <= text.length).toBe(true),
    );
  });
});
