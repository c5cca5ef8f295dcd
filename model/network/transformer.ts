/**
 * The network: Llama (with Qwen2's biases), GPT-2 and GPT-J in one structure, float32, with one
 * hook point at the MLP's down-projection. It runs forward, and backward from a recorded run to the
 * run's input hidden states. The backward pass is written by hand instead of using a tape, because
 * no weight's gradient is needed: a step takes 3,300 kernel calls instead of 4,400 with
 * SmolLM2-135M. Layers are in layers.ts and attention.ts.
 *
 * Letters of the shapes: R rows (tokens of all sequences, no padding), B sequences, T longest of
 * them, S past and new tokens, D residual width, F MLP width, H heads, K key-value heads, G = H /
 * K, d head width, V vocabulary. A name in d... or _d is a gradient by the quantity named.
 *
 * Sources: Llama (arXiv 2302.13971), rotary embedding (arXiv 2104.09864), GPT-2's and GPT-J's
 * published code for the order of operations. Tests compare the network with PyTorch transformers
 * (test/model/network/transformer.test.ts) and the backward pass with the tape (backward.test.ts).
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Checkpoint, ModelConfig } from '../checkpoint/checkpoint.ts';
import {
  attend,
  attendBack,
  attentionGeometry,
  type AttentionGeometry,
  type AttentionRecord,
} from './attention.ts';
import { tokensSoFar, type AttentionPast } from './attention-past.ts';
import { linear, mlpBack, mlpKeys, norm, normBack, Weights, type MlpRecord } from './layers.ts';
import { RotaryTable } from './rotary.ts';
import type { TokenRows } from './token-rows.ts';

/** A block's down-projection as a hook sees it. */
export interface DownProjection {
  layer: number;
  keys_RF: tf.Tensor2D;
  /** The block's own W0 k. */
  base_RD: tf.Tensor2D;
  rows: TokenRows;
  past: AttentionPast | null;
}

/** Replaces the values of down-projections. Runs inside the block's tidy. */
export interface DownHook {
  /** The hooked blocks. */
  readonly layers: ReadonlySet<number>;
  /** Returns the values [R, D] to use. */
  project(down: DownProjection): tf.Tensor2D;
}

export interface BlockRange {
  from: number;
  to: number;
}

export interface RunOptions {
  past?: AttentionPast | null | undefined;
  hook?: DownHook | null | undefined;
  /** Returns the new keys and values of these blocks (past included) in `kept`. */
  keep?: boolean;
  /** Receives each block's intermediate tensors, for `backThrough`. */
  record?: RunRecord | undefined;
}

/** A recorded run. The recorder frees it with `disposeRecord`. */
export interface RunRecord {
  geometry: AttentionGeometry | null;
  /** Lowest first. */
  readonly blocks: BlockRecord[];
}

interface BlockRecord extends AttentionRecord, MlpRecord {
  layer: number;
  hidden_RD: tf.Tensor2D;
  /** Input of the MLP's norm; in GPT-J the input of the block. */
  middle_RD: tf.Tensor2D;
}

export interface RunResult {
  hidden: tf.Tensor2D;
  kept: AttentionPast | null;
}

export class Transformer {
  readonly config: ModelConfig;
  readonly #rotary: RotaryTable | null;

  private constructor(readonly weights: Weights) {
    const { rotary, headWidth } = weights.config;
    this.config = weights.config;
    this.#rotary = rotary === null ? null : new RotaryTable(rotary, headWidth);
  }

  /**
   * Reads every weight into the backend's memory. `progress` receives the share done in [0, 1]. The
   * model owns the tensors until `dispose`.
   */
  static async load(
    checkpoint: Checkpoint,
    progress?: (share: number) => void,
  ): Promise<Transformer> {
    return new Transformer(await Weights.load(checkpoint, progress));
  }

  dispose(): void {
    this.weights.dispose();
    this.#rotary?.dispose();
  }

  /** W0 of a block's down-projection, [D, F]; owned by the model. */
  downWeight(layer: number): tf.Tensor2D {
    return this.weights.get(`blocks.${layer}.down.weight`) as tf.Tensor2D;
  }

  /** The output matrix [V, D] (the embedding if tied); owned by the model. */
  headWeight(): tf.Tensor2D {
    return (this.weights.find('head.weight') ?? this.weights.get('embedding')) as tf.Tensor2D;
  }

  /** The output's bias [V], or null if the model has none; owned by the model. */
  headBias(): tf.Tensor1D | null {
    return (this.weights.find('head.bias') as tf.Tensor1D | undefined) ?? null;
  }

  /** Token (and position) embeddings, [R, D]. */
  embed(rows: TokenRows): tf.Tensor2D {
    return tf.tidy(() => {
      const lookUp = (table: tf.Tensor, ids: Int32Array) =>
        tf.gather(table, tf.tensor1d(ids, 'int32'));
      const tokens_RD = lookUp(this.weights.get('embedding'), rows.tokens);
      const positions = this.weights.find('position');
      return positions === undefined
        ? tokens_RD
        : tf.add(tokens_RD, lookUp(positions, rows.positions));
    }) as tf.Tensor2D;
  }

  /** Embeds rows and runs blocks over them, all by default. The caller owns the result. */
  read(
    rows: TokenRows,
    options: RunOptions = {},
    range: BlockRange = { from: 0, to: this.config.layers },
  ): RunResult {
    const embedded = this.embed(rows);
    const result = this.run(embedded, rows, range, options);
    embedded.dispose();
    return result;
  }

  /**
   * Runs blocks [from, to) over hidden states [R, D]. With a past, the rows follow it. The caller
   * owns the result and still owns `hidden` and the past.
   */
  run(
    hidden_RD: tf.Tensor2D,
    rows: TokenRows,
    range: BlockRange,
    options: RunOptions = {},
  ): RunResult {
    const { past = null, hook = null, record } = options;
    const geometry = attentionGeometry(this.config, rows, past, this.#rotary);
    const { keysLong: length, valid } = geometry;
    const kept: AttentionPast | null = options.keep
      ? { length, valid, tokens: tokensSoFar(rows, past), blocks: new Map() }
      : null;
    let hidden: tf.Tensor2D = hidden_RD;
    for (let layer = range.from; layer < range.to; layer++) {
      const [next, key, value] = tf.tidy(() => {
        const block = this.#block(layer, hidden, geometry);
        const { keys_RF, base_RD } = block;
        const mlp_RD = hook?.layers.has(layer)
          ? hook.project({ layer, keys_RF, base_RD, rows, past })
          : base_RD;
        if (record !== undefined) record.blocks.push(keepAll(block.record));
        return [block.add(mlp_RD), ...(kept === null ? [] : [block.key, block.value])];
      }) as [tf.Tensor2D, tf.Tensor3D?, tf.Tensor3D?];
      if (hidden !== hidden_RD && record === undefined) hidden.dispose();
      hidden = next;
      if (kept !== null) kept.blocks.set(layer, { key: key!, value: value! });
    }
    if (record === undefined) geometry.dispose();
    else record.geometry = geometry;
    if (hidden === hidden_RD) hidden = tf.clone(hidden_RD);
    return { hidden, kept };
  }

  /** h + attention + MLP. In GPT-J both read one norm; otherwise the MLP reads h + attention. */
  #block(layer: number, hidden_RD: tf.Tensor2D, geometry: AttentionGeometry) {
    const { weights } = this;
    const name = `blocks.${layer}`;
    const isParallel = this.config.architecture === 'gptj';
    const normed_RD = norm(weights, `${name}.norm1`, hidden_RD);
    const { output_RD, key, value, record } = attend(weights, layer, normed_RD, geometry);
    const middle_RD = isParallel ? hidden_RD : tf.add<tf.Tensor2D>(hidden_RD, output_RD);
    const mlpInput_RD = isParallel ? normed_RD : norm(weights, `${name}.norm2`, middle_RD);
    const { keys_RF, ...mlp } = mlpKeys(weights, name, mlpInput_RD);
    return {
      key,
      value,
      keys_RF,
      base_RD: linear(weights, `${name}.down`, keys_RF),
      record: { layer, hidden_RD, middle_RD, ...record, ...mlp },
      add: (mlp_RD: tf.Tensor2D): tf.Tensor2D =>
        isParallel ? tf.add(hidden_RD, tf.add(output_RD, mlp_RD)) : tf.add(middle_RD, mlp_RD),
    };
  }

  /** Logits [N, V] of some rows, by default of all. */
  logits(hidden_RD: tf.Tensor2D, picked?: readonly number[] | Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      const hidden = picked === undefined ? hidden_RD : gatherRows(hidden_RD, picked);
      const logits = tf.matMul(this.finalNorm(hidden), this.headWeight(), false, true);
      const bias = this.headBias();
      return bias === null ? logits : tf.add(logits, bias);
    }) as tf.Tensor2D;
  }

  finalNorm(hidden_ND: tf.Tensor2D): tf.Tensor2D {
    return norm(this.weights, 'finalNorm', hidden_ND);
  }
}

/**
 * Turns d loss / d (the run's output) [R, D] into d loss / d (the run's input) [R, D]. The caller
 * owns the result and still owns the record.
 */
export function backThrough(model: Transformer, record: RunRecord, d_RD: tf.Tensor2D): tf.Tensor2D {
  let gradient = tf.clone(d_RD);
  for (const block of record.blocks.toReversed()) {
    const next = tf.tidy(() => blockBack(model, block, record.geometry!, gradient));
    gradient.dispose();
    gradient = next;
  }
  return gradient;
}

function blockBack(
  { config, weights }: Transformer,
  block: BlockRecord,
  geometry: AttentionGeometry,
  d_RD: tf.Tensor2D,
): tf.Tensor2D {
  const { layer, hidden_RD, middle_RD } = block;
  const name = `blocks.${layer}`;
  const dMlpInput_RD = mlpBack(weights, name, block, d_RD);
  if (config.architecture === 'gptj') {
    const dAttention_RD = attendBack(weights, layer, block, { geometry, d_RD });
    const dNormed_RD = tf.add<tf.Tensor2D>(dMlpInput_RD, dAttention_RD);
    return tf.add(d_RD, normBack(weights, `${name}.norm1`, hidden_RD, dNormed_RD));
  }
  const dNorm2_RD = normBack(weights, `${name}.norm2`, middle_RD, dMlpInput_RD);
  const dMiddle_RD = tf.add<tf.Tensor2D>(d_RD, dNorm2_RD);
  const dNormed_RD = attendBack(weights, layer, block, { geometry, d_RD: dMiddle_RD });
  return tf.add(dMiddle_RD, normBack(weights, `${name}.norm1`, hidden_RD, dNormed_RD));
}

function keepAll(record: BlockRecord): BlockRecord {
  for (const one of Object.values(record)) if (one instanceof tf.Tensor) tf.keep(one);
  return record;
}

/** Frees the recorded tensors. The run's input keeps its owner. */
export function disposeRecord(record: RunRecord): void {
  const input = record.blocks[0]?.hidden_RD;
  for (const block of record.blocks)
    for (const one of Object.values(block))
      if (one instanceof tf.Tensor && one !== input) one.dispose();
  record.geometry?.dispose();
}

/** Passes the base model's keys [R, F] of some blocks to `take`, which does not own them. */
export function readKeys(
  model: Transformer,
  rows: TokenRows,
  layers: Iterable<number>,
  take: (layer: number, keys_RF: tf.Tensor2D) => void,
): void {
  const hook: DownHook = {
    layers: new Set(layers),
    project({ layer, keys_RF, base_RD }) {
      take(layer, keys_RF);
      return base_RD;
    },
  };
  model.read(rows, { hook }, { from: 0, to: Math.max(...hook.layers) + 1 }).hidden.dispose();
}

/** Reads some rows of a matrix as row-major numbers. */
export function rowValues(x_RX: tf.Tensor2D, picked: readonly number[]): Float32Array {
  return tf.tidy(() => gatherRows(x_RX, picked).dataSync<'float32'>().slice());
}

export function gatherRows(x_RX: tf.Tensor2D, picked: readonly number[] | Int32Array): tf.Tensor2D {
  return tf.tidy(() => tf.gather(x_RX, tf.tensor1d(Int32Array.from(picked), 'int32')));
}
