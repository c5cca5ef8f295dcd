/**
 * GGUF files: a model, or a fault of the checkpoint that names the file; nothing large is made of
 * what a file claims.
 */
import fc from 'fast-check';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../model/checkpoint/checkpoint.ts';
import { canonicalTensors } from '../../model/checkpoint/canonical.ts';
import { CheckpointFault, UnreadableCheckpoint } from '../../model/checkpoint/faults.ts';
import { storageTypes, type StorageType } from '../../model/checkpoint/dequantise.ts';
import {
  GGUF_HEADER_BYTES_MAX,
  GGUF_LIST_ITEMS_MAX,
  readGgufHeader,
  type GgufValue,
} from '../../model/checkpoint/gguf-header.ts';
import { goldenPath } from '../golden/read-golden.ts';
import { damaged, faultOf, joined, littleEndian, oddText, runs } from './inputs.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'errata-fuzz-gguf-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MODELS = ['llama', 'qwen2', 'gpt2'].map(
  (name) => new Uint8Array(readFileSync(goldenPath('tiny', `${name}.gguf`))),
);
/** The share of a tiny model's file that its header takes. */
const HEADER_SHARE = 0.15;

/** Opens the bytes as a model and reads every tensor; the file is named like a model of its own. */
async function readWholeModel(bytes: Uint8Array): Promise<void> {
  const path = join(folder, 'model.gguf');
  writeFileSync(path, bytes);
  const checkpoint = await openCheckpoint(path);
  try {
    for (const { name } of canonicalTensors(checkpoint.config))
      if (checkpoint.has(name)) await checkpoint.read(name);
    checkpoint.tokenizer.encode('the capital of the river');
  } finally {
    await checkpoint.close();
  }
}

describe('a damaged GGUF file', () => {
  it('is a model or a clear fault', async () => {
    await fc.assert(
      fc.asyncProperty(damaged(fc.constantFrom(...MODELS), HEADER_SHARE), async (bytes) => {
        const fault = await faultOf(() => readWholeModel(bytes));
        if (fault === undefined) return;
        expect(fault).toBeInstanceOf(CheckpointFault);
        expect((fault as Error).message).toContain('model.gguf');
        expect((fault as Error).message.length).toBeLessThan(2_000);
      }),
      runs(200),
    );
  });
});

/** A header by hand: `values` are a key's name, its type and its bytes. */
function header(options: {
  tensors?: bigint;
  keys?: bigint;
  values?: [string, number, Uint8Array][];
  infos?: Uint8Array[];
}): Uint8Array {
  const { values = [], infos = [] } = options;
  return joined(
    Buffer.from('GGUF'),
    uint32(3),
    littleEndian(options.tensors ?? BigInt(infos.length)),
    littleEndian(options.keys ?? BigInt(values.length)),
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
  type = 0,
  rank = shape.length,
): Uint8Array {
  return joined(
    text(name),
    uint32(rank),
    ...shape.map(littleEndian),
    uint32(type),
    littleEndian(offset),
  );
}

/**
 * A file of `size` bytes that begins with these, the rest zeros that are nowhere; it counts what is
 * asked of it.
 */
function claimedFile(
  beginning: Uint8Array,
  size: number,
): { handle: FileHandle; asked: () => number } {
  let most = 0;
  const handle = {
    stat: () => Promise.resolve({ size }),
    read(into: Uint8Array, offset: number, length: number, position: number) {
      most = Math.max(most, position + length);
      const bytes = Math.min(length, size - position);
      into
        .subarray(offset, offset + bytes)
        .set(beginning.subarray(position, Math.min(beginning.length, position + bytes)));
      return Promise.resolve({ bytesRead: bytes });
    },
  } as unknown as FileHandle;
  return { handle, asked: () => most };
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
  const items = value.map((item) => valueBytes(typeof item === 'number' ? item + 0.5 : item)[1]);
  return [
    9,
    list(
      value.length === 0 ? 4 : valueBytes(typeof value[0] === 'number' ? 0.5 : value[0]!)[0],
      BigInt(items.length),
      joined(...items),
    ),
  ];
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

describe('a sound GGUF file of odd values', () => {
  it('is a model or a clear fault', async () => {
    const models = await Promise.all(
      MODELS.map((bytes) => readGgufHeader(claimedFile(bytes, bytes.length).handle, 'sound.gguf')),
    );
    const keys = [
      ...new Set(models.flatMap(({ metadata }) => [...metadata.keys()])),
      'llama.attention.key_length',
      'llama.rope.scaling.type',
      'llama.expert_count',
      'llama.rope.dimension_count',
    ];
    await fc.assert(
      fc.asyncProperty(
        fc.nat(models.length - 1),
        fc.dictionary(fc.constantFrom(...keys), fc.option(oddValue), {
          minKeys: 1,
          maxKeys: 3,
          noNullPrototype: true,
        }),
        async (which, changes) => {
          const { metadata, tensors } = models[which]!;
          const values = new Map<string, GgufValue | null>([
            ...metadata,
            ...Object.entries(changes),
          ]);
          // Types of tokens are whole numbers, which lists of this writer are not.
          values.set('tokenizer.ggml.token_type', changes['tokenizer.ggml.token_type'] ?? null);
          const dataBegin = Math.min(...[...tensors.values()].map(({ begin }) => begin));
          const infos = [...tensors.values()].map(({ name, shape, storage, begin }) =>
            info(
              name,
              [...shape].reverse().map(BigInt),
              BigInt(begin - dataBegin),
              numberOf(storage),
            ),
          );
          const head = header({
            values: [...values].flatMap(([key, value]) =>
              value === null ? [] : [[key, ...valueBytes(value)] as [string, number, Uint8Array]],
            ),
            infos,
          });
          const fault = await faultOf(() =>
            readWholeModel(
              joined(head, new Uint8Array(-head.length & 31), MODELS[which]!.subarray(dataBegin)),
            ),
          );
          if (fault === undefined) return;
          expect(fault).toBeInstanceOf(CheckpointFault);
          expect((fault as Error).message.length).toBeLessThan(2_000);
        },
      ),
      runs(200),
    );
  });

  function numberOf(storage: StorageType): number {
    return [...storageTypes].find(([, type]) => type === storage)![0];
  }
});

const TERABYTE = 2 ** 40;
/** The first look at a file: what is refused by its first bytes is refused without more. */
const FIRST_LOOK_BYTES = 8 * 2 ** 20;

describe('a GGUF header that claims', () => {
  it.each<[string, Uint8Array, RegExp]>([
    [
      '2^60 tensors',
      header({ tensors: 2n ** 60n }),
      /a size or offset is 1152921504606846976|most allowed/,
    ],
    ['2^53 - 1 tensors', header({ tensors: 2n ** 53n - 1n }), /tensors; the most allowed is 65536/],
    ['2^60 metadata keys', header({ keys: 2n ** 60n }), /a size or offset|most allowed/],
    [
      'a text of 2^60 bytes',
      header({ values: [['general.name', 8, littleEndian(2n ** 60n)]] }),
      /a size or offset|text is/,
    ],
    [
      'a text of 2^40 bytes',
      header({ values: [['general.name', 8, littleEndian(2n ** 40n)]] }),
      /a text is 1099511627776 bytes long/,
    ],
    [
      'a key of a megabyte',
      header({ values: [['k'.repeat(2 ** 20), 4, uint32(1)]] }),
      /a name is 1048576 bytes long/,
    ],
    [
      'a list of 2^60 items',
      header({ values: [['a', 9, list(8, 2n ** 60n)]] }),
      /a size or offset|most allowed/,
    ],
    [
      'a list of lists',
      header({ values: [['a', 9, list(9, 1n, list(4, 1n, uint32(1)))]] }),
      /a metadata list holds lists/,
    ],
    [
      'a key that is there twice',
      header({
        values: [
          ['a', 4, uint32(1)],
          ['a', 4, uint32(2)],
        ],
      }),
      /key "a" is there twice/,
    ],
    [
      'a tensor of 2^60 dimensions',
      header({ infos: [info('t', [1n], 0n, 0, 2 ** 32 - 1)] }),
      /has 4294967295 dimensions/,
    ],
    ['a dimension of 2^60', header({ infos: [info('t', [2n ** 60n], 0n)] }), /a size or offset/],
    [
      'more elements than a number can count',
      header({ infos: [info('t', [2n ** 31n, 2n ** 31n], 0n)] }),
      /shape/,
    ],
    ['an offset of 2^60', header({ infos: [info('t', [1n], 2n ** 60n)] }), /a size or offset/],
    ['a tensor past the end', header({ infos: [info('t', [1n], 2n ** 50n)] }), /ends at byte/],
    [
      'tensors that overlap',
      header({ infos: [info('t', [64n], 0n), info('u', [64n], 128n)] }),
      /tensors "t" and "u" overlap/,
    ],
    [
      'tensors in one place',
      header({ infos: [info('t', [64n], 0n), info('u', [64n], 0n)] }),
      /overlap/,
    ],
    [
      'a tensor twice',
      header({ infos: [info('t', [1n], 0n), info('t', [1n], 32n)] }),
      /there twice/,
    ],
    ...[Number.NaN, Infinity, 32.5, 0, -32, 2 ** 40].map(
      (alignment): [string, Uint8Array, RegExp] => [
        `an alignment of ${alignment}`,
        header({
          values: [['general.alignment', 12, float64(alignment)]],
          infos: [info('t', [1n], 0n)],
        }),
        /general\.alignment is/,
      ],
    ),
    [
      'a list as alignment',
      header({ values: [['general.alignment', 9, list(4, 1n, uint32(32))]] }),
      /general\.alignment is/,
    ],
  ])('%s is refused at first sight', async (_, bytes, message) => {
    const { handle, asked } = claimedFile(bytes, TERABYTE);
    const fault = await faultOf(() => readGgufHeader(handle, 'claimed.gguf'));
    expect(fault).toBeInstanceOf(UnreadableCheckpoint);
    expect((fault as Error).message).toMatch(message);
    expect((fault as Error).message.length).toBeLessThan(500);
    expect(asked()).toBeLessThanOrEqual(FIRST_LOOK_BYTES);
  });

  it('to go on without end is read up to its bound and no further', async () => {
    // Every text is as long as one may be; the bytes behind them are zeros, which are texts without
    // a character.
    const { handle, asked } = claimedFile(
      header({ keys: 1n, values: [['a', 9, list(0, BigInt(GGUF_LIST_ITEMS_MAX))]] }),
      6 * 2 ** 20,
    );
    expect((await readGgufHeader(handle, 'claimed.gguf')).metadata.get('a')).toHaveLength(
      GGUF_LIST_ITEMS_MAX,
    );
    expect(asked()).toBeLessThanOrEqual(GGUF_HEADER_BYTES_MAX);
  });

  it('many long lists holds no more items than one list may', async () => {
    const lists = Array.from({ length: 60 }, (_, i): [string, number, Uint8Array] => [
      `list ${i}`,
      9,
      list(0, BigInt(GGUF_LIST_ITEMS_MAX / 4), new Uint8Array(GGUF_LIST_ITEMS_MAX / 4)),
    ]);
    const bytes = header({ values: lists });
    const fault = await faultOf(() =>
      readGgufHeader(claimedFile(bytes, bytes.length).handle, 'claimed.gguf'),
    );
    expect(fault).toBeInstanceOf(UnreadableCheckpoint);
    expect((fault as Error).message).toMatch(
      new RegExp(`the most allowed in all lists is ${GGUF_LIST_ITEMS_MAX}`),
    );
  });
});

describe('a GGUF file whose parts do not fit one another', () => {
  const opened = async (bytes: Uint8Array) => {
    const path = join(folder, 'model.gguf');
    writeFileSync(path, bytes);
    return openCheckpoint(path);
  };
  /** A tiny model with the value of a key written over, from the number of its type on. */
  const changed = (key: string, ...parts: Uint8Array[]): Uint8Array => {
    const bytes = MODELS[0]!.slice();
    bytes.set(joined(...parts), Buffer.from(bytes.buffer).indexOf(key) + key.length);
    return bytes;
  };

  it('has no end token that is no token', async () => {
    const checkpoint = await opened(
      changed('tokenizer.ggml.eos_token_id', uint32(5), uint32(2 ** 32 - 1)),
    );
    await checkpoint.close();
    expect(checkpoint.tokenizer.endTokens.every((id) => id >= 0)).toBe(true);
  });

  it('is refused where its tokens have types and not each one', async () => {
    const bytes = MODELS[0]!;
    const key = 'tokenizer.ggml.token_type';
    const at = Buffer.from(bytes.buffer).indexOf(key) + key.length + 8;
    const count = Number(new DataView(bytes.buffer).getBigUint64(at, true));
    // One type fewer, and its four bytes taken from the file.
    const fewer = joined(
      bytes.subarray(0, at),
      littleEndian(BigInt(count - 1)),
      bytes.subarray(at + 8, at + 8 + 4 * (count - 1)),
      bytes.subarray(at + 8 + 4 * count),
      new Uint8Array(64),
    );
    const fault = await faultOf(() => opened(fewer));
    expect(String(fault)).toMatch(/the types of its 128 tokens are a list of 127/);
  });
});
