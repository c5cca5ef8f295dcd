/**
 * The safetensors format: an 8-byte little-endian length, a JSON header of that length, then the
 * tensors' bytes (https://github.com/huggingface/safetensors, "Format"). Converts bytes to bytes,
 * on little-endian machines only.
 *
 * The writer is deterministic. Tensors are in order of falling element size, then of name; metadata
 * is in order of key. Equal content therefore has equal bytes, and their hash can name it.
 */
import { ErrataFailure } from '../failures.ts';
import { boundedJson, UnsoundJson } from './bounded-json.ts';
import { excerpt } from './excerpt.ts';

export const HEADER_BYTES_MAX = 100_000_000;
export const TENSORS_MAX = 100_000;
/** Bound of the JSON values in a header, which has about ten for each tensor. */
export const HEADER_VALUES_MAX = 2_000_000;
const HEADER_DEPTH_MAX = 8;
export const RANK_MAX = 8;

/** The array class for each element type. Types without a JavaScript array are kept as bits. */
const ARRAYS = {
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E5M2: Uint8Array,
} as const;
export type ElementType = keyof typeof ARRAYS;
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

/** The range of a tensor's bytes, [begin, end), counted from the end of the header. */
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

/** The bytes are not safetensors, or are truncated. */
export class MalformedSafetensors extends ErrataFailure {
  override readonly name = 'MalformedSafetensors';
  constructor(readonly reason: string) {
    super(`Not a valid safetensors file: ${reason}`, { reason }, 'Write or fetch the file again.');
  }
}

/** Encodes a file. Throws RangeError if a tensor's values do not match its type and shape. */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort(([a, { type: typeA }], [b, { type: typeB }]) => {
    const bySize = elementBytes(typeB) - elementBytes(typeA);
    return bySize !== 0 ? bySize : a < b ? -1 : 1;
  });
  const entries: [string, unknown][] = [];
  const notes = Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1));
  if (notes.length > 0) entries.push(['__metadata__', Object.fromEntries(notes)]);
  let end = 0;
  for (const [name, tensor] of sorted) {
    checkTensor(name, tensor);
    const begin = end;
    end += tensor.values.byteLength;
    entries.push([name, { dtype: tensor.type, shape: tensor.shape, data_offsets: [begin, end] }]);
  }
  const header = headerBytes(entries);
  const file = new Uint8Array(8 + header.length + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  let at = 8 + header.length;
  for (const [, { values }] of sorted) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return file;
}

function headerBytes(entries: [string, unknown][]): Uint8Array {
  // Built by hand because an object would put names that look like numbers first.
  const members = entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const json = `{${members.join(',')}}`;
  // Spaces up to a multiple of 8 align the tensors, as the reference writer does.
  const padding = (8 - (Buffer.byteLength(json) % 8)) % 8;
  const header = new TextEncoder().encode(json + ' '.repeat(padding));
  if (header.length > HEADER_BYTES_MAX)
    throw new RangeError(`A header of ${header.length} bytes is over ${HEADER_BYTES_MAX}`);
  return header;
}

/** Returns all tensors of a whole file as copies. Throws MalformedSafetensors. */
export function decodeSafetensors(file: Uint8Array): {
  tensors: Map<string, StoredTensor>;
  metadata: Record<string, string>;
} {
  const header = parseSafetensorsHeader(file, file.length);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { type, shape, begin, end }] of header.tensors) {
    const [from, to] = [header.dataOffset + begin, header.dataOffset + end];
    // A Buffer's own slice() would be a view of the whole allocation.
    const { buffer } = Uint8Array.prototype.slice.call(file, from, to);
    tensors.set(name, { type, shape, values: new ARRAYS[type](buffer) });
  }
  return { tensors, metadata: header.metadata };
}

/** Returns the header's length in bytes from the file's first 8; throws MalformedSafetensors. */
export function safetensorsHeaderBytes(first: Uint8Array, fileBytes: number): number {
  if (first.length < 8)
    throw new MalformedSafetensors(`${fileBytes} bytes are too few for the header's length`);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(HEADER_BYTES_MAX))
    throw new MalformedSafetensors(
      `the header claims ${length} bytes; the most allowed is ${HEADER_BYTES_MAX}`,
    );
  const end = 8 + Number(length);
  if (end > fileBytes)
    throw new MalformedSafetensors(
      `the header ends at byte ${end} of ${fileBytes}: the file is cut short`,
    );
  return Number(length);
}

/** Reads the header from the beginning of a file; throws MalformedSafetensors. */
export function parseSafetensorsHeader(
  beginning: Uint8Array,
  fileBytes: number,
): SafetensorsHeader {
  const dataOffset = 8 + safetensorsHeaderBytes(beginning.subarray(0, 8), fileBytes);
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
  let due = 0;
  for (const { name, begin, end } of places) {
    if (begin !== due)
      throw new MalformedSafetensors(
        `tensor ${excerpt(name)} begins at ${begin}, not ${due}: tensors overlap or have a gap`,
      );
    due = end;
  }
  const end = dataOffset + due;
  if (end !== fileBytes) {
    const fault = end > fileBytes ? 'the file is cut short' : 'bytes are left over';
    throw new MalformedSafetensors(`the tensors end at byte ${end} of ${fileBytes}: ${fault}`);
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
    throw new MalformedSafetensors(`the header: ${error.reason}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new MalformedSafetensors('the header is not a JSON object');
  return value as Record<string, unknown>;
}

function parseMetadata(value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new MalformedSafetensors('__metadata__ is not an object');
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw new MalformedSafetensors(`__metadata__ ${excerpt(key)} is not a string`);
  }
  return value as Record<string, string>;
}

function parsePlace(name: string, value: unknown): TensorPlace {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const malformed = (fault: string) => new MalformedSafetensors(`tensor ${excerpt(name)} ${fault}`);
  if (typeof dtype !== 'string' || !Object.hasOwn(ARRAYS, dtype)) {
    const known = Object.keys(ARRAYS).join(', ');
    throw malformed(`has the type ${excerpt(dtype)}; known are ${known}`);
  }
  if (!isCounts(shape) || shape.length > RANK_MAX)
    throw malformed(`has the shape ${excerpt(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2)
    throw malformed(`has the offsets ${excerpt(offsets)}`);
  const type = dtype as ElementType;
  const [begin, end] = offsets as [number, number];
  const bytes = elementCount(shape) * elementBytes(type);
  if (end - begin !== bytes)
    throw malformed(`(${type} [${shape.join(', ')}]) needs ${bytes} bytes and has ${end - begin}`);
  return { type, shape, begin, end };
}

function elementBytes(type: ElementType): number {
  return ARRAYS[type].BYTES_PER_ELEMENT;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function elementCount(shape: number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

function checkTensor(name: string, { type, shape, values }: StoredTensor): void {
  const described = `${type} [${shape.join(', ')}]`;
  if (!isCounts(shape) || shape.length > RANK_MAX)
    throw new RangeError(`Tensor "${name}" has the shape [${shape.join(', ')}]`);
  const width = values.BYTES_PER_ELEMENT;
  if (width !== elementBytes(type) || values.length !== elementCount(shape))
    throw new RangeError(
      `Tensor "${name}" is ${described} but has ${values.length} values of ${width} bytes`,
    );
  if (name === '__metadata__') throw new RangeError('A tensor cannot be named __metadata__');
}
