/** Model folders open as a model or fail with a clear fault, whatever is in their files. */
import fc from 'fast-check';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { canonicalTensors } from '../../model/checkpoint/canonical.ts';
import { CheckpointFault, UnreadableCheckpoint } from '../../model/format/faults.ts';
import { JSON_BYTES_MAX } from '../../model/checkpoint/huggingface-folder.ts';
import { INDEX_BYTES_MAX } from '../../model/format/safetensors-files.ts';
import { createTokenizer } from '../../model/tokenizer/tokenizer.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { damaged, faultOf, nestedJson, oddJson, oddParts, oddText, runs } from './inputs.ts';

const FAMILIES = ['llama', 'llama3', 'qwen2', 'gpt2', 'gptj'];
const SHARD = 'model-00001-of-00002.safetensors';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-fuzz-folder-'));
  for (const family of FAMILIES)
    cpSync(goldenPath('tiny', family), join(folder, family), { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const original = (family: string, file: string) =>
  new Uint8Array(readFileSync(goldenPath('tiny', family, file)));
const jsonOf = (family: string, file: string) =>
  JSON.parse(Buffer.from(original(family, file)).toString()) as unknown;

/** The fault of a folder in which one file has other content; the file is restored. */
async function faultWith(
  family: string,
  file: string,
  content: Uint8Array | string,
): Promise<unknown> {
  const path = join(folder, family);
  writeFileSync(join(path, file), content);
  try {
    return await faultOf(async () => {
      const checkpoint = await openCheckpoint(path);
      try {
        for (const { name } of canonicalTensors(checkpoint.config))
          if (checkpoint.has(name)) await checkpoint.read(name);
        checkpoint.tokenizer.encodeWithOffsets('the capital of the river');
        checkpoint.tokenizer.decode([0, 1, 127]);
      } finally {
        await checkpoint.close();
      }
    });
  } finally {
    writeFileSync(join(path, file), original(family, file));
  }
}

function expectClear(fault: unknown): void {
  if (fault === undefined) return;
  expect(fault).toBeInstanceOf(CheckpointFault);
  expect((fault as Error).message.length).toBeLessThan(2_000);
}

test('odd values in config.json give a model or a clear fault', async () => {
  const configuration = fc
    .constantFrom(...FAMILIES)
    .chain((family) =>
      fc.tuple(fc.constant(family), oddParts(fc.constant(jsonOf(family, 'config.json')))),
    );
  await fc.assert(
    fc.asyncProperty(configuration, async ([family, content]) =>
      expectClear(await faultWith(family, 'config.json', JSON.stringify(content))),
    ),
    runs(80),
  );
});

test("odd values in the tokeniser's files give a model or a clear fault", async () => {
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await fc.assert(
      fc.asyncProperty(oddParts(fc.constant(jsonOf('llama', file))), async (content) =>
        expectClear(await faultWith('llama', file, JSON.stringify(content))),
      ),
      runs(60),
    );
  }
});

test('odd indexes give a model or a clear fault, and open no file outside', async () => {
  const index = jsonOf('qwen2', 'model.safetensors.index.json');
  const names = fc.constantFrom(
    '..',
    '../llama/model.safetensors',
    `./${SHARD}`,
    `${SHARD}\0`,
    '/etc/passwd',
    '',
    SHARD,
  );
  const content = fc.oneof(
    oddParts(fc.constant(index)),
    fc
      .dictionary(oddText, fc.oneof(names, oddJson), { noNullPrototype: true })
      .map((map) => ({ weight_map: map })),
  );
  await fc.assert(
    fc.asyncProperty(content, async (value) =>
      expectClear(await faultWith('qwen2', 'model.safetensors.index.json', JSON.stringify(value))),
    ),
    runs(80),
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
      fc.tuple(
        fc.constant(family),
        fc.constant(file),
        damaged(fc.constant(original(family, file)), span),
      ),
    );
  await fc.assert(
    fc.asyncProperty(damage, async ([family, file, bytes]) =>
      expectClear(await faultWith(family, file, bytes)),
    ),
    runs(150),
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
  // It takes no space on the disk, and would take far too much memory.
  truncateSync(path, 2 ** 40);
  try {
    const fault = await faultOf(() => openCheckpoint(join(folder, 'qwen2')));
    expect(fault).toBeInstanceOf(UnreadableCheckpoint);
    expect(String(fault)).toContain(`${2 ** 40} bytes. At most ${bytesMax} are read`);
  } finally {
    writeFileSync(path, original('qwen2', file));
  }
});

test.each<[string, object, RegExp]>([
  [
    'a number as added token',
    { added_tokens: [{ id: 0, content: 5 }] },
    /added_tokens\.0\.content/,
  ],
  ['an empty added token', { added_tokens: [{ id: 0, content: '' }] }, /added_tokens\.0\.content/],
  [
    'an id beyond any embedding',
    { model: { type: 'BPE', vocab: { a: 2 ** 32 }, merges: [] } },
    /model\.vocab/,
  ],
  ['a negative id', { model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, /model\.vocab/],
  [
    'a merge of three',
    { model: { type: 'BPE', vocab: { a: 1 }, merges: [['a', 'b', 'c']] } },
    /model\.merges\.0/,
  ],
  [
    'an invalid pattern',
    {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated', invert: false },
          { type: 'ByteLevel', use_regex: false },
        ],
      },
    },
    /tokeniser: it cannot be made/,
  ],
  [
    'a number as component',
    { pre_tokenizer: { type: 'Sequence', pretokenizers: [5] } },
    /sequence/,
  ],
  [
    'sequences in sequences',
    {
      pre_tokenizer: JSON.parse(
        `${'{"type":"Sequence","pretokenizers":['.repeat(20)}${']}'.repeat(20)}`,
      ) as object,
    },
    /sequence/,
  ],
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
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: true,
  };
  const { vocabulary } = createTokenizer(
    {
      model: { type: 'BPE', vocab, merges: [] },
      normalizer: null,
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
    },
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
  fc.assert(
    fc.property(fc.constantFrom(...tokenizers), oddText, (tokenizer, text) => {
      const { ids, starts, ends } = tokenizer.encodeWithOffsets(text);
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(typeof tokenizer.decode(ids)).toBe('string');
      ids.forEach((_, i) =>
        expect(0 <= starts[i]! && starts[i]! <= ends[i]! && ends[i]! <= text.length).toBe(true),
      );
    }),
    runs(300),
  );
});
