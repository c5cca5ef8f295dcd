import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeSafetensors,
  encodeSafetensors,
  MalformedSafetensors,
  parseSafetensorsHeader,
  type StoredTensor,
} from '../../../schemas/encoding/safetensors.ts';
import { always, faultOf, joined, littleEndian } from '../../harness/odd-inputs.ts';
import { readGoldenTensors } from '../../golden/read-golden.ts';

const sample = (): Map<string, StoredTensor> =>
  new Map<string, StoredTensor>([
    ['10', { type: 'F32', shape: [2, 2], values: Float32Array.of(1.5, -0, NaN, Infinity) }],
    ['exact', { type: 'F64', shape: [2], values: Float64Array.of(Math.PI, -1e-300) }],
    ['ids', { type: 'I32', shape: [3], values: Int32Array.of(1, -2, 2 ** 31 - 1) }],
    ['offsets', { type: 'I64', shape: [], values: BigInt64Array.of(-(2n ** 63n)) }],
    ['halves', { type: 'BF16', shape: [1, 2], values: Uint16Array.of(0x3f80, 0xffff) }],
    ['halves16', { type: 'F16', shape: [2, 1], values: Uint16Array.of(0x3c00, 1) }],
    ['bytes', { type: 'U8', shape: [5], values: Uint8Array.of(0, 1, 127, 128, 255) }],
    ['nothing', { type: 'F32', shape: [0, 7], values: new Float32Array(0) }],
  ]);

/** A file with any header and `dataBytes` zeros. */
function fileOf(header: string, dataBytes: number): Uint8Array {
  const length = littleEndian(BigInt(Buffer.byteLength(header)));
  return joined(length, Buffer.from(header), new Uint8Array(dataBytes));
}

/** A file with one tensor, and as many bytes of data as its offsets say. */
function oneTensor(dtype: string, shape: number[], offsets: [number, number], dataBytes = 1) {
  return fileOf(JSON.stringify({ a: { dtype, shape, data_offsets: offsets } }), dataBytes);
}

async function reasonOf(file: Uint8Array): Promise<string> {
  const fault = await faultOf(() => decodeSafetensors(file));
  if (fault === undefined) return 'sound';
  expect(fault).toBeInstanceOf(MalformedSafetensors);
  return (fault as MalformedSafetensors).reason;
}

test('safetensors decodes what it encoded, bit for bit', () => {
  const read = decodeSafetensors(encodeSafetensors(sample(), { format: 'pt', a: 'ä' }));
  expect(read.metadata).toEqual({ a: 'ä', format: 'pt' });
  expect(new Map([...read.tensors].sort())).toEqual(new Map([...sample()].sort()));
});

test('equal content has equal bytes, whatever its order', () => {
  const backwards = new Map([...sample()].reverse());
  const forwards = encodeSafetensors(sample(), { a: '1', b: '2' });
  expect(encodeSafetensors(backwards, { b: '2', a: '1' })).toEqual(forwards);
});

test('every tensor is aligned to its element size', () => {
  const file = encodeSafetensors(sample());
  const { tensors, dataOffset } = parseSafetensorsHeader(file, file.length);
  for (const [name, { begin }] of tensors) {
    const { BYTES_PER_ELEMENT } = sample().get(name)!.values;
    expect((dataOffset + begin) % BYTES_PER_ELEMENT).toBe(0);
  }
});

test('files of the Python library are read', () => {
  const tensors = readGoldenTensors('tiny', 'llama-expected.safetensors');
  expect(tensors.get('ids.0')).toMatchObject({ type: 'I32', shape: [13] });
  expect(tensors.get('logits.0')).toMatchObject({ type: 'F32', shape: [13, 128] });
});

test('a view into a larger buffer is written without its neighbours', () => {
  const values = new Float32Array([1, 2, 3, 4]).subarray(1, 3);
  const part: StoredTensor = { type: 'F32', shape: [2], values };
  const { tensors } = decodeSafetensors(encodeSafetensors(new Map([['part', part]])));
  expect([...tensors.get('part')!.values]).toEqual([2, 3]);
});

test.each([
  ['values that are too few', { type: 'F32', shape: [3], values: new Float32Array(2) }],
  ['values of another width', { type: 'F64', shape: [2], values: new Float32Array(2) }],
  ['values with a negative dimension', { type: 'F32', shape: [-1], values: new Float32Array(0) }],
] as [string, StoredTensor][])('%s are not written', (_, tensor) => {
  expect(() => encodeSafetensors(new Map([['tensor', tensor]]))).toThrow(RangeError);
});

test.each([
  ['no bytes', new Uint8Array(0), /too few/],
  ['a header length over the bound', new Uint8Array(8).fill(0xff), /most allowed is 100000000/],
  ['a header longer than the file', fileOf('{}', 0).subarray(0, 9), /cut short/],
  ['a header that is not JSON', fileOf('{"a":', 0), /not JSON/],
  ['a header that is not an object', fileOf('[]', 0), /not a JSON object/],
  ['an unknown type', oneTensor('Q4', [1], [0, 1]), /type "Q4"/],
  ['a type from the prototype', oneTensor('toString', [1], [0, 1]), /type "toString"/],
  ['an absurd shape', oneTensor('U8', [2 ** 53 - 1, 2 ** 53 - 1], [0, 1]), /needs/],
  ['a fractional shape', oneTensor('U8', [1.5], [0, 1]), /shape/],
  ['offsets that run backwards', oneTensor('U8', [0], [1, 0]), /needs 0 bytes and has -1/],
  ['a gap between tensors', oneTensor('U8', [1], [1, 2], 2), /gap/],
  [
    'tensors that overlap',
    fileOf(
      JSON.stringify({
        a: { dtype: 'U8', shape: [2], data_offsets: [0, 2] },
        b: { dtype: 'U8', shape: [2], data_offsets: [1, 3] },
      }),
      3,
    ),
    /overlap/,
  ],
  ['bytes left over', oneTensor('U8', [1], [0, 1], 2), /left over/],
  ['tensors past the end', oneTensor('U8', [9], [0, 9], 2), /cut short/],
  ['metadata that is not a text', fileOf('{"__metadata__":{"a":1}}', 0), /"a" is not a string/],
  ['a tensor that is null', fileOf('{"a":null}', 0), /type undefined/],
])('%s is refused with a reason', async (_, file, reason) => {
  expect(await reasonOf(file)).toMatch(reason);
});

test('a damaged file gives its tensors or MalformedSafetensors', async () => {
  const file = encodeSafetensors(sample());
  const headerEnd = 8 + Number(new DataView(file.buffer).getBigUint64(0, true));
  const [at, byte, length] = [fc.nat(headerEnd - 1), fc.nat(255), fc.nat(file.length)];
  await always(500, at, byte, length, async (i, value, end) => {
    const damaged = file.slice(0, i % 3 === 0 ? end : file.length);
    if (i < damaged.length) damaged[i] = value;
    expect(typeof (await reasonOf(damaged))).toBe('string');
  });
});
