import { createHash } from 'node:crypto';
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import {
  MissingTensor,
  openCheckpoint,
  UnreadableCheckpoint,
  UnsupportedCheckpoint,
} from '../../../model/checkpoint/checkpoint.ts';
import { canonicalTensors } from '../../../model/checkpoint/canonical.ts';
import { decodeSafetensors, encodeSafetensors } from '../../../schemas/encoding/safetensors.ts';
import { goldenPath, largestDifference } from '../../golden/read-golden.ts';
import { testFolder } from '../../harness/clean-up.ts';

let folder: string;
beforeEach(() => {
  folder = testFolder();
});

/** A copy of a tiny model, to be damaged. */
function copyOf(name: string): string {
  const copy = join(folder, name);
  cpSync(goldenPath('tiny', name), copy, { recursive: true });
  return copy;
}

function changeJson(copy: string, file: string, change: object): void {
  const json = JSON.parse(readFileSync(join(copy, file), 'utf8')) as object;
  writeFileSync(join(copy, file), JSON.stringify({ ...json, ...change }));
}

const openAndClose = async (path: string) => (await openCheckpoint(path)).close();

test.each(['llama', 'llama3', 'qwen2', 'qwen2-tied', 'gpt2', 'gptj'])(
  'a folder gives every tensor of a %s in its canonical shape',
  async (name) => {
    const checkpoint = await openCheckpoint(goldenPath('tiny', name));
    for (const { name: tensor, shape, optional } of canonicalTensors(checkpoint.config)) {
      if (optional && !checkpoint.has(tensor)) continue;
      const read = await checkpoint.read(tensor);
      expect(read.shape).toEqual(shape);
      expect(read.values).toHaveLength(shape.reduce((a, b) => a * b, 1));
      expect(read.values.some((value) => value !== 0 && Number.isFinite(value))).toBe(true);
    }
    await checkpoint.close();
  },
);

test('a folder has the biases of Qwen2, which Llama lacks', async () => {
  const [qwen2, llama] = await Promise.all(
    ['qwen2', 'llama'].map((name) => openCheckpoint(goldenPath('tiny', name))),
  );
  const names = ['query', 'key', 'value', 'output'].map((part) => `blocks.0.${part}.bias`);
  expect(names.map((name) => qwen2!.has(name))).toEqual([true, true, true, false]);
  expect(names.map((name) => llama!.has(name))).toEqual([false, false, false, false]);
  expect(qwen2!.config.architecture).toBe('llama');
  expect([qwen2!.has('head.weight'), llama!.has('head.weight')]).toEqual([true, false]);
  await Promise.all([qwen2!.close(), llama!.close()]);
});

test('a folder is identified by the bytes of its weights, in one file or in shards', async () => {
  const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');
  const whole = await openCheckpoint(goldenPath('tiny', 'llama'));
  expect(whole.sha256).toBe(sha256(readFileSync(goldenPath('tiny', 'llama', 'model.safetensors'))));
  const sharded = await openCheckpoint(goldenPath('tiny', 'qwen2'));
  const lines = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'].map(
    (shard) => `${sha256(readFileSync(goldenPath('tiny', 'qwen2', shard)))}  ${shard}\n`,
  );
  expect(sharded.sha256).toBe(sha256(lines.join('')));
  await Promise.all([whole.close(), sharded.close()]);
});

test('a folder takes begin and end tokens from the file that names them', async () => {
  const copy = copyOf('llama');
  writeFileSync(join(copy, 'generation_config.json'), JSON.stringify({ eos_token_id: [5, 6] }));
  changeJson(copy, 'tokenizer_config.json', { bos_token: { content: '<|endoftext|>' } });
  const checkpoint = await openCheckpoint(copy);
  const { tokenizer } = checkpoint;
  expect(tokenizer.beginToken).toBe(0);
  expect(new Set(tokenizer.endTokens)).toEqual(new Set([5, 6, 0, 2]));
  await checkpoint.close();
});

test('a folder with missing tensors is refused with their names', async () => {
  const path = join(copyOf('llama'), 'model.safetensors');
  const { tensors } = decodeSafetensors(readFileSync(path));
  tensors.delete('model.layers.2.mlp.down_proj.weight');
  writeFileSync(path, encodeSafetensors(tensors));
  const opened = openCheckpoint(join(folder, 'llama'));
  await expect(opened).rejects.toThrow(MissingTensor);
  await expect(opened).rejects.toThrow(
    'blocks.2.down.weight (model.layers.2.mlp.down_proj.weight)',
  );
});

test('reading a tensor that the model lacks is refused with its name', async () => {
  const checkpoint = await openCheckpoint(goldenPath('tiny', 'llama'));
  await expect(checkpoint.read('blocks.9.down.weight')).rejects.toThrow(
    /no tensor "blocks\.9\.down\.weight"/,
  );
  await checkpoint.close();
});

type Damage = (copy: string) => void;
const without =
  (file: string): Damage =>
  (copy) =>
    rmSync(join(copy, file));
const cut =
  (bytes: number): Damage =>
  (copy) =>
    truncateSync(join(copy, 'model.safetensors'), bytes);
const written =
  (file: string, content: string): Damage =>
  (copy) =>
    writeFileSync(join(copy, file), content);
const configured =
  (change: object): Damage =>
  (copy) =>
    changeJson(copy, 'config.json', change);

const FIVE_HEADS = { num_attention_heads: 5, num_key_value_heads: 1, head_dim: null };
const OTHER_SHAPE = /embed_tokens\.weight" is \[128, 32\], the configuration says \[256, 32\]/;
test.each<[string, RegExp, Damage]>([
  ['weights cut short', /cut short/, cut(100_000)],
  ['a header cut short', /cut short/, cut(200)],
  ['empty weights', /too few/, cut(0)],
  ['no weights', /no \.safetensors file/, without('model.safetensors')],
  ['no tokeniser', /no tokenizer\.json/, without('tokenizer.json')],
  ['half a configuration', /config\.json: it is not JSON/, written('config.json', '{')],
  ['a configuration of another model', OTHER_SHAPE, configured({ vocab_size: 256 })],
  ['uneven heads', /impossible model: 5 heads over 32 channels/, configured(FIVE_HEADS)],
  ['no vocabulary', /no tokeniser: .*model\.vocab/, written('tokenizer.json', '{"model":{}}')],
])('a folder with %s is refused as unreadable', async (_, message, damage) => {
  const copy = copyOf('llama');
  damage(copy);
  await expect(openAndClose(copy)).rejects.toThrow(UnreadableCheckpoint);
  await expect(openAndClose(copy)).rejects.toThrow(message);
});

const YARN = { rope_type: 'yarn', factor: 4 };
test.each<[string, RegExp, Record<string, unknown>]>([
  ['an unknown architecture', /model_type "mamba"/, { model_type: 'mamba' }],
  ['an unknown activation', /hidden_act/, { hidden_act: 'relu' }],
  ['an unknown rotary scaling', /rotary embedding of kind "yarn"/, { rope_scaling: YARN }],
  ['a sliding window', /sliding window/, { model_type: 'mistral', sliding_window: 16 }],
  ['a missing number', /num_hidden_layers/, { num_hidden_layers: null }],
])('a folder with %s is refused as unsupported', async (_, message, change) => {
  const copy = copyOf('llama');
  configured(change)(copy);
  await expect(openAndClose(copy)).rejects.toThrow(UnsupportedCheckpoint);
  await expect(openAndClose(copy)).rejects.toThrow(message);
});

test('a folder that lacks a shard is refused with its name', async () => {
  const copy = copyOf('qwen2');
  rmSync(join(copy, 'model-00002-of-00002.safetensors'));
  await expect(openAndClose(copy)).rejects.toThrow(
    /lacks the shard "model-00002-of-00002\.safetensors"/,
  );
});

test('an index that leads out of the folder is refused', async () => {
  const copy = copyOf('qwen2');
  const weight_map = { a: '../qwen2/model-00001-of-00002.safetensors' };
  changeJson(copy, 'model.safetensors.index.json', { weight_map });
  await expect(openAndClose(copy)).rejects.toThrow(/lacks the shard/);
});

test.each(['llama', 'qwen2', 'gpt2'])(
  'a GGUF file holds the same %s as the folder it was made from',
  async (name) => {
    const [gguf, whole] = await Promise.all([
      openCheckpoint(goldenPath('tiny', `${name}.gguf`)),
      openCheckpoint(goldenPath('tiny', name)),
    ]);
    const withoutRounding = { ...gguf.config, normEpsilon: whole.config.normEpsilon };
    expect(withoutRounding).toEqual(whole.config);
    expect(Math.abs(gguf.config.normEpsilon / whole.config.normEpsilon - 1)).toBeLessThan(1e-6);
    for (const { name: tensor } of canonicalTensors(whole.config)) {
      expect(gguf.has(tensor)).toBe(whole.has(tensor));
      if (!whole.has(tensor)) continue;
      const [a, b] = await Promise.all([gguf.read(tensor), whole.read(tensor)]);
      expect(a.shape).toEqual(b.shape);
      // Q8_0 keeps 1/254 of a block's largest number, some 2 here; a wrong row or sign would be off
      // by units.
      expect(largestDifference(a.values, b.values), tensor).toBeLessThan(0.01);
    }
    const text = 'the capital of the river';
    expect(gguf.tokenizer.encode(text)).toEqual(whole.tokenizer.encode(text));
    await Promise.all([gguf.close(), whole.close()]);
  },
);

test('a GGUF file is found in its folder and identified by its bytes', async () => {
  const checkpoint = await openCheckpoint(homeFromEnvironment().model.folder);
  const widths = { layers: 30, residualWidth: 576, mlpWidth: 1536, vocabulary: 49152 };
  const rest = { heads: 9, keyValueHeads: 3, tiedEmbeddings: true };
  expect(checkpoint.config).toMatchObject({ ...widths, ...rest });
  expect(checkpoint.sha256).toBe(
    'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  );
  await checkpoint.close();
});

const original = () => new Uint8Array(readFileSync(goldenPath('tiny', 'llama.gguf')));
const open = (bytes: Uint8Array) => {
  const path = join(folder, 'model.gguf');
  writeFileSync(path, bytes);
  return openAndClose(path);
};
const at = (bytes: Uint8Array, text: string) => Buffer.from(bytes.buffer).indexOf(text);

const withUint64 = (place: number, value: bigint) => (bytes: Uint8Array) => {
  new DataView(bytes.buffer).setBigUint64(place, value, true);
  return bytes;
};
const ofLists = (bytes: Uint8Array) => {
  new DataView(bytes.buffer).setUint32(at(bytes, 'tokenizer.ggml.tokens') + 25, 9, true);
  return bytes;
};

test.each<[string, RegExp, (bytes: Uint8Array) => Uint8Array]>([
  ['no bytes', /exceeds the file's 0 bytes/, () => new Uint8Array(0)],
  ['other bytes', /does not begin with "GGUF"/, (bytes) => bytes.fill(1, 0, 4)],
  ['half a header', /exceeds the file's 3000 bytes/, (bytes) => bytes.slice(0, 3000)],
  ['its last tensor cut', /ends at byte \d+ of \d+.*cut short/, (bytes) => bytes.slice(0, -64)],
  ['2^60 tensors', /a size or offset is/, withUint64(8, 2n ** 60n)],
  ['a million tensors', /1000000 tensors; at most 65536 are allowed/, withUint64(8, 1_000_000n)],
  ['more tensors than it can hold', /more than \d+ bytes can hold/, withUint64(8, 60_000n)],
  ['a name of 2^40 bytes', /a name is \d+ bytes long/, withUint64(24, 2n ** 40n)],
  ['a list of lists', /holds lists/, ofLists],
  [
    'a key renamed',
    /metadata "llama\.block_count" should be a positive number and is missing/,
    (bytes) => (bytes.set([0x58], at(bytes, 'llama.block_count') + 6), bytes),
  ],
])('a GGUF file with %s is refused as unreadable', async (_, message, damage) => {
  const damaged = damage(original());
  await expect(open(damaged)).rejects.toThrow(UnreadableCheckpoint);
  await expect(open(damaged)).rejects.toThrow(message);
});

test('a GGUF file with an unsupported quantisation is refused with its name', async () => {
  const bytes = original();
  const name = 'blk.0.attn_k.weight';
  new DataView(bytes.buffer).setUint32(at(bytes, name) + name.length + 4 + 16, 16, true);
  await expect(open(bytes)).rejects.toThrow(UnsupportedCheckpoint);
  await expect(open(bytes)).rejects.toThrow(/"blk\.0\.attn_k\.weight" is stored as IQ2_XXS/);
});

test.each([
  ['general.architecture', 'llama', 'bamba', /architecture "bamba"/],
  ['tokenizer.ggml.pre', 'gpt-2', 'gpt-9', /pre-tokeniser "gpt-9"/],
  ['tokenizer.ggml.model', 'gpt2', 'lama', /tokeniser "lama"/],
])(
  'a GGUF file with an unknown %s is refused with its name',
  async (key, known, unknown, message) => {
    const bytes = original();
    const value = at(bytes, key) + key.length + 4 + 8;
    expect(Buffer.from(bytes).toString('latin1', value, value + known.length)).toBe(known);
    bytes.set(new TextEncoder().encode(unknown), value);
    await expect(open(bytes)).rejects.toThrow(UnsupportedCheckpoint);
    await expect(open(bytes)).rejects.toThrow(message);
  },
);

test.each<[string, RegExp, string, string[]]>([
  ['nothing', /there is no model/, 'absent', []],
  ['an empty folder', /neither config\.json nor a \.gguf file/, '.', []],
  ['two GGUF files', /2 \.gguf files/, '.', ['a.gguf', 'b.gguf']],
])('a path with %s is refused', async (_, message, path, files) => {
  for (const name of files) writeFileSync(join(folder, name), '');
  await expect(openAndClose(join(folder, path))).rejects.toThrow(message);
});
