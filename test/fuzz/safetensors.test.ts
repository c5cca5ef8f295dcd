/** Safetensors headers give tensors no larger than their file, or fail with a clear fault. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeSafetensors,
  encodeSafetensors,
  HEADER_BYTES_MAX,
  HEADER_VALUES_MAX,
  MalformedSafetensors,
  parseSafetensorsHeader,
  safetensorsHeaderBytes,
} from '../../schemas/encoding/safetensors.ts';
import {
  always,
  damaged,
  joined,
  littleEndian,
  nestedJson,
  oddParts,
} from '../harness/odd-inputs.ts';

const ONE_BYTE = { dtype: 'U8', shape: [1], data_offsets: [0, 1] };

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

test('a damaged file gives tensors no larger than the file, or a clear fault', async () => {
  await always(500, damaged(sound), decode);
});

test('an odd header gives tensors no larger than the file, or a clear fault', async () => {
  const header = {
    __metadata__: { a: 'b' },
    a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
    b: { dtype: 'U8', shape: [8], data_offsets: [24, 32] },
  };
  await always(500, oddParts(header), fc.nat(64), (value, data) =>
    decode(fileOf(JSON.stringify(value), data)),
  );
});

test.each([
  ['2^63 bytes', 2n ** 63n],
  ['2^60 bytes', 2n ** 60n],
  ['a byte more than is allowed', BigInt(HEADER_BYTES_MAX) + 1n],
])('a header that claims %s is refused from the first eight bytes', (_, claimed) => {
  expect(() => safetensorsHeaderBytes(littleEndian(claimed), 2 ** 53)).toThrow(
    /the most allowed is 100000000/,
  );
});

test('a header that claims more than the file is refused before it is read', () => {
  expect(() => safetensorsHeaderBytes(littleEndian(BigInt(HEADER_BYTES_MAX)), 1_000)).toThrow(
    /cut short/,
  );
});

test.each<[string, string, RegExp]>([
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
  ['tensors in one place', JSON.stringify({ a: ONE_BYTE, b: ONE_BYTE }), /overlap/],
])('a header with %s is refused', (_, json, message) => {
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
