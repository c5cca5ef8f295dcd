/**
 * Encodes numbers as safetensors blobs: pairs (per edited layer a key k_i [F] and a wanted change
 * u_i [D] for every correction) and targets (z_i [D]). The editor gives them meaning; this file
 * only handles rows.
 */
import { boundedJson } from '../../schemas/encoding/bounded-json.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../schemas/encoding/safetensors.ts';

const PAIRS_FORMAT = 'errata-pairs-2';
const TARGETS_FORMAT = 'errata-targets-1';

/** Values in the names or spellings of a blob, and their nesting depth. */
const NAMES_LIMITS = { valuesMax: 10_000_000, depthMax: 4 };

/**
 * Rows of several corrections; `keys[i]` [count, keyWidth] and `changes[i]` [count, valueWidth]
 * belong to `layers[i]`, row-major.
 */
export interface StoredPairs {
  layers: number[];
  count: number;
  /** The subject of each row, and its name in the base model's tokens, in every spelling. */
  subjects: string[];
  spellings: number[][][];
  keyWidth: number;
  valueWidth: number;
  keys: Float32Array[];
  changes: Float32Array[];
}

interface StoredTargets {
  ids: string[];
  /** [ids.length, D], row-major. */
  values: Float32Array;
}

/** The blob violates the format. The reader of a log knows the blob's name. */
export class PairsMalformed extends Error {
  override readonly name = 'PairsMalformed';
  constructor(readonly reason: string) {
    super(`Not a blob of pairs or targets: ${reason}`);
  }
}

/** Throws RangeError where an array has the wrong size or holds a non-finite number. */
export function encodePairs(pairs: StoredPairs): Uint8Array {
  const { layers, count, keyWidth, valueWidth, subjects, spellings } = pairs;
  const tensors = new Map<string, StoredTensor>();
  layers.forEach((layer, i) => {
    const [keys, changes] = namesOfLayer(layer);
    tensors.set(keys, matrix(pairs.keys[i], [count, keyWidth], keys));
    tensors.set(changes, matrix(pairs.changes[i], [count, valueWidth], changes));
  });
  if (subjects.length !== count || spellings.length !== count)
    throw new RangeError(
      `${subjects.length} subjects, ${spellings.length} with spellings, for ${count} rows`,
    );
  if (!spellings.every((some) => some.every(isSpelling)))
    throw new RangeError('a spelling holds something other than token ids');
  return encodeSafetensors(tensors, {
    format: PAIRS_FORMAT,
    layers: layers.join(','),
    subjects: JSON.stringify(subjects),
    spellings: JSON.stringify(spellings),
  });
}

/** Throws `PairsMalformed` or safetensors' `MalformedSafetensors`. */
export function decodePairs(bytes: Uint8Array): StoredPairs {
  const { tensors, metadata } = decodeSafetensors(bytes);
  requireFormat(metadata, PAIRS_FORMAT);
  const layers = (metadata['layers'] ?? '').split(',').map(Number);
  const isLayer = (layer: number, i: number) =>
    Number.isSafeInteger(layer) && layer >= 0 && (i === 0 || layer > layers[i - 1]!);
  if (!layers.every(isLayer))
    throw new PairsMalformed(`its layers are ${excerpt(metadata['layers'])}`);
  if (tensors.size !== 2 * layers.length)
    throw new PairsMalformed(`${tensors.size} tensors for ${layers.length} layers`);
  const keys = layers.map((layer) => read(tensors, namesOfLayer(layer)[0]));
  const changes = layers.map((layer) => read(tensors, namesOfLayer(layer)[1]));
  const [count, keyWidth] = keys[0]!.shape as [number, number];
  const valueWidth = changes[0]!.shape[1]!;
  layers.forEach((layer, i) => {
    requireShape(keys[i]!.shape, [count, keyWidth], namesOfLayer(layer)[0]);
    requireShape(changes[i]!.shape, [count, valueWidth], namesOfLayer(layer)[1]);
  });
  const subjects = namesIn(metadata['subjects']);
  if (subjects?.length !== count)
    throw new PairsMalformed(`it does not name the subjects of its ${count} rows`);
  const spellings = spellingsIn(metadata['spellings']);
  if (spellings?.length !== count)
    throw new PairsMalformed(`it does not spell the subjects of its ${count} rows`);
  return {
    layers,
    count,
    subjects,
    spellings,
    keyWidth,
    valueWidth,
    keys: keys.map(({ values }) => values),
    changes: changes.map(({ values }) => values),
  };
}

export function encodeTargets({ ids, values }: StoredTargets): Uint8Array {
  const width = ids.length === 0 ? 0 : values.length / ids.length;
  return encodeSafetensors(new Map([['targets', matrix(values, [ids.length, width], 'targets')]]), {
    format: TARGETS_FORMAT,
    ids: JSON.stringify(ids),
  });
}

/** Throws `PairsMalformed` or safetensors' `MalformedSafetensors`. */
export function decodeTargets(bytes: Uint8Array): StoredTargets {
  const { tensors, metadata } = decodeSafetensors(bytes);
  requireFormat(metadata, TARGETS_FORMAT);
  const ids = namesIn(metadata['ids']);
  const { shape, values } = read(tensors, 'targets');
  if (ids?.length !== shape[0])
    throw new PairsMalformed(`its ids do not name its ${shape[0]} rows`);
  return { ids: ids!, values };
}

/**
 * Collects rows of several sets into one set, in the order given; null for no rows. Throws
 * `PairsMalformed` where their layers or widths differ.
 */
export function gatherPairs(
  rows: readonly { pairs: StoredPairs; row: number }[],
): StoredPairs | null {
  const first = rows[0]?.pairs;
  if (first === undefined) return null;
  const { layers, keyWidth, valueWidth } = first;
  for (const { pairs, row } of rows) {
    if (layoutOf(pairs) !== layoutOf(first))
      throw new PairsMalformed(`pairs of ${layoutOf(pairs)} among those of ${layoutOf(first)}`);
    if (row < 0 || row >= pairs.count) throw new PairsMalformed(`row ${row} of ${pairs.count}`);
  }
  const gather = (of: (pairs: StoredPairs) => Float32Array, width: number) => {
    const gathered = new Float32Array(rows.length * width);
    rows.forEach(({ pairs, row }, i) =>
      gathered.set(of(pairs).subarray(row * width, (row + 1) * width), i * width),
    );
    return gathered;
  };
  return {
    layers: [...layers],
    count: rows.length,
    subjects: rows.map(({ pairs, row }) => pairs.subjects[row]!),
    spellings: rows.map(({ pairs, row }) => pairs.spellings[row]!),
    keyWidth,
    valueWidth,
    keys: layers.map((_, i) => gather((pairs) => pairs.keys[i]!, keyWidth)),
    changes: layers.map((_, i) => gather((pairs) => pairs.changes[i]!, valueWidth)),
  };
}

function layoutOf({ layers, keyWidth, valueWidth }: StoredPairs): string {
  return `layers ${layers.join(', ')} (${keyWidth} x ${valueWidth})`;
}

function requireFormat(metadata: Record<string, string>, format: string): void {
  if (metadata['format'] !== format)
    throw new PairsMalformed(`its format is ${excerpt(metadata['format'])}`);
}

function namesIn(json: string | undefined): string[] | null {
  const names = parsed(json);
  return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
}

function spellingsIn(json: string | undefined): number[][][] | null {
  const rows = parsed(json);
  const isRow = (row: unknown) => Array.isArray(row) && row.every(isSpelling);
  return Array.isArray(rows) && rows.every(isRow) ? (rows as number[][][]) : null;
}

function isSpelling(tokens: unknown): boolean {
  return (
    Array.isArray(tokens) && tokens.every((token) => Number.isSafeInteger(token) && token >= 0)
  );
}

function parsed(json: string | undefined): unknown {
  try {
    return boundedJson(json ?? 'null', NAMES_LIMITS);
  } catch {
    return null;
  }
}

function namesOfLayer(layer: number): [keys: string, changes: string] {
  return [`layers.${layer}.keys`, `layers.${layer}.changes`];
}

function matrix(
  values: Float32Array | undefined,
  shape: [rows: number, columns: number],
  name: string,
): StoredTensor {
  const [rows, columns] = shape;
  if (values === undefined || values.length !== rows * columns)
    throw new RangeError(
      `${name} has ${values?.length ?? 0} numbers instead of ${rows} x ${columns}`,
    );
  if (!values.every(Number.isFinite)) throw new RangeError(`${name} holds a non-finite number`);
  return { type: 'F32', shape, values };
}

function read(
  tensors: Map<string, StoredTensor>,
  name: string,
): { shape: number[]; values: Float32Array } {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new PairsMalformed(`${name} is missing`);
  const { type, shape, values } = tensor;
  if (!(values instanceof Float32Array) || shape.length !== 2)
    throw new PairsMalformed(`${name} is ${type} [${shape.join(', ')}], not F32 [rows, columns]`);
  if (!values.every(Number.isFinite)) throw new PairsMalformed(`${name} holds a non-finite number`);
  return { shape, values };
}

function requireShape(shape: number[], expected: number[], name: string): void {
  if (shape.join() !== expected.join())
    throw new PairsMalformed(`${name} is [${shape.join(', ')}], not [${expected.join(', ')}]`);
}
