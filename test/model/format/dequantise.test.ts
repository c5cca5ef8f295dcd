import { GGMLQuantizationType } from '@huggingface/gguf';
import { expect, test } from 'vitest';
import { halves, storageTypes } from '../../../model/format/dequantise.ts';
import { readGoldenTensors } from '../../golden/read-golden.ts';

const golden = readGoldenTensors('quantisation.safetensors');
const kinds = [...golden.keys()]
  .filter((key) => key.endsWith('.bytes'))
  .map((key) => key.replace('.bytes', ''));

test.each(kinds)('%s is read bit for bit as the gguf package reads it', (kind) => {
  const bytes = golden.get(`${kind}.bytes`)!.values as Uint8Array;
  const expected = golden.get(`${kind}.values`)!.values as Float32Array;
  const storage = storageTypes.get(
    GGMLQuantizationType[kind as keyof typeof GGMLQuantizationType],
  )!;
  const blocks = bytes.length / storage.blockBytes;
  expect(blocks * storage.blockElements).toBe(expected.length);

  // Placed after other data and inside a larger array, like a chunk of a file.
  const file = new Uint8Array(bytes.length + 3);
  file.set(bytes, 3);
  const out = new Float32Array(expected.length + 2).fill(7);
  storage.decode(file.subarray(3), out, 1);
  expect(out.subarray(1, -1)).toEqual(expected);
  expect([out[0], out.at(-1)]).toEqual([7, 7]);
});

test('the goldens cover every supported type except plain F32', () => {
  const names = [...storageTypes.keys()]
    .map((number) => GGMLQuantizationType[number])
    .filter((name) => name !== 'F32');
  expect(names.sort()).toEqual([...kinds].sort());
});

test('half-precision numbers are read exactly', () => {
  const half = halves();
  const known: [number, number][] = [
    [0x0000, 0],
    [0x8000, -0],
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x7c00, Infinity],
    [0xfc00, -Infinity],
    [0x7e00, NaN],
  ];
  for (const [bits, value] of known) expect(half[bits]).toBe(value);
});
