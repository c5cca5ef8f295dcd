/** GGUF files open as a model or fail with a fault; their claims never cause a large allocation. */
import fc from 'fast-check';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint/checkpoint.ts';
import { CheckpointFault, UnreadableCheckpoint } from '../../model/format/faults.ts';
import { storageTypes } from '../../model/format/dequantise.ts';
import type { OpenFile } from '../../model/format/file-reading.ts';
import {
  GGUF_HEADER_BYTES_MAX,
  GGUF_LIST_ITEMS_MAX,
  readGgufHeader,
  type GgufValue,
} from '../../model/format/gguf-header.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { testFolder } from '../harness/clean-up.ts';
import { useModel } from '../harness/use-model.ts';
import { always, damaged, faultOf, joined, littleEndian, oddText } from '../harness/odd-inputs.ts';

const folder = testFolder();

const MODELS = ['llama', 'qwen2', 'gpt2'].map(
  (name) => new Uint8Array(readFileSync(goldenPath('tiny', `${name}.gguf`))),
);
/** The share of the file of a tiny model that its header takes. */
const HEADER_SHARE = 0.15;

const path = join(folder, 'model.gguf');

function openBytes(bytes: Uint8Array): Promise<Checkpoint> {
  writeFileSync(path, bytes);
  return openCheckpoint(path);
}

async function isModelOrClearFault(bytes: Uint8Array): Promise<void> {
  writeFileSync(path, bytes);
  const fault = await faultOf(() => useModel(path));
  if (fault === undefined) return;
  expect(fault).toBeInstanceOf(CheckpointFault);
  expect((fault as Error).message).toContain('model.gguf');
  expect((fault as Error).message.length).toBeLessThan(2_000);
}

test('a damaged GGUF file gives a model or a clear fault', async () => {
  await always(200, damaged(fc.constantFrom(...MODELS), HEADER_SHARE), isModelOrClearFault);
});

type Key = [name: string, type: number, bytes: Uint8Array];

/** A handmade header. */
function header(parts: {
  values?: Key[];
  infos?: Uint8Array[];
  tensors?: bigint;
  keys?: bigint;
}): Uint8Array {
  const { values = [], infos = [] } = parts;
  const { tensors = BigInt(infos.length), keys = BigInt(values.length) } = parts;
  return joined(
    Buffer.from('GGUF'),
    uint32(3),
    littleEndian(tensors),
    littleEndian(keys),
    ...values.flatMap(([name, type, bytes]) => [text(name), uint32(type), bytes]),
    ...infos,
  );
}

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function float64(value: number): Uint8Array {
  return new Uint8Array(Float64Array.of(value).buffer);
}

function text(value: string): Uint8Array {
  return joined(littleEndian(BigInt(Buffer.byteLength(value))), Buffer.from(value));
}

function list(itemType: number, count: bigint, items: Uint8Array = new Uint8Array(0)): Uint8Array {
  return joined(uint32(itemType), littleEndian(count), items);
}

function info(
  name: string,
  shape: bigint[],
  offset: bigint,
  { type = 0, rank = shape.length } = {},
) {
  const dimensions = shape.map(littleEndian);
  return joined(text(name), uint32(rank), ...dimensions, uint32(type), littleEndian(offset));
}

/** A file of `size` bytes with zeros after its beginning; `readTo` is the furthest byte read. */
function claimedFile(beginning: Uint8Array, size = beginning.length) {
  let most = 0;
  const handle = {
    read(into: Uint8Array, offset: number, length: number, position: number) {
      most = Math.max(most, position + length);
      const bytes = Math.min(length, size - position);
      into
        .subarray(offset, offset + bytes)
        .set(beginning.subarray(position, Math.min(beginning.length, position + bytes)));
      return Promise.resolve({ bytesRead: bytes });
    },
  };
  const file = { path: 'claimed.gguf', bytes: size, handle } as unknown as OpenFile;
  return { file, readTo: () => most };
}

/** A metadata value with its type before it. */
function valueBytes(value: GgufValue): [number, Uint8Array] {
  if (typeof value === 'string') return [8, text(value)];
  if (typeof value === 'boolean') return [7, Uint8Array.of(Number(value))];
  if (typeof value === 'bigint') return [11, littleEndian(BigInt.asUintN(64, value))];
  if (typeof value === 'number')
    return Number.isInteger(value) && value >= 0 && value < 2 ** 32
      ? [4, uint32(value)]
      : [12, float64(value)];
  const items = value.map((item) => valueBytes(typeof item === 'number' ? item + 0.5 : item));
  const bytes = joined(...items.map(([, item]) => item));
  return [9, list(items[0]?.[0] ?? 4, BigInt(items.length), bytes)];
}

const oddNumber = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 2 ** 31, 2 ** 53, 1e308, -1, 0.5, Number.NaN, Infinity),
  fc.nat(200),
  fc.double(),
);
const oddValue: fc.Arbitrary<GgufValue> = fc.oneof(
  { weight: 3, arbitrary: oddNumber },
  oddText,
  fc.constantFrom('llama', 'gpt2', 'qwen2', 'yarn', 'gpt-2', 'llama-bpe', 'smollm'),
  fc.boolean(),
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.array(oddText, { maxLength: 200 }),
  fc.array(oddNumber, { maxLength: 200 }),
);

/** The model's file with some metadata changed, or removed where the value is null. */
async function withValues(bytes: Uint8Array, changes: Record<string, GgufValue | null>) {
  const { metadata, tensors } = await readGgufHeader(claimedFile(bytes).file);
  // This writer's lists hold no integers, so the token types are omitted.
  const types = { 'tokenizer.ggml.token_type': null };
  const values = Object.entries({ ...Object.fromEntries(metadata), ...types, ...changes }).flatMap(
    ([key, value]): Key[] => (value === null ? [] : [[key, ...valueBytes(value)]]),
  );
  const dataBegin = Math.min(...[...tensors.values()].map(({ begin }) => begin));
  const infos = [...tensors.values()].map(({ name, shape, storage, begin }) => {
    const type = [...storageTypes].find(([, one]) => one === storage)![0];
    const dimensions = [...shape].reverse().map(BigInt);
    return info(name, dimensions, BigInt(begin - dataBegin), { type });
  });
  const head = header({ values, infos });
  return joined(head, new Uint8Array(-head.length & 31), bytes.subarray(dataBegin));
}

test('a sound GGUF file with odd values gives a model or a clear fault', async () => {
  const headers = await Promise.all(MODELS.map((bytes) => readGgufHeader(claimedFile(bytes).file)));
  const keys = [
    ...new Set(headers.flatMap(({ metadata }) => [...metadata.keys()])),
    'llama.attention.key_length',
    'llama.rope.scaling.type',
    'llama.expert_count',
    'llama.rope.dimension_count',
  ];
  const changes = fc.dictionary(fc.constantFrom(...keys), fc.option(oddValue), {
    minKeys: 1,
    maxKeys: 3,
    noNullPrototype: true,
  });
  await always(200, fc.constantFrom(...MODELS), changes, async (bytes, values) =>
    isModelOrClearFault(await withValues(bytes, values)),
  );
});

const TERABYTE = 2 ** 40;
const OVERLAP = /tensors "t" and "u" overlap/;
/** Size of the first read of a file; its claims are refused without a second read. */
const FIRST_READ_BYTES = 8 * 2 ** 20;

const keyed = (...values: Key[]) => header({ values });
const named = (type: number, bytes: Uint8Array) => keyed(['general.name', type, bytes]);
const tensors = (...infos: Uint8Array[]) => header({ infos });
const aligned = (type: number, bytes: Uint8Array) =>
  header({ values: [['general.alignment', type, bytes]], infos: [info('t', [1n], 0n)] });

const CLAIMS: [claim: string, bytes: Uint8Array, message: RegExp][] = [
  ['2^60 tensors', header({ tensors: 2n ** 60n }), /a size or offset is 1152921504606846976/],
  ['2^53 - 1 tensors', header({ tensors: 2n ** 53n - 1n }), /tensors; at most 65536 are allowed/],
  ['2^60 metadata keys', header({ keys: 2n ** 60n }), /a size or offset/],
  ['a text of 2^60 bytes', named(8, littleEndian(2n ** 60n)), /a size or offset/],
  ['a text of 2^40 bytes', named(8, littleEndian(2n ** 40n)), /a text is 1099511627776 bytes long/],
  ['a long key', keyed(['k'.repeat(2 ** 20), 4, uint32(1)]), /a name is 1048576 bytes long/],
  ['a list of 2^60 items', keyed(['a', 9, list(8, 2n ** 60n)]), /a size or offset/],
  ['a list of lists', keyed(['a', 9, list(9, 1n, list(4, 1n, uint32(1)))]), /list holds lists/],
  ['one key twice', keyed(['a', 4, uint32(1)], ['a', 4, uint32(2)]), /key "a" occurs twice/],
  [
    'a tensor of 2^32 - 1 dimensions',
    tensors(info('t', [1n], 0n, { rank: 2 ** 32 - 1 })),
    /4294967295 d/,
  ],
  ['a dimension of 2^60', tensors(info('t', [2n ** 60n], 0n)), /a size or offset/],
  ['more elements than can be counted', tensors(info('t', [2n ** 31n, 2n ** 31n], 0n)), /shape/],
  ['an offset of 2^60', tensors(info('t', [1n], 2n ** 60n)), /a size or offset/],
  ['a tensor past the end', tensors(info('t', [1n], 2n ** 50n)), /ends at byte/],
  ['tensors that overlap', tensors(info('t', [64n], 0n), info('u', [64n], 128n)), OVERLAP],
  ['tensors in one place', tensors(info('t', [64n], 0n), info('u', [64n], 0n)), OVERLAP],
  ['one tensor twice', tensors(info('t', [1n], 0n), info('t', [1n], 32n)), /occurs twice/],
  ...[Number.NaN, Infinity, 32.5, 0, -32, 2 ** 40].map((alignment): (typeof CLAIMS)[number] => [
    `an alignment of ${alignment}`,
    aligned(12, float64(alignment)),
    /general\.alignment is/,
  ]),
  ['a list as alignment', aligned(9, list(4, 1n, uint32(32))), /general\.alignment is/],
];

test.each(CLAIMS)('a GGUF header that claims %s is refused early', async (_, bytes, message) => {
  const { file, readTo } = claimedFile(bytes, TERABYTE);
  const fault = await faultOf(() => readGgufHeader(file));
  expect(fault).toBeInstanceOf(UnreadableCheckpoint);
  expect((fault as Error).message).toMatch(message);
  expect((fault as Error).message.length).toBeLessThan(500);
  expect(readTo()).toBeLessThanOrEqual(FIRST_READ_BYTES);
});

test('a GGUF header with the most items allowed is read within its bound', async () => {
  const { file, readTo } = claimedFile(
    header({ keys: 1n, values: [['a', 9, list(0, BigInt(GGUF_LIST_ITEMS_MAX))]] }),
    6 * 2 ** 20,
  );
  const { metadata } = await readGgufHeader(file);
  expect(metadata.get('a')).toHaveLength(GGUF_LIST_ITEMS_MAX);
  expect(readTo()).toBeLessThanOrEqual(GGUF_HEADER_BYTES_MAX);
});

test('all lists of a GGUF header together hold no more items than one list may', async () => {
  const quarter = GGUF_LIST_ITEMS_MAX / 4;
  const lists = Array.from({ length: 60 }, (_, i): Key => [
    `list ${i}`,
    9,
    list(0, BigInt(quarter), new Uint8Array(quarter)),
  ]);
  const bytes = keyed(...lists);
  const fault = await faultOf(() => readGgufHeader(claimedFile(bytes).file));
  expect(fault).toBeInstanceOf(UnreadableCheckpoint);
  expect((fault as Error).message).toContain(`over ${GGUF_LIST_ITEMS_MAX} items together`);
});

test('an end token outside the vocabulary is ignored', async () => {
  const key = 'tokenizer.ggml.eos_token_id';
  const bytes = MODELS[0]!.slice();
  const at = Buffer.from(bytes.buffer).indexOf(key) + key.length;
  bytes.set(joined(uint32(5), uint32(2 ** 32 - 1)), at);
  const checkpoint = await openBytes(bytes);
  await checkpoint.close();
  expect(checkpoint.tokenizer.endTokens.every((id) => id >= 0)).toBe(true);
});

test('a GGUF file with fewer token types than tokens is refused', async () => {
  const bytes = MODELS[0]!;
  const key = 'tokenizer.ggml.token_type';
  const at = Buffer.from(bytes.buffer).indexOf(key) + key.length + 8;
  const count = Number(new DataView(bytes.buffer).getBigUint64(at, true));
  // One type fewer, with its four bytes removed from the file.
  const fewer = joined(
    bytes.subarray(0, at),
    littleEndian(BigInt(count - 1)),
    bytes.subarray(at + 8, at + 8 + 4 * (count - 1)),
    bytes.subarray(at + 8 + 4 * count),
    new Uint8Array(64),
  );
  const fault = await faultOf(() => openBytes(fewer));
  expect(String(fault)).toMatch(/the types of its 128 tokens are a list of 127/);
});
