/**
 * A model's folder: safetensors, their index, configuration and tokeniser; a model or a clear
 * fault, whatever is in the files.
 */
import fc from 'fast-check';
import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { canonicalTensors } from '../../model/checkpoint/canonical.ts';
import { CheckpointFault, UnreadableCheckpoint } from '../../model/checkpoint/faults.ts';
import { JSON_BYTES_MAX } from '../../model/checkpoint/huggingface-layout.ts';
import { INDEX_BYTES_MAX } from '../../model/checkpoint/safetensors-files.ts';
import { createTokenizer } from '../../model/tokenizer/tokenizer.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  HEADER_BYTES_MAX,
  HEADER_VALUES_MAX,
  MalformedSafetensors,
  parseSafetensorsHeader,
  safetensorsHeaderBytes,
} from '../../schemas/encoding/safetensors.ts';
import { goldenPath } from '../golden/read-golden.ts';
import {
  damaged,
  faultOf,
  joined,
  littleEndian,
  nestedJson,
  oddJson,
  oddParts,
  oddText,
  runs,
} from './inputs.ts';

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

/**
 * Opens a family's folder with one file of other content, reads every tensor and some text, and
 * puts the file back.
 */
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

function isClear(fault: unknown): void {
  if (fault === undefined) return;
  expect(fault).toBeInstanceOf(CheckpointFault);
  expect((fault as Error).message.length).toBeLessThan(2_000);
}

describe('a folder in the Hugging Face layout', () => {
  it('of odd values in its configuration is a model or a clear fault', async () => {
    const configuration = fc
      .constantFrom(...FAMILIES)
      .chain((family) =>
        fc.tuple(fc.constant(family), oddParts(fc.constant(jsonOf(family, 'config.json')))),
      );
    await fc.assert(
      fc.asyncProperty(configuration, async ([family, content]) =>
        isClear(await faultWith(family, 'config.json', JSON.stringify(content))),
      ),
      runs(80),
    );
  });

  it('of odd values in its tokeniser is a model or a clear fault', async () => {
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
      await fc.assert(
        fc.asyncProperty(oddParts(fc.constant(jsonOf('llama', file))), async (content) =>
          isClear(await faultWith('llama', file, JSON.stringify(content))),
        ),
        runs(60),
      );
    }
  });

  it('of odd values in its index is a model or a clear fault, and no file outside is opened', async () => {
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
        isClear(await faultWith('qwen2', 'model.safetensors.index.json', JSON.stringify(value))),
      ),
      runs(80),
    );
  });

  it('whose files are damaged is a model or a clear fault', async () => {
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
        isClear(await faultWith(family, file, bytes)),
      ),
      runs(150),
    );
  });

  it.each<[string, string, string, RegExp]>([
    ['nested a hundred thousand deep', 'llama', 'config.json', /nested deeper than 64 levels/],
    ['nested a hundred thousand deep', 'llama', 'tokenizer.json', /nested deeper than 64 levels/],
    [
      'nested a hundred thousand deep',
      'qwen2',
      'model.safetensors.index.json',
      /nested deeper than 8 levels/,
    ],
  ])('%s (%s, %s) is refused', async (_, family, file, message) => {
    expect(String(await faultWith(family, file, nestedJson(100_000, 'object')))).toMatch(message);
  });

  it.each([
    ['config.json', JSON_BYTES_MAX],
    ['tokenizer.json', JSON_BYTES_MAX],
    ['model.safetensors.index.json', INDEX_BYTES_MAX],
  ])('whose %s is too large is refused before it is read', async (file, bytesMax) => {
    const path = join(folder, 'qwen2', file);
    // Without a byte on the disk, and far too many for memory.
    truncateSync(path, 2 ** 40);
    try {
      const fault = await faultOf(() => openCheckpoint(join(folder, 'qwen2')));
      expect(fault).toBeInstanceOf(UnreadableCheckpoint);
      expect(String(fault)).toContain(`has ${2 ** 40} bytes. The most allowed is ${bytesMax}`);
    } finally {
      writeFileSync(path, original('qwen2', file));
    }
  });

  it.each<[string, object, RegExp]>([
    [
      'an added token that is no text',
      { added_tokens: [{ id: 0, content: 5 }] },
      /added_tokens\.0\.content/,
    ],
    [
      'an added token without a character',
      { added_tokens: [{ id: 0, content: '' }] },
      /added_tokens\.0\.content/,
    ],
    [
      'an id that no embedding has',
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
      'a pattern that is none',
      {
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: [
            { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated', invert: false },
            { type: 'ByteLevel', use_regex: false },
          ],
        },
      },
      /The tokeniser cannot be made/,
    ],
    [
      'a part that is no component',
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
  ])('of a tokeniser with %s is refused', async (_, change, message) => {
    const fault = await faultWith(
      'llama',
      'tokenizer.json',
      JSON.stringify({ ...(jsonOf('llama', 'tokenizer.json') as object), ...change }),
    );
    expect(fault).toBeInstanceOf(CheckpointFault);
    expect(String(fault)).toMatch(message);
  });

  it('of heads wider than any is refused, before a rotary table is made as large as their square', async () => {
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
});

describe('a safetensors file', () => {
  const sound = encodeSafetensors(
    new Map([
      ['a', { type: 'F32' as const, shape: [2, 3], values: new Float32Array(6).fill(1) }],
      ['b', { type: 'F64' as const, shape: [2], values: new Float64Array(2) }],
      ['__proto__', { type: 'U8' as const, shape: [1], values: new Uint8Array(1) }],
    ]),
    { format: 'pt', constructor: 'x' },
  );
  const decode = (bytes: Uint8Array): void => {
    try {
      const { tensors, metadata } = decodeSafetensors(bytes);
      let held = 0;
      for (const { values } of tensors.values()) held += values.byteLength;
      expect(held).toBeLessThanOrEqual(bytes.length);
      for (const text of Object.values(metadata)) expect(typeof text).toBe('string');
    } catch (fault) {
      expect(fault).toBeInstanceOf(MalformedSafetensors);
      expect((fault as Error).message.length).toBeLessThan(1_000);
    }
  };

  it('that is damaged is tensors no larger than the file, or a clear fault', () => {
    fc.assert(fc.property(damaged(fc.constant(new Uint8Array(sound))), decode), runs(500));
  });

  it('of an odd header is tensors no larger than the file, or a clear fault', () => {
    const header = {
      __metadata__: { a: 'b' },
      a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
      b: { dtype: 'U8', shape: [8], data_offsets: [24, 32] },
    };
    fc.assert(
      fc.property(oddParts(fc.constant(header)), fc.nat(64), (value, data) =>
        decode(fileOf(JSON.stringify(value), data)),
      ),
      runs(500),
    );
  });

  it.each([
    ['2^63 bytes', 2n ** 63n],
    ['2^60 bytes', 2n ** 60n],
    ['a byte more than is allowed', BigInt(HEADER_BYTES_MAX) + 1n],
  ])('whose header claims %s is refused by its first eight', (_, claimed) => {
    expect(() => safetensorsHeaderBytes(littleEndian(claimed), 2 ** 53)).toThrow(
      /the most allowed is 100000000/,
    );
  });

  it('whose header claims to hold more than the file is refused before it is read', () => {
    expect(() => safetensorsHeaderBytes(littleEndian(BigInt(HEADER_BYTES_MAX)), 1_000)).toThrow(
      /cut short/,
    );
  });

  it.each<[string, string, RegExp]>([
    [
      'millions of tensors',
      `{${Array.from({ length: HEADER_VALUES_MAX }, (_, i) => `"${i}":0`).join(',')}}`,
      /more than 2000000 values/,
    ],
    [
      'a shape of millions',
      `{"a":{"shape":[${'1,'.repeat(HEADER_VALUES_MAX)}1]}}`,
      /more than 2000000 values/,
    ],
    [
      'a shape of thousands',
      `{"a":{"dtype":"U8","shape":[${'1,'.repeat(5_000)}1],"data_offsets":[0,1]}}`,
      /has the shape a list of 5001/,
    ],
    ['levels without end', nestedJson(100_000), /nested deeper than 8 levels/],
    [
      '2^60 in each dimension',
      '{"a":{"dtype":"U8","shape":[1152921504606846976,1152921504606846976],"data_offsets":[0,1]}}',
      /has the shape/,
    ],
    [
      'offsets below zero',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}',
      /has the offsets/,
    ],
    [
      'tensors in one place',
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      /overlap/,
    ],
  ])('whose header has %s is refused', (_, json, message) => {
    const file = fileOf(json, 1);
    expect(() => parseSafetensorsHeader(file, file.length)).toThrow(MalformedSafetensors);
    expect(() => parseSafetensorsHeader(file, file.length)).toThrow(message);
  });

  function fileOf(json: string, dataBytes: number): Uint8Array {
    return joined(
      littleEndian(BigInt(Buffer.byteLength(json))),
      Buffer.from(json),
      new Uint8Array(dataBytes),
    );
  }
});

describe('a tokeniser', () => {
  it('of a quarter of a million tokens is made on any thread', () => {
    const vocab = Object.fromEntries(
      Array.from({ length: 262_144 }, (_, id) => [`token ${id}`, id]),
    );
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

  it('takes any text, and gives each token a range of it', async () => {
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
});
