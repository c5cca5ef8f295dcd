/**
 * From the files' tensors to the canonical ones (model-config.ts): which tensors an architecture
 * has, of which shape, and how each is made from a tensor of the files.
 */
import { MissingTensor, UnreadableCheckpoint } from './faults.ts';
import type { ModelConfig, WeightTensor } from './model-config.ts';
import type { TensorSource } from './tensor-source.ts';

/** How one canonical tensor is made. */
export interface Recipe {
  /** The files' name of the tensor. */
  source: string;
  /**
   * Part `index` of `parts` equal parts along the output dimension: a fused query, key and value.
   */
  part?: { index: number; parts: number };
  /** The file has [in, out] (GPT-2's Conv1D). */
  transposed?: boolean;
  /**
   * The rows of each of so many heads are interleaved (2 j + half) and are put back to (half, j).
   */
  interleavedHeads?: number;
}

/** Canonical name to recipe, and which of them the files may lack. */
export interface Layout {
  recipe(canonical: string): Recipe;
}

/** A checkpoint's tensors by canonical name. */
export class CanonicalTensors {
  readonly #source: TensorSource;
  readonly #layout: Layout;
  readonly #shapes: Map<string, number[]>;

  /**
   * Throws MissingTensor and UnreadableCheckpoint where the files do not hold what the
   * configuration asks for.
   */
  constructor(path: string, config: ModelConfig, source: TensorSource, layout: Layout) {
    this.#source = source;
    this.#layout = layout;
    this.#shapes = new Map();
    const missing: string[] = [];
    for (const { name, shape, optional } of canonicalTensors(config)) {
      const recipe = layout.recipe(name);
      const found = source.shape(recipe.source);
      if (found === undefined) {
        if (!optional) missing.push(`${name} (${recipe.source})`);
        continue;
      }
      const expected = storedShape(shape, recipe);
      if (found.join() !== expected.join()) {
        throw new UnreadableCheckpoint(
          `${path}: tensor "${recipe.source}" is [${found.join(', ')}] where the configuration asks for [${expected.join(', ')}]`,
          { path, tensor: recipe.source, found: found.join('x'), expected: expected.join('x') },
          'The configuration and the weights are not of one model',
        );
      }
      this.#shapes.set(name, shape);
    }
    if (missing.length > 0) {
      const shown = missing.slice(0, MISSING_SHOWN_MAX).join(', ');
      throw new MissingTensor(
        `${path} lacks ${missing.length} tensors: ${shown}${missing.length > MISSING_SHOWN_MAX ? ', …' : ''}`,
        { path, missing: missing.slice(0, MISSING_SHOWN_MAX), missingCount: missing.length },
        'A file is missing, or it is no language model of this architecture',
      );
    }
  }

  has(name: string): boolean {
    return this.#shapes.has(name);
  }

  async read(name: string): Promise<WeightTensor> {
    const shape = this.#shapes.get(name);
    if (shape === undefined) {
      throw new MissingTensor(
        `The checkpoint has no tensor "${name}"`,
        { tensor: name },
        'Ask has() for tensors that not every model has',
      );
    }
    const recipe = this.#layout.recipe(name);
    const rows = shape[0]!;
    const columns = shape[1] ?? 1;
    const part = recipe.part ?? { index: 0, parts: 1 };
    const begin = part.index * rows;
    if (recipe.transposed && shape.length === 2) {
      const stored = await this.#source.readRows(recipe.source, 0, columns);
      return {
        shape: [...shape],
        values: transposeColumns(stored, rows * part.parts, begin, rows),
      };
    }
    const values = await this.#source.readRows(recipe.source, begin, begin + rows);
    return {
      shape: [...shape],
      values: recipe.interleavedHeads
        ? splitHalves(values, rows, columns, recipe.interleavedHeads)
        : values,
    };
  }
}

const MISSING_SHOWN_MAX = 8;

interface CanonicalTensor {
  name: string;
  shape: number[];
  optional?: boolean;
}

/** Every canonical tensor that a model of this configuration has or may have. */
export function canonicalTensors(config: ModelConfig): CanonicalTensor[] {
  const { architecture, layers, residualWidth: D, mlpWidth: F, vocabulary: V } = config;
  const queryWidth = config.heads * config.headWidth;
  const keyWidth = config.keyValueHeads * config.headWidth;
  const list: CanonicalTensor[] = [{ name: 'embedding', shape: [V, D] }];
  const norm = (name: string) => {
    list.push({ name: `${name}.gain`, shape: [D] });
    if (architecture !== 'llama') list.push({ name: `${name}.bias`, shape: [D] });
  };
  const linear = (name: string, out: number, into: number, bias: 'always' | 'never' | 'maybe') => {
    list.push({ name: `${name}.weight`, shape: [out, into] });
    if (bias !== 'never')
      list.push({ name: `${name}.bias`, shape: [out], optional: bias === 'maybe' });
  };
  const attentionBias = { llama: 'maybe', gpt2: 'always', gptj: 'never' } as const;
  const mlpBias = { llama: 'maybe', gpt2: 'always', gptj: 'always' } as const;
  if (architecture === 'gpt2') list.push({ name: 'position', shape: [config.contextMax, D] });
  for (let layer = 0; layer < layers; layer++) {
    const block = `blocks.${layer}`;
    norm(`${block}.norm1`);
    if (architecture !== 'gptj') norm(`${block}.norm2`);
    linear(`${block}.query`, queryWidth, D, attentionBias[architecture]);
    linear(`${block}.key`, keyWidth, D, attentionBias[architecture]);
    linear(`${block}.value`, keyWidth, D, attentionBias[architecture]);
    linear(`${block}.output`, D, queryWidth, attentionBias[architecture]);
    if (architecture === 'llama') linear(`${block}.gate`, F, D, 'maybe');
    linear(`${block}.up`, F, D, mlpBias[architecture]);
    linear(`${block}.down`, D, F, mlpBias[architecture]);
  }
  norm('finalNorm');
  if (!config.tiedEmbeddings) linear('head', V, D, architecture === 'gptj' ? 'always' : 'never');
  return list;
}

/**
 * `blocks.3.query.weight` is layer 3, part query, kind weight; `embedding` has neither layer nor
 * kind.
 */
export function splitName(canonical: string): {
  layer: number | null;
  part: string;
  kind: 'weight' | 'gain' | 'bias' | '';
} {
  const [, layer, part = '', kind = ''] =
    /^(?:blocks\.(\d+)\.)?(\w+)(?:\.(weight|gain|bias))?$/.exec(canonical) ?? [];
  return { layer: layer === undefined ? null : Number(layer), part, kind: kind as 'weight' };
}

function storedShape(shape: number[], recipe: Recipe): number[] {
  const [out, ...rest] = shape as [number, ...number[]];
  const stored = [out * (recipe.part?.parts ?? 1), ...rest];
  return recipe.transposed && stored.length === 2 ? stored.reverse() : stored;
}

/** Columns [begin, begin + count) of [rows, width], as the rows of [count, rows]. */
function transposeColumns(
  stored: Float32Array,
  width: number,
  begin: number,
  count: number,
): Float32Array {
  const rows = stored.length / width;
  const out = new Float32Array(count * rows);
  // In tiles, because a column walk through a large matrix misses the cache at every step.
  const tile = 32;
  for (let rowTile = 0; rowTile < rows; rowTile += tile) {
    const rowEnd = Math.min(rows, rowTile + tile);
    for (let columnTile = 0; columnTile < count; columnTile += tile) {
      const columnEnd = Math.min(count, columnTile + tile);
      for (let column = columnTile; column < columnEnd; column++) {
        for (let row = rowTile; row < rowEnd; row++)
          out[column * rows + row] = stored[row * width + begin + column]!;
      }
    }
  }
  return out;
}

/**
 * Row 2 j + half of each head goes to row half * width / 2 + j: rotary embedding of the half-split
 * form.
 */
function splitHalves(
  values: Float32Array,
  rows: number,
  columns: number,
  heads: number,
): Float32Array {
  const out = new Float32Array(values.length);
  const headRows = rows / heads;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < headRows; row++) {
      const from = (head * headRows + row) * columns;
      const to = (head * headRows + (row & 1) * (headRows / 2) + (row >> 1)) * columns;
      out.set(values.subarray(from, from + columns), to);
    }
  }
  return out;
}
