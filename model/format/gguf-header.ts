/**
 * The header of a GGUF file: metadata and the places of its tensors
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian).
 *
 * The reader of @huggingface/gguf is not used. It fills a truncated file with zeros, and may cut
 * the last string of a list at a chunk's edge. A wrong weight or token must be an error.
 */
import { GGMLQuantizationType } from '@huggingface/gguf';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import { storageTypes, type StorageType } from './dequantise.ts';
import { UnreadableCheckpoint, UnsupportedCheckpoint } from './faults.ts';
import { readAt, type OpenFile } from './file-reading.ts';

export const GGUF_HEADER_BYTES_MAX = 256 * 2 ** 20;
export const GGUF_TENSORS_MAX = 65_536;
export const GGUF_METADATA_KEYS_MAX = 65_536;
/** Items in all metadata lists together. A byte of the file takes 8 or more in memory. */
export const GGUF_LIST_ITEMS_MAX = 4_000_000;
export const GGUF_STRING_BYTES_MAX = 16 * 2 ** 20;
/** Largest size of a metadata key (set by the format) or of a tensor's name. */
export const GGUF_NAME_BYTES_MAX = 65_535;
export const GGUF_RANK_MAX = 4;
/** Largest `general.alignment`, which is a power of two. */
export const GGUF_ALIGNMENT_MAX = 2 ** 20;
const FIRST_READ_BYTES = 8 * 2 ** 20;
const TENSOR_INFO_BYTES_MIN = 32;
const METADATA_KEY_BYTES_MIN = 13;
const CUT_SHORT = 'It is cut short: fetch it again';

export type GgufValue = number | bigint | boolean | string | GgufValue[];

interface GgufTensor {
  name: string;
  /** Outermost dimension first, as in torch; the file stores the reverse. */
  shape: number[];
  storage: StorageType;
  typeName: string;
  begin: number;
  bytes: number;
}

/**
 * Reads and checks the header. Its tensors lie inside the file and do not overlap, so together they
 * are no larger than the file. Throws UnreadableCheckpoint, UnsupportedCheckpoint.
 */
export async function readGgufHeader(file: OpenFile) {
  let bytesRead = Math.min(file.bytes, FIRST_READ_BYTES);
  for (;;) {
    const beginning = new Uint8Array(bytesRead);
    await readAt(file, beginning, 0);
    const cursor = new Cursor(beginning, file.path, file.bytes);
    try {
      return parseHeader(cursor);
    } catch (error) {
      if (!(error instanceof OutOfBytes)) throw error;
      if (bytesRead === file.bytes)
        throw cursor.broken(`the header exceeds the file's ${file.bytes} bytes`, CUT_SHORT);
      if (bytesRead >= GGUF_HEADER_BYTES_MAX)
        throw cursor.broken(`the header is over ${GGUF_HEADER_BYTES_MAX} bytes`);
      bytesRead = Math.min(file.bytes, bytesRead * 4, GGUF_HEADER_BYTES_MAX);
    }
  }
}

/** The bytes read so far end before the header does. */
class OutOfBytes extends Error {}

function parseHeader(cursor: Cursor) {
  if (cursor.uint32() !== 0x46554747)
    throw cursor.broken('it does not begin with "GGUF"', 'Name a GGUF file');
  const version = cursor.uint32();
  if (version !== 2 && version !== 3)
    throw new UnsupportedCheckpoint(
      cursor.path,
      `GGUF version ${version}`,
      'Versions 2 and 3, little-endian, are read',
    );
  const tensorCount = cursor.count('tensors', GGUF_TENSORS_MAX, TENSOR_INFO_BYTES_MIN);
  const keyCount = cursor.count('metadata keys', GGUF_METADATA_KEYS_MAX, METADATA_KEY_BYTES_MIN);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = cursor.name();
    if (metadata.has(key)) throw cursor.broken(`metadata key ${excerpt(key)} occurs twice`);
    metadata.set(key, cursor.value(cursor.uint32()));
  }
  const infos = Array.from({ length: tensorCount }, () => parseTensorInfo(cursor));
  const alignment = metadata.get('general.alignment') ?? 32;
  if (!isAlignment(alignment)) throw cursor.broken(`general.alignment is ${excerpt(alignment)}`);
  const dataBegin = Math.ceil(cursor.at / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  for (const { offset, ...info } of infos) {
    const begin = dataBegin + offset;
    const end = begin + info.bytes;
    const name = excerpt(info.name);
    if (tensors.has(info.name)) throw cursor.broken(`tensor ${name} occurs twice`);
    if (end > cursor.fileBytes)
      throw cursor.broken(`tensor ${name} ends at byte ${end} of ${cursor.fileBytes}`, CUT_SHORT);
    tensors.set(info.name, { ...info, begin });
  }
  const overlap = overlapping([...tensors.values()]);
  if (overlap !== null) throw cursor.broken(`tensors ${overlap} overlap`);
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

/** Returns the names of two tensors that share bytes of the file, or null. */
function overlapping(tensors: GgufTensor[]): string | null {
  const inOrder = tensors.filter(({ bytes }) => bytes > 0).sort((a, b) => a.begin - b.begin);
  const at = inOrder.findIndex(
    ({ begin, bytes }, i) => begin + bytes > (inOrder[i + 1]?.begin ?? Infinity),
  );
  return at < 0 ? null : `${excerpt(inOrder[at]!.name)} and ${excerpt(inOrder[at + 1]!.name)}`;
}

function parseTensorInfo(cursor: Cursor): Omit<GgufTensor, 'begin'> & { offset: number } {
  const name = cursor.name();
  const rank = cursor.uint32();
  if (rank < 1 || rank > GGUF_RANK_MAX)
    throw cursor.broken(`tensor ${excerpt(name)} has ${rank} dimensions`);
  const shape = Array.from({ length: rank }, () => cursor.size()).reverse();
  const typeNumber = cursor.uint32();
  const offset = cursor.size();
  const storage = storageTypes.get(typeNumber);
  const typeName = GGMLQuantizationType[typeNumber] ?? `number ${typeNumber}`;
  if (storage === undefined) {
    const readTypes = [...storageTypes.keys()].map((number) => GGMLQuantizationType[number]);
    throw new UnsupportedCheckpoint(
      cursor.path,
      `tensor ${excerpt(name)} is stored as ${typeName}`,
      `Stored types that are read: ${readTypes.join(', ')}`,
    );
  }
  const { blockElements, blockBytes } = storage;
  const elements = shape.reduce((product, n) => product * n, 1);
  if (!Number.isSafeInteger(elements) || shape.at(-1)! % blockElements !== 0) {
    const found = `the shape [${shape.join(', ')}] in blocks of ${blockElements}`;
    throw cursor.broken(`tensor ${excerpt(name)} has ${found}`);
  }
  const bytes = (elements / blockElements) * blockBytes;
  return { name, shape, storage, typeName, offset, bytes };
}

/** Keeps a token's leading byte-order mark, which a decoder would otherwise drop. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Numbers by GGUF's type number: size in bytes, and reader. */
const SCALARS: Record<number, [number, (view: DataView, at: number) => GgufValue]> = {
  0: [1, (view, at) => view.getUint8(at)],
  1: [1, (view, at) => view.getInt8(at)],
  2: [2, (view, at) => view.getUint16(at, true)],
  3: [2, (view, at) => view.getInt16(at, true)],
  4: [4, (view, at) => view.getUint32(at, true)],
  5: [4, (view, at) => view.getInt32(at, true)],
  6: [4, (view, at) => view.getFloat32(at, true)],
  7: [1, (view, at) => view.getUint8(at) !== 0],
  10: [8, (view, at) => view.getBigUint64(at, true)],
  11: [8, (view, at) => view.getBigInt64(at, true)],
  12: [8, (view, at) => view.getFloat64(at, true)],
};
const STRING_TYPE = 8;
const LIST_TYPE = 9;

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

  broken(fault: string, hint = 'The file is damaged, or is not a model'): UnreadableCheckpoint {
    return new UnreadableCheckpoint(this.path, `${fault} (before byte ${this.at})`, hint);
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  size(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.broken(`a size or offset is ${value}`);
    return Number(value);
  }

  /** Reads a number of items. Throws before anything is allocated for too many. */
  count(what: string, max: number, itemBytesMin: number): number {
    const count = this.size();
    if (count > max) throw this.broken(`it claims ${count} ${what}; at most ${max} are allowed`);
    if (count * itemBytesMin > this.fileBytes - this.at)
      throw this.broken(`it claims ${count} ${what}, more than ${this.fileBytes} bytes can hold`);
    return count;
  }

  name(): string {
    return this.string('name', GGUF_NAME_BYTES_MAX);
  }

  string(what = 'text', bytesMax = GGUF_STRING_BYTES_MAX): string {
    const length = this.size();
    if (length > bytesMax)
      throw this.broken(`a ${what} is ${length} bytes long; at most ${bytesMax} are allowed`);
    const from = this.#take(length);
    return decoder.decode(this.bytes.subarray(from, from + length));
  }

  value(type: number): GgufValue {
    if (type === LIST_TYPE) return this.#list();
    if (type === STRING_TYPE) return this.string();
    const scalar = SCALARS[type];
    if (scalar === undefined) throw this.broken(`a metadata value has the type number ${type}`);
    const [bytes, read] = scalar;
    return read(this.#view, this.#take(bytes));
  }

  #list(): GgufValue[] {
    const itemType = this.uint32();
    const items = this.count('items in a metadata list', GGUF_LIST_ITEMS_MAX, 1);
    if (itemType === LIST_TYPE && items > 0) throw this.broken('a metadata list holds lists');
    this.#items += items;
    if (this.#items > GGUF_LIST_ITEMS_MAX)
      throw this.broken(`its lists hold over ${GGUF_LIST_ITEMS_MAX} items together`);
    return Array.from({ length: items }, () => this.value(itemType));
  }

  #take(count: number): number {
    const from = this.at;
    if (from + count > this.bytes.length) throw new OutOfBytes();
    this.at = from + count;
    return from;
  }
}
