/**
 * Maps the files' tensors to the canonical ones (model-config.ts): the tensors of each
 * architecture, their shapes, and their sources in the files.
 */
import { MissingTensor, UnreadableCheckpoint } from '../format/faults.ts';
import type { TensorSource } from '../format/tensor-source.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Layout, Recipe } from './layouts.ts';
import type { Checkpoint, ModelConfig } from './model-config.ts';

/** A model's opened files. The caller closes `source`. */
export interface OpenModel {
  source: TensorSource;
  config: ModelConfig;
  layout: Layout;
  createTokenizer: () => Tokenizer;
  weightFiles: string[];
}

const MISSING_SHOWN_MAX = 8;

/**
 * Reads the canonical tensors of a source. Throws MissingTensor and UnreadableCheckpoint if the
 * files do not contain what the configuration describes.
 */
export function canonicalReader(
  path: string,
  config: ModelConfig,
  source: TensorSource,
  layout: Layout,
): Pick<Checkpoint, 'has' | 'read'> {
  const shapes = new Map<string, number[]>();
  const missing: string[] = [];
  for (const { name, shape, optional } of canonicalTensors(config)) {
    const recipe = layout(name);
    const found = source.shape(recipe.source)?.join(', ');
    const expected = storedShape(shape, recipe).join(', ');
    if (found === expected) shapes.set(name, shape);
    else if (found !== undefined)
      throw new UnreadableCheckpoint(
        path,
        `tensor "${recipe.source}" is [${found}], the configuration says [${expected}]`,
        'The configuration and the weights belong to different models',
      );
    else if (!optional) missing.push(`${name} (${recipe.source})`);
  }
  if (missing.length > 0) {
    const more = missing.length > MISSING_SHOWN_MAX ? ', …' : '';
    throw new MissingTensor(
      path,
      `lacks ${missing.length} tensors: ${missing.slice(0, MISSING_SHOWN_MAX).join(', ')}${more}`,
      'A file is missing, or it is not a language model of this architecture',
    );
  }
  return {
    has: (name) => shapes.has(name),
    async read(name) {
      const shape = shapes.get(name);
      if (shape === undefined)
        throw new MissingTensor(path, `no tensor "${name}"`, 'Check with has() first');
      return { shape: [...shape], values: await readCanonical(source, layout(name), shape) };
    },
  };
}

async function readCanonical(source: TensorSource, recipe: Recipe, shape: number[]) {
  const [rows, columns = 1] = shape as [number, number?];
  const { index, parts } = recipe.part ?? { index: 0, parts: 1 };
  const begin = index * rows;
  if (recipe.transposed && shape.length === 2) {
    const stored = await source.readRows(recipe.source, 0, columns);
    return transposeColumns(stored, rows * parts, begin, rows);
  }
  const values = await source.readRows(recipe.source, begin, begin + rows);
  const heads = recipe.interleavedHeads;
  return heads === undefined ? values : splitHalves(values, rows, columns, heads);
}

interface CanonicalTensor {
  name: string;
  shape: number[];
  optional?: boolean;
}

/** Lists every canonical tensor that a model of this configuration has or may have. */
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
    const optional = bias === 'maybe';
    if (bias !== 'never') list.push({ name: `${name}.bias`, shape: [out], optional });
  };
  const attentionBias = ({ llama: 'maybe', gpt2: 'always', gptj: 'never' } as const)[architecture];
  const mlpBias = architecture === 'llama' ? 'maybe' : 'always';
  if (architecture === 'gpt2') list.push({ name: 'position', shape: [config.contextMax, D] });
  for (let layer = 0; layer < layers; layer++) {
    const block = `blocks.${layer}`;
    norm(`${block}.norm1`);
    if (architecture !== 'gptj') norm(`${block}.norm2`);
    linear(`${block}.query`, queryWidth, D, attentionBias);
    linear(`${block}.key`, keyWidth, D, attentionBias);
    linear(`${block}.value`, keyWidth, D, attentionBias);
    linear(`${block}.output`, D, queryWidth, attentionBias);
    if (architecture === 'llama') linear(`${block}.gate`, F, D, 'maybe');
    linear(`${block}.up`, F, D, mlpBias);
    linear(`${block}.down`, D, F, mlpBias);
  }
  norm('finalNorm');
  if (!config.tiedEmbeddings) linear('head', V, D, architecture === 'gptj' ? 'always' : 'never');
  return list;
}

function storedShape(shape: number[], recipe: Recipe): number[] {
  const [out, ...rest] = shape as [number, ...number[]];
  const stored = [out * (recipe.part?.parts ?? 1), ...rest];
  return recipe.transposed && stored.length === 2 ? stored.reverse() : stored;
}

/** Returns columns [begin, begin + count) of [rows, width] as the rows of [count, rows]. */
function transposeColumns(stored: Float32Array, width: number, begin: number, count: number) {
  const rows = stored.length / width;
  const out = new Float32Array(count * rows);
  // Works in tiles, because walking down a column of a large matrix misses the cache at every step.
  const tile = 32;
  for (let rowTile = 0; rowTile < rows; rowTile += tile) {
    const rowEnd = Math.min(rows, rowTile + tile);
    for (let columnTile = 0; columnTile < count; columnTile += tile) {
      const columnEnd = Math.min(count, columnTile + tile);
      for (let column = columnTile; column < columnEnd; column++)
        for (let row = rowTile; row < rowEnd; row++)
          out[column * rows + row] = stored[row * width + begin + column]!;
    }
  }
  return out;
}

/** Moves row 2 j + half of each head to row half * width / 2 + j, for half-split rotation. */
function splitHalves(values: Float32Array, rows: number, columns: number, heads: number) {
  const out = new Float32Array(values.length);
  const headRows = rows / heads;
  for (let row = 0; row < rows; row++) {
    const inHead = row % headRows;
    const to = row - inHead + (inHead & 1) * (headRows / 2) + (inHead >> 1);
    out.set(values.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return out;
}
