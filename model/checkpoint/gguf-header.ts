/**
 * The header of a GGUF file: metadata and the places of its tensors
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian).
 *
 * Read here and not with `gguf()` of @huggingface/gguf because that one fills a file that ends
 * early with zeros and may cut the last string of a list at a chunk's edge; a wrong weight or token
 * must be an error. Its names of types are used.
 */
import type { FileHandle } from 'node:fs/promises';
import { GGMLQuantizationType } from '@huggingface/gguf';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import { storageTypes, type StorageType } from './dequantise.ts';

export const GGUF_HEADER_BYTES_MAX = 256 * 2 ** 20;
export const GGUF_TENSORS_MAX = 65_536;
export const GGUF_METADATA_KEYS_MAX = 65_536;
/** Items of all lists in the metadata together: a byte of the file becomes 8 and more in memory. */
export const GGUF_LIST_ITEMS_MAX = 4_000_000;
export const GGUF_STRING_BYTES_MAX = 16 * 2 ** 20;
/** Of a metadata key or a tensor's name, as the format says of keys. */
export const GGUF_NAME_BYTES_MAX = 65_535;
export const GGUF_RANK_MAX = 4;
/** Of `general.alignment`, a power of two. */
export const GGUF_ALIGNMENT_MAX = 2 ** 20;
const firstReadBytes = 8 * 2 ** 20;
const tensorInfoBytesMin = 32;
const metadataKeyBytesMin = 13;

export type GgufValue = number | bigint | boolean | string | GgufValue[];

export interface GgufTensor {
  name: string;
  /** Outermost dimension first, as torch has it; the file stores it the other way round. */
  shape: number[];
  storage: StorageType;
  /** Offset in the file. */
  begin: number;
  bytes: number;
}

export interface GgufHeader {
  metadata: Map<string, GgufValue>;
  tensors: Map<string, GgufTensor>;
}

/**
 * Reads and checks the header; the tensors it names lie inside the file and beside one another, so
 * that all of them together are no larger than it. Throws UnreadableCheckpoint,
 * UnsupportedCheckpoint.
 */
export async function readGgufHeader(file: FileHandle, path: string): Promise<GgufHeader> {
  const { size } = await file.stat();
  let bytesRead = Math.min(size, firstReadBytes);
  for (;;) {
    const cursor = new Cursor(await readBeginning(file, bytesRead), path, size);
    try {
      return parseHeader(cursor);
    } catch (error) {
      if (!(error instanceof OutOfBytes)) throw error;
      if (bytesRead === size)
        throw cursor.broken(
          `the header goes on past the end of the file at byte ${size}`,
          'It is cut short: fetch it again',
        );
      if (bytesRead >= GGUF_HEADER_BYTES_MAX)
        throw cursor.broken(`the header is over ${GGUF_HEADER_BYTES_MAX} bytes`);
      bytesRead = Math.min(size, bytesRead * 4, GGUF_HEADER_BYTES_MAX);
    }
  }
}

/** The bytes in hand end before the header does: more have to be read. */
class OutOfBytes extends Error {}

async function readBeginning(file: FileHandle, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  let at = 0;
  while (at < count) {
    const { bytesRead } = await file.read(bytes, at, count - at, at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

function parseHeader(cursor: Cursor): GgufHeader {
  const magic = cursor.uint32();
  if (magic !== 0x46554747)
    throw cursor.broken('it does not begin with "GGUF"', 'Name a GGUF file');
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) {
    throw new UnsupportedCheckpoint(
      `${cursor.path} has GGUF version ${version}`,
      { path: cursor.path, version },
      'Versions 2 and 3, little-endian, are read',
    );
  }
  const tensorCount = cursor.count('tensors', GGUF_TENSORS_MAX, tensorInfoBytesMin);
  const keyCount = cursor.count('metadata keys', GGUF_METADATA_KEYS_MAX, metadataKeyBytesMin);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.name();
    if (metadata.has(key)) throw cursor.broken(`metadata key ${excerpt(key)} is there twice`);
    metadata.set(key, cursor.value(cursor.uint32()));
  }
  const infos = Array.from({ length: tensorCount }, () => parseTensorInfo(cursor));
  const alignment = metadata.get('general.alignment') ?? 32;
  if (!isAlignment(alignment)) throw cursor.broken(`general.alignment is ${excerpt(alignment)}`);
  const dataBegin = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  for (const info of infos) {
    if (tensors.has(info.name)) throw cursor.broken(`tensor ${excerpt(info.name)} is there twice`);
    const begin = dataBegin + info.offset;
    if (begin + info.bytes > cursor.fileBytes) {
      throw cursor.broken(
        `tensor ${excerpt(info.name)} ends at byte ${begin + info.bytes} of ${cursor.fileBytes}`,
        'It is cut short: fetch it again',
      );
    }
    tensors.set(info.name, {
      name: info.name,
      shape: info.shape,
      storage: info.storage,
      begin,
      bytes: info.bytes,
    });
  }
  const [first, second] = overlapping([...tensors.values()]) ?? [];
  if (first !== undefined)
    throw cursor.broken(`tensors ${excerpt(first)} and ${excerpt(second)} overlap`);
  return { metadata, tensors };
}

function isAlignment(value: GgufValue): value is number {
  return (
    typeof value === 'number' &&
    Number.isInteger(value) &&
    value >= 1 &&
    value <= GGUF_ALIGNMENT_MAX &&
    (value & (value - 1)) === 0
  );
}

/** The names of two tensors that share bytes of the file; null where none do. */
function overlapping(tensors: GgufTensor[]): [string, string] | null {
  const inOrder = tensors.filter(({ bytes }) => bytes > 0).sort((a, b) => a.begin - b.begin);
  for (const [i, { name, begin }] of inOrder.entries()) {
    const before = inOrder[i - 1];
    if (before !== undefined && before.begin + before.bytes > begin) return [before.name, name];
  }
  return null;
}

function parseTensorInfo(cursor: Cursor) {
  const name = cursor.name();
  const rank = cursor.uint32();
  if (rank < 1 || rank > GGUF_RANK_MAX)
    throw cursor.broken(`tensor ${excerpt(name)} has ${rank} dimensions`);
  const shape = Array.from({ length: rank }, () => cursor.size()).reverse();
  const typeNumber = cursor.uint32();
  const offset = cursor.size();
  const storage = storageTypes.get(typeNumber);
  if (storage === undefined) {
    const quantisation = GGMLQuantizationType[typeNumber] ?? `number ${typeNumber}`;
    throw new UnsupportedCheckpoint(
      `${cursor.path}: tensor ${excerpt(name)} is stored as ${quantisation}`,
      { path: cursor.path, tensor: name, quantisation },
      `Stored types that are read: ${[...storageTypes.keys()].map((number) => GGMLQuantizationType[number]).join(', ')}`,
    );
  }
  const elements = shape.reduce((product, n) => product * n, 1);
  const innermost = shape[rank - 1]!;
  if (!Number.isSafeInteger(elements) || innermost % storage.blockElements !== 0) {
    throw cursor.broken(
      `tensor ${excerpt(name)} has the shape [${shape.join(', ')}] in blocks of ${storage.blockElements}`,
    );
  }
  return {
    name,
    shape,
    storage,
    offset,
    bytes: (elements / storage.blockElements) * storage.blockBytes,
  };
}

/** A token may begin with the mark that a decoder would take off a text. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

class Cursor {
  at = 0;
  #items = 0;
  readonly #view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    readonly path: string,
    readonly fileBytes: number,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  broken(fault: string, hint = 'The file is damaged or no model'): UnreadableCheckpoint {
    return new UnreadableCheckpoint(
      `${this.path}: ${fault}`,
      { path: this.path, fileBytes: this.fileBytes, byte: this.at },
      hint,
    );
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  size(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.broken(`a size or offset is ${value}`);
    return Number(value);
  }

  /**
   * A number of items of at least `itemBytesMin` bytes each; refused before anything is made for
   * them.
   */
  count(what: string, max: number, itemBytesMin: number): number {
    const count = this.size();
    if (count > max)
      throw this.broken(`it says it has ${count} ${what}; the most allowed is ${max}`);
    if (count * itemBytesMin > this.fileBytes - this.at) {
      throw this.broken(
        `it says it has ${count} ${what}, more than its ${this.fileBytes} bytes can hold`,
      );
    }
    return count;
  }

  name(): string {
    return this.string('name', GGUF_NAME_BYTES_MAX);
  }

  string(what = 'text', bytesMax = GGUF_STRING_BYTES_MAX): string {
    const length = this.size();
    if (length > bytesMax)
      throw this.broken(`a ${what} is ${length} bytes long; the most allowed is ${bytesMax}`);
    const from = this.#take(length);
    return decoder.decode(this.bytes.subarray(from, from + length));
  }

  value(type: number, nested = false): GgufValue {
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(this.#take(1));
      case 1:
        return view.getInt8(this.#take(1));
      case 2:
        return view.getUint16(this.#take(2), true);
      case 3:
        return view.getInt16(this.#take(2), true);
      case 4:
        return view.getUint32(this.#take(4), true);
      case 5:
        return view.getInt32(this.#take(4), true);
      case 6:
        return view.getFloat32(this.#take(4), true);
      case 7:
        return view.getUint8(this.#take(1)) !== 0;
      case 8:
        return this.string();
      case 9: {
        if (nested) throw this.broken('a metadata list holds lists');
        const itemType = this.uint32();
        const items = this.count('items in a metadata list', GGUF_LIST_ITEMS_MAX, 1);
        this.#items += items;
        if (this.#items > GGUF_LIST_ITEMS_MAX)
          throw this.broken(
            `its lists hold over ${this.#items - 1} items; the most allowed in all lists is ${GGUF_LIST_ITEMS_MAX}`,
          );
        return Array.from({ length: items }, () => this.value(itemType, true));
      }
      case 10:
        return view.getBigUint64(this.#take(8), true);
      case 11:
        return view.getBigInt64(this.#take(8), true);
      case 12:
        return view.getFloat64(this.#take(8), true);
      default:
        throw this.broken(`a metadata value has the type number ${type}`);
    }
  }

  #take(count: number): number {
    const from = this.at;
    if (from + count > this.bytes.length) throw new OutOfBytes();
    this.at = from + count;
    return from;
  }
}
