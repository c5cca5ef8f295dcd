/**
 * The safetensors format: an 8-byte little-endian length, a JSON header of that length, then the
 * tensors' bytes (https://github.com/huggingface/safetensors, "Format"). Bytes in, bytes out; no
 * files. Little-endian machines only, as everything that Node runs TensorFlow on is.
 *
 * The writer is deterministic: tensors stand by falling element size, then by name, and the
 * metadata by key, so that equal content has equal bytes and a hash of them can be its name.
 */
import { boundedJson, UnsoundJson } from './bounded-json.ts';
import { ErrataFailure } from '../failures.ts';
import { excerpt } from './excerpt.ts';

export const HEADER_BYTES_MAX = 100_000_000;
export const TENSORS_MAX = 100_000;
/** JSON values in a header: some ten a tensor. */
export const HEADER_VALUES_MAX = 2_000_000;
const HEADER_DEPTH_MAX = 8;
export const RANK_MAX = 8;

/** Bytes of one element by type name. */
export const elementBytes = {
  ...{ F64: 8, I64: 8, U64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2, I16: 2, U16: 2 },
  ...{ I8: 1, U8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1 },
} as const;
export type ElementType = keyof typeof elementBytes;

/** Floating-point types that JavaScript has no array for are held as their bits. */
export type ElementArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

export interface StoredTensor {
  type: ElementType;
  shape: number[];
  values: ElementArray;
}

/** Where a tensor's bytes lie: [begin, end), counted from the end of the header. */
export interface TensorPlace {
  type: ElementType;
  shape: number[];
  begin: number;
  end: number;
}

export interface SafetensorsHeader {
  tensors: Map<string, TensorPlace>;
  metadata: Record<string, string>;
  /** Offset of the first tensor byte in the file. */
  dataOffset: number;
}

/** The bytes are not safetensors, or not whole. `reason` is for the operator. */
export class MalformedSafetensors extends ErrataFailure {
  override readonly name = 'MalformedSafetensors';
  constructor(readonly reason: string) {
    super(`Not a sound safetensors file: ${reason}`, { reason }, 'Write or fetch the file again.');
  }
}

/**
 * Bytes of a file holding these tensors. Throws RangeError where a tensor's values do not fit its
 * type and shape.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const names = [...tensors.keys()].sort((a, b) => {
    const bySize = elementBytes[tensors.get(b)!.type] - elementBytes[tensors.get(a)!.type];
    return bySize !== 0 ? bySize : a < b ? -1 : 1;
  });
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    const sorted = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
    entries.push(['__metadata__', Object.fromEntries(sorted)]);
  }
  let end = 0;
  for (const name of names) {
    const tensor = tensors.get(name)!;
    checkTensor(name, tensor);
    const begin = end;
    end += tensor.values.byteLength;
    entries.push([name, { dtype: tensor.type, shape: tensor.shape, data_offsets: [begin, end] }]);
  }
  // Built by hand because an object would put names that look like numbers first.
  let json = `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`;
  const encoder = new TextEncoder();
  // Spaces up to a multiple of 8 align the tensors, as the reference writer does.
  json += ' '.repeat((8 - (encoder.encode(json).length % 8)) % 8);
  const header = encoder.encode(json);
  if (header.length > HEADER_BYTES_MAX)
    throw new RangeError(`A header of ${header.length} bytes is over ${HEADER_BYTES_MAX}`);
  const file = new Uint8Array(8 + header.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  let at = 8 + header.length;
  for (const name of names) {
    const { values } = tensors.get(name)!;
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

/** All tensors of a whole file; the values are copies. Throws MalformedSafetensors. */
export function decodeSafetensors(file: Uint8Array): {
  tensors: Map<string, StoredTensor>;
  metadata: Record<string, string>;
} {
  const header = parseSafetensorsHeader(file, file.length);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { type, shape, begin, end }] of header.tensors) {
    // A Buffer's own slice() would be a view of the whole allocation.
    const copy = Uint8Array.prototype.slice.call(
      file,
      header.dataOffset + begin,
      header.dataOffset + end,
    );
    tensors.set(name, { type, shape, values: elementArray(type, copy) });
  }
  return { tensors, metadata: header.metadata };
}

/** Length of the header in bytes, told by the file's first 8; throws MalformedSafetensors. */
export function safetensorsHeaderBytes(first: Uint8Array, fileBytes: number): number {
  if (first.length < 8)
    throw new MalformedSafetensors(`${fileBytes} bytes are too few for the header's length`);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(HEADER_BYTES_MAX)) {
    throw new MalformedSafetensors(
      `the header says it is ${length} bytes long; the most allowed is ${HEADER_BYTES_MAX}`,
    );
  }
  if (8 + Number(length) > fileBytes) {
    throw new MalformedSafetensors(
      `the header ends at byte ${8 + Number(length)} of ${fileBytes}: the file is cut short`,
    );
  }
  return Number(length);
}

/**
 * Reads the header from the beginning of a file of `fileBytes` bytes; throws MalformedSafetensors.
 */
export function parseSafetensorsHeader(
  beginning: Uint8Array,
  fileBytes: number,
): SafetensorsHeader {
  const headerLength = safetensorsHeaderBytes(beginning.subarray(0, 8), fileBytes);
  const dataOffset = 8 + headerLength;
  if (beginning.length < dataOffset)
    throw new MalformedSafetensors(
      `${beginning.length} of the header's ${dataOffset} bytes were given`,
    );
  const { __metadata__: metadata, ...entries } = parseHeaderJson(beginning.subarray(8, dataOffset));
  const names = Object.keys(entries);
  if (names.length > TENSORS_MAX)
    throw new MalformedSafetensors(`${names.length} tensors; the most allowed is ${TENSORS_MAX}`);
  const places = names.map((name) => ({ name, ...parsePlace(name, entries[name]) }));
  places.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let expected = 0;
  for (const { name, begin, end } of places) {
    if (begin !== expected) {
      throw new MalformedSafetensors(
        `tensor ${excerpt(name)} begins at ${begin} where ${expected} was due: tensors overlap or leave a hole`,
      );
    }
    expected = end;
  }
  if (dataOffset + expected !== fileBytes) {
    const fault =
      dataOffset + expected > fileBytes ? 'the file is cut short' : 'bytes are left over';
    throw new MalformedSafetensors(
      `the tensors end at byte ${dataOffset + expected} of ${fileBytes}: ${fault}`,
    );
  }
  const tensors = new Map(places.map(({ name, ...place }) => [name, place]));
  return { tensors, metadata: parseMetadata(metadata), dataOffset };
}

function parseHeaderJson(bytes: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = boundedJson(bytes, { valuesMax: HEADER_VALUES_MAX, depthMax: HEADER_DEPTH_MAX });
  } catch (error) {
    if (!(error instanceof UnsoundJson)) throw error;
    throw new MalformedSafetensors(`the header is unsound: ${error.reason}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new MalformedSafetensors('the header is no JSON object');
  return value as Record<string, unknown>;
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new MalformedSafetensors('__metadata__ is no object');
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw new MalformedSafetensors(`__metadata__ ${excerpt(key)} is no string`);
  }
  return value as Record<string, string>;
}

function parsePlace(name: string, value: unknown): TensorPlace {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(elementBytes, dtype)) {
    throw new MalformedSafetensors(
      `tensor ${excerpt(name)} has the type ${excerpt(dtype)}; known are ${Object.keys(elementBytes).join(', ')}`,
    );
  }
  if (!isCounts(shape) || shape.length > RANK_MAX) {
    throw new MalformedSafetensors(`tensor ${excerpt(name)} has the shape ${excerpt(shape)}`);
  }
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw new MalformedSafetensors(`tensor ${excerpt(name)} has the offsets ${excerpt(offsets)}`);
  }
  const type = dtype as ElementType;
  const [begin, end] = offsets as [number, number];
  const bytes = elementCount(shape) * elementBytes[type];
  if (end - begin !== bytes) {
    throw new MalformedSafetensors(
      `tensor ${excerpt(name)} (${type} [${shape.join(', ')}]) needs ${bytes} bytes and has ${end - begin}`,
    );
  }
  return { type, shape, begin, end };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function elementCount(shape: number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

function checkTensor(name: string, { type, shape, values }: StoredTensor): void {
  if (!isCounts(shape) || shape.length > RANK_MAX)
    throw new RangeError(`Tensor "${name}" has the shape [${shape.join(', ')}]`);
  if (values.BYTES_PER_ELEMENT !== elementBytes[type] || values.length !== elementCount(shape)) {
    throw new RangeError(
      `Tensor "${name}" is ${type} [${shape.join(', ')}] and was given ${values.length} values of ${values.BYTES_PER_ELEMENT} bytes`,
    );
  }
  if (name === '__metadata__') throw new RangeError('A tensor cannot be named __metadata__');
}

function elementArray(type: ElementType, { buffer }: Uint8Array<ArrayBuffer>): ElementArray {
  switch (type) {
    case 'F64':
      return new Float64Array(buffer);
    case 'F32':
      return new Float32Array(buffer);
    case 'I64':
      return new BigInt64Array(buffer);
    case 'U64':
      return new BigUint64Array(buffer);
    case 'I32':
      return new Int32Array(buffer);
    case 'U32':
      return new Uint32Array(buffer);
    case 'I16':
      return new Int16Array(buffer);
    case 'U16':
    case 'F16':
    case 'BF16':
      return new Uint16Array(buffer);
    case 'I8':
      return new Int8Array(buffer);
    case 'U8':
    case 'BOOL':
    case 'F8_E4M3':
    case 'F8_E5M2':
      return new Uint8Array(buffer);
  }
}
