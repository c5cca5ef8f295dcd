/**
 * The blobs of numbers: pairs (per edited layer a key k_i [F] and a wanted change u_i [D] for every
 * correction) and targets (z_i [D]), as safetensors. What the numbers mean is the editor's affair;
 * here they are rows.
 */
import { boundedJson } from '../../schemas/encoding/bounded-json.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  type StoredTensor,
} from '../../schemas/encoding/safetensors.ts';

/** 2: subjects came in, with their spellings. */
const PAIRS_FORMAT = 'errata-pairs-2';

/**
 * Rows of several corrections; `keys[i]` [count, keyWidth] and `changes[i]` [count, valueWidth] are
 * of `layers[i]`, row-major.
 */
export interface StoredPairs {
  layers: number[];
  count: number;
  /** Whom each row is about, and that name in the base model's tokens, in every spelling. */
  subjects: string[];
  spellings: number[][][];
  keyWidth: number;
  valueWidth: number;
  keys: Float32Array[];
  changes: Float32Array[];
}

export interface StoredTargets {
  /** One per row. */
  ids: string[];
  /** [ids.length, D], row-major. */
  values: Float32Array;
}

/**
 * A blob of numbers is not what the format says; who read it from a log knows which blob it was.
 */
export class PairsMalformed extends Error {
  override readonly name = 'PairsMalformed';
  constructor(readonly reason: string) {
    super(`Not a blob of pairs or targets: ${reason}`);
  }
}

/**
 * Throws RangeError where the arrays do not have the stated sizes or hold a number that is not
 * finite.
 */
export function encodePairs(pairs: StoredPairs): Uint8Array {
  const tensors = new Map<string, StoredTensor>();
  pairs.layers.forEach((layer, i) => {
    tensors.set(keyName(layer), matrix(pairs.keys[i], pairs.count, pairs.keyWidth, keyName(layer)));
    tensors.set(
      changeName(layer),
      matrix(pairs.changes[i], pairs.count, pairs.valueWidth, changeName(layer)),
    );
  });
  if (pairs.subjects.length !== pairs.count || pairs.spellings.length !== pairs.count)
    throw new RangeError(
      `${pairs.subjects.length} subjects, ${pairs.spellings.length} with spellings, for ${pairs.count} rows`,
    );
  if (!pairs.spellings.every((spellings) => spellings.every(isSpelling)))
    throw new RangeError('a spelling holds what is no token id');
  return encodeSafetensors(tensors, {
    format: PAIRS_FORMAT,
    layers: pairs.layers.join(','),
    subjects: JSON.stringify(pairs.subjects),
    spellings: JSON.stringify(pairs.spellings),
  });
}

/** Throws `PairsMalformed` or safetensors' `MalformedSafetensors`. */
export function decodePairs(bytes: Uint8Array): StoredPairs {
  const { tensors, metadata } = decodeSafetensors(bytes);
  if (metadata['format'] !== PAIRS_FORMAT)
    throw new PairsMalformed(`its format is ${excerpt(metadata['format'])}`);
  const layers = (metadata['layers'] ?? '').split(',').map(Number);
  if (
    !layers.every(
      (layer, i) =>
        Number.isSafeInteger(layer) && layer >= 0 && (i === 0 || layer > layers[i - 1]!),
    )
  )
    throw new PairsMalformed(`its layers are ${excerpt(metadata['layers'])}`);
  if (tensors.size !== 2 * layers.length)
    throw new PairsMalformed(`${tensors.size} tensors for ${layers.length} layers`);
  const keys = layers.map((layer) => read(tensors, keyName(layer)));
  const changes = layers.map((layer) => read(tensors, changeName(layer)));
  const [count, keyWidth] = keys[0]!.shape as [number, number];
  const valueWidth = changes[0]!.shape[1]!;
  keys.forEach(({ shape }, i) => same(shape, [count, keyWidth], keyName(layers[i]!)));
  changes.forEach(({ shape }, i) => same(shape, [count, valueWidth], changeName(layers[i]!)));
  const subjects = namesOf(metadata['subjects']);
  if (subjects === null || subjects.length !== count)
    throw new PairsMalformed(`its subjects do not name whom its ${count} rows are about`);
  const spellings = spellingsOf(metadata['spellings']);
  if (spellings === null || spellings.length !== count)
    throw new PairsMalformed(`it does not spell the subjects of its ${count} rows`);
  return {
    layers,
    count,
    subjects,
    spellings,
    keyWidth,
    valueWidth,
    keys: keys.map((key) => key.values),
    changes: changes.map((change) => change.values),
  };
}

export function encodeTargets(targets: StoredTargets): Uint8Array {
  const width = targets.ids.length === 0 ? 0 : targets.values.length / targets.ids.length;
  return encodeSafetensors(
    new Map([['targets', matrix(targets.values, targets.ids.length, width, 'targets')]]),
    {
      format: 'errata-targets-1',
      ids: JSON.stringify(targets.ids),
    },
  );
}

/** Throws `PairsMalformed` or safetensors' `MalformedSafetensors`. */
export function decodeTargets(bytes: Uint8Array): StoredTargets {
  const { tensors, metadata } = decodeSafetensors(bytes);
  if (metadata['format'] !== 'errata-targets-1')
    throw new PairsMalformed(`its format is ${excerpt(metadata['format'])}`);
  const ids = namesOf(metadata['ids']);
  const { shape, values } = read(tensors, 'targets');
  if (ids === null || ids.length !== shape[0])
    throw new PairsMalformed(`its ids do not name its ${shape[0]} rows`);
  return { ids, values };
}

/**
 * One set of pairs out of rows of several, in the order given. All must be of the same layers and
 * widths (those of one base model and one set of hyper-parameters); throws `PairsMalformed` where
 * they are not. No rows give null.
 */
export function gatherPairs(
  rows: readonly { pairs: StoredPairs; row: number }[],
): StoredPairs | null {
  const first = rows[0]?.pairs;
  if (first === undefined) return null;
  const { layers, keyWidth, valueWidth } = first;
  for (const { pairs, row } of rows) {
    if (
      pairs.layers.join() !== layers.join() ||
      pairs.keyWidth !== keyWidth ||
      pairs.valueWidth !== valueWidth
    ) {
      throw new PairsMalformed(
        `pairs of layers ${pairs.layers.join(', ')} (${pairs.keyWidth} x ${pairs.valueWidth}) among those of layers ${layers.join(', ')} (${keyWidth} x ${valueWidth})`,
      );
    }
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

function namesOf(json: string | undefined): string[] | null {
  const names = parsed(json);
  return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : null;
}

function spellingsOf(json: string | undefined): number[][][] | null {
  const rows = parsed(json);
  return Array.isArray(rows) &&
    rows.every((spellings: unknown) => Array.isArray(spellings) && spellings.every(isSpelling))
    ? (rows as number[][][])
    : null;
}

function isSpelling(tokens: unknown): boolean {
  return (
    Array.isArray(tokens) && tokens.every((token) => Number.isSafeInteger(token) && token >= 0)
  );
}

/** Values in the names or spellings of a blob, and their nesting. */
const NAMES_LIMITS = { valuesMax: 10_000_000, depthMax: 4 };

function parsed(json: string | undefined): unknown {
  try {
    return boundedJson(json ?? 'null', NAMES_LIMITS);
  } catch {
    return null;
  }
}

function keyName(layer: number): string {
  return `layers.${layer}.keys`;
}

function changeName(layer: number): string {
  return `layers.${layer}.changes`;
}

function matrix(
  values: Float32Array | undefined,
  rows: number,
  columns: number,
  name: string,
): StoredTensor {
  if (values === undefined || values.length !== rows * columns)
    throw new RangeError(
      `${name} has ${values?.length ?? 0} numbers, ${rows} x ${columns} are due`,
    );
  if (!values.every(Number.isFinite))
    throw new RangeError(`${name} holds a number that is not finite`);
  return { type: 'F32', shape: [rows, columns], values };
}

function read(
  tensors: Map<string, StoredTensor>,
  name: string,
): { shape: number[]; values: Float32Array } {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new PairsMalformed(`${name} is missing`);
  if (!(tensor.values instanceof Float32Array) || tensor.shape.length !== 2)
    throw new PairsMalformed(
      `${name} is ${tensor.type} [${tensor.shape.join(', ')}], F32 [rows, columns] is due`,
    );
  if (!tensor.values.every(Number.isFinite))
    throw new PairsMalformed(`${name} holds a number that is not finite`);
  return { shape: tensor.shape, values: tensor.values };
}

function same(shape: number[], due: number[], name: string): void {
  if (shape.join() !== due.join())
    throw new PairsMalformed(`${name} is [${shape.join(', ')}] where [${due.join(', ')}] is due`);
}
