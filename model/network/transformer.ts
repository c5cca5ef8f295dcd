/**
 * The network: Llama (with Qwen2's biases), GPT-2 and GPT-J in one structure, float32, with one
 * hook point at the MLP's down-projection. It is the plain forward pass; training, sampling and
 * editing are elsewhere.
 *
 * Letters of the shapes: R rows (tokens of all sequences, no padding), B sequences, T longest of
 * them, S past tokens, D residual width, F MLP width, H heads, K key-value heads, G = H / K, d head
 * width, V vocabulary.
 *
 * Sources: Llama (arXiv 2302.13971), rotary embedding (arXiv 2104.09864), GPT-2's and GPT-J's
 * published code for the order of operations; parity with PyTorch transformers is tested in
 * test/model/network/transformer.test.ts.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Checkpoint, ModelConfig } from '../checkpoint/checkpoint.ts';
import type { RotaryTable } from './rotary.ts';
import { rotaryTable } from './rotary.ts';
import { FILLER, type TokenRows } from './token-rows.ts';

/**
 * What stands at the down-projection of a block: gets the keys [R, F], the block's own W0 k [R, D],
 * whose they are and what went before, and returns the value [R, D] to be used. Runs inside the
 * block's tidy.
 */
export interface DownHook {
  /** Blocks it wants to see. */
  readonly layers: ReadonlySet<number>;
  project(
    layer: number,
    keys_RF: tf.Tensor2D,
    base_RD: tf.Tensor2D,
    rows: TokenRows,
    past: AttentionPast | null,
  ): tf.Tensor2D;
}

/** What went before: per block keys and values [B, S, K * d]. Slots with valid 0 are fillers. */
export interface AttentionPast {
  readonly length: number;
  /** [B, S], 1 where a slot holds a token. */
  readonly valid: Float32Array;
  /** [B, S] token ids, FILLER where there is none. */
  readonly tokens: Int32Array;
  readonly blocks: Map<number, { key: tf.Tensor3D; value: tf.Tensor3D }>;
}

export interface BlockRange {
  /** First block run, inclusive. */
  from: number;
  /** Last block run, exclusive. */
  to: number;
}

export interface RunOptions {
  past?: AttentionPast | null | undefined;
  hook?: DownHook | null | undefined;
  /** Keep the new keys and values of these blocks (past included) in `kept`. */
  keep?: boolean;
  /**
   * Gets what each block computed on the way, lowest first, for whoever goes back through it
   * (backward.ts).
   */
  record?: RunRecord | undefined;
}

/** A run's geometry and blocks; whoever recorded frees it (`disposeRecord`). */
export interface RunRecord {
  geometry: AttentionGeometry | null;
  readonly blocks: BlockRecord[];
}

/** What a block computed: kept tensors, the recorder's. */
export interface BlockRecord {
  layer: number;
  /** Input of the block, and of the MLP's norm where that is another. */
  hidden_RD: tf.Tensor2D;
  middle_RD: tf.Tensor2D;
  /** Scaled queries [B, K, G * T, d], keys and values [B, K, S, d], softmax [B, K, G * T, S]. */
  query: tf.Tensor4D;
  key: tf.Tensor4D;
  value: tf.Tensor4D;
  weights: tf.Tensor4D;
  /** Inputs of the activation and what multiplies it (Llama), [R, F]. */
  gate_RF: tf.Tensor2D | null;
  up_RF: tf.Tensor2D;
}

export interface RunResult {
  hidden: tf.Tensor2D;
  kept: AttentionPast | null;
}

export class Transformer {
  readonly config: ModelConfig;
  private readonly weights = new Map<string, tf.Tensor>();
  private readonly rotary: RotaryTable | null;

  private constructor(config: ModelConfig) {
    this.config = config;
    this.rotary = config.rotary === null ? null : rotaryTable(config.rotary, config.headWidth);
  }

  /**
   * Reads every weight into the backend's memory; `progress` gets the share done in [0, 1]. The
   * model owns the tensors until `dispose`.
   */
  static async load(
    checkpoint: Checkpoint,
    progress?: (share: number) => void,
  ): Promise<Transformer> {
    const model = new Transformer(checkpoint.config);
    const names = model.weightNames().filter((name) => checkpoint.has(name));
    try {
      for (const [i, name] of names.entries()) {
        const { shape, values } = await checkpoint.read(name);
        model.weights.set(name, tf.tensor(values, shape, 'float32'));
        progress?.((i + 1) / names.length);
      }
    } catch (error) {
      model.dispose();
      throw error;
    }
    model.rotary?.upload();
    return model;
  }

  dispose(): void {
    for (const tensor of this.weights.values()) tensor.dispose();
    this.weights.clear();
    this.rotary?.dispose();
  }

  /** W0 of a block's down-projection, [D, F]; owned by the model. */
  downWeight(layer: number): tf.Tensor2D {
    return this.weight(`blocks.${layer}.down.weight`) as tf.Tensor2D;
  }

  /** The output matrix [V, D] (the embedding where tied); owned by the model. */
  headWeight(): tf.Tensor2D {
    return (this.weights.get('head.weight') ?? this.weight('embedding')) as tf.Tensor2D;
  }

  /** The output's bias [V], or null where the model has none; owned by the model. */
  headBias(): tf.Tensor1D | null {
    return (this.weights.get('head.bias') as tf.Tensor1D | undefined) ?? null;
  }

  /** Token (and position) embeddings, [R, D]. */
  embed(rows: TokenRows): tf.Tensor2D {
    return tf.tidy(() => {
      const tokens_RD = tf.gather(this.weight('embedding'), tf.tensor1d(rows.tokens, 'int32'));
      if (!this.weights.has('position')) return tokens_RD;
      return tf.add(
        tokens_RD,
        tf.gather(this.weight('position'), tf.tensor1d(rows.positions, 'int32')),
      );
    }) as tf.Tensor2D;
  }

  /**
   * Runs blocks [from, to) over hidden states [R, D]. With a past, the rows follow it; with `keep`,
   * the keys and values are returned for what follows. The caller owns the result and still owns
   * `hidden` and the past.
   */
  run(
    hidden_RD: tf.Tensor2D,
    rows: TokenRows,
    range: BlockRange,
    options: RunOptions = {},
  ): RunResult {
    const past = options.past ?? null;
    const geometry = attentionGeometry(
      rows,
      past,
      this.config.heads / this.config.keyValueHeads,
      this.rotary,
    );
    const kept: AttentionPast | null = options.keep
      ? {
          length: geometry.keysLong,
          valid: geometry.valid,
          tokens: tokensSoFar(rows, past),
          blocks: new Map(),
        }
      : null;
    let hidden: tf.Tensor2D = hidden_RD;
    for (let layer = range.from; layer < range.to; layer++) {
      if (past !== null && !past.blocks.has(layer))
        throw new Error(`the past holds no keys for block ${layer}`);
      const [next, key, value] = tf.tidy(() => {
        const result = this.block(
          layer,
          hidden,
          rows,
          geometry,
          past,
          options.hook ?? null,
          options.record,
        );
        return [result.hidden, ...(kept === null ? [] : [result.key, result.value])];
      }) as [tf.Tensor2D, tf.Tensor3D?, tf.Tensor3D?];
      if (hidden !== hidden_RD && options.record === undefined) hidden.dispose();
      hidden = next;
      if (kept !== null) kept.blocks.set(layer, { key: key!, value: value! });
    }
    if (options.record === undefined) geometry.dispose();
    else options.record.geometry = geometry;
    if (hidden === hidden_RD) hidden = tf.clone(hidden_RD);
    return { hidden, kept };
  }

  /** Logits [N, V] of some rows; all of them by default. */
  logits(hidden_RD: tf.Tensor2D, picked?: readonly number[] | Int32Array): tf.Tensor2D {
    return tf.tidy(() => {
      const hidden = picked === undefined ? hidden_RD : gatherRows(hidden_RD, picked);
      const normed = this.norm('finalNorm', hidden);
      const logits = tf.matMul(normed, this.headWeight(), false, true);
      const bias = this.weights.get('head.bias');
      return bias === undefined ? logits : tf.add(logits, bias);
    }) as tf.Tensor2D;
  }

  /** The norm in front of the vocabulary. */
  finalNorm(hidden_ND: tf.Tensor2D): tf.Tensor2D {
    return this.norm('finalNorm', hidden_ND);
  }

  private block(
    layer: number,
    hidden_RD: tf.Tensor2D,
    rows: TokenRows,
    geometry: AttentionGeometry,
    past: AttentionPast | null,
    hook: DownHook | null,
    record: RunRecord | undefined,
  ): { hidden: tf.Tensor2D; key: tf.Tensor3D; value: tf.Tensor3D } {
    const name = `blocks.${layer}`;
    const seen: Partial<BlockRecord> | null =
      record === undefined ? null : { layer, hidden_RD, middle_RD: hidden_RD };
    if (seen !== null) record!.blocks.push(seen as BlockRecord);
    const normed_RD = this.norm(`${name}.norm1`, hidden_RD);
    const attention = this.attention(
      name,
      normed_RD,
      rows,
      geometry,
      past?.blocks.get(layer) ?? null,
      seen,
    );
    if (this.config.architecture === 'gptj') {
      const mlp_RD = this.mlp(layer, normed_RD, rows, past, hook, seen);
      keepRecord(seen);
      return {
        ...attention,
        hidden: tf.add<tf.Tensor2D>(hidden_RD, tf.add(attention.output, mlp_RD)),
      };
    }
    const middle_RD = tf.add<tf.Tensor2D>(hidden_RD, attention.output);
    const mlp_RD = this.mlp(layer, this.norm(`${name}.norm2`, middle_RD), rows, past, hook, seen);
    if (seen !== null) seen.middle_RD = middle_RD;
    keepRecord(seen);
    return {
      key: attention.key,
      value: attention.value,
      hidden: tf.add<tf.Tensor2D>(middle_RD, mlp_RD),
    };
  }

  private attention(
    name: string,
    normed_RD: tf.Tensor2D,
    rows: TokenRows,
    geometry: AttentionGeometry,
    past: { key: tf.Tensor3D; value: tf.Tensor3D } | null,
    seen: Partial<BlockRecord> | null,
  ): { output: tf.Tensor2D; key: tf.Tensor3D; value: tf.Tensor3D } {
    const { heads: H, keyValueHeads: K, headWidth: d } = this.config;
    const G = H / K;
    const { sequences: B, longest: T } = rows;
    const query_RHd = this.rotate(this.linear(`${name}.query`, normed_RD), H, geometry);
    const newKey_RKd = this.rotate(this.linear(`${name}.key`, normed_RD), K, geometry);
    const newValue_RKd = this.linear(`${name}.value`, normed_RD);

    let key: tf.Tensor3D = tf.reshape(geometry.pad(newKey_RKd), [B, T, K * d]);
    let value: tf.Tensor3D = tf.reshape(geometry.pad(newValue_RKd), [B, T, K * d]);
    if (past !== null) {
      key = tf.concat([past.key, key], 1);
      value = tf.concat([past.value, value], 1);
    }
    const S = geometry.keysLong;
    const query_BTKGd = tf.reshape(tf.mul(geometry.pad(query_RHd), 1 / Math.sqrt(d)), [
      B,
      T,
      K,
      G,
      d,
    ]);
    const query_BKGTd = tf.reshape(tf.transpose(query_BTKGd, [0, 2, 3, 1, 4]), [B, K, G * T, d]);
    const key_BKSd = tf.transpose(tf.reshape(key, [B, S, K, d]), [0, 2, 1, 3]);
    const value_BKSd = tf.transpose(tf.reshape(value, [B, S, K, d]), [0, 2, 1, 3]);
    const weights = tf.softmax(
      tf.add(tf.matMul(query_BKGTd, key_BKSd, false, true), geometry.mask),
    );
    if (seen !== null)
      Object.assign(seen, { query: query_BKGTd, key: key_BKSd, value: value_BKSd, weights });
    const mixed_BKGTd = tf.reshape(tf.matMul(weights, value_BKSd), [B, K, G, T, d]);
    const mixed = tf.reshape<tf.Rank.R2>(tf.transpose(mixed_BKGTd, [0, 3, 1, 2, 4]), [
      B * T,
      H * d,
    ]);
    const output = this.linear(`${name}.output`, geometry.unpad(mixed));
    return { output, key, value };
  }

  /**
   * Rotary embedding as x * cos + (x M) * sin, M a signed permutation; back again with - sin; the
   * identity where the model has none.
   */
  rotate(
    x_RHd: tf.Tensor2D,
    heads: number,
    geometry: AttentionGeometry,
    direction: 'on' | 'back' = 'on',
  ): tf.Tensor2D {
    if (this.rotary === null || geometry.cos === null || geometry.sin === null) return x_RHd;
    const { headWidth: d } = this.config;
    const R = x_RHd.shape[0];
    const heads_RHd = tf.reshape(x_RHd, [R, heads, d]);
    const turned = tf.reshape(tf.matMul(tf.reshape(x_RHd, [R * heads, d]), this.rotary.turn()), [
      R,
      heads,
      d,
    ]);
    return tf.reshape(
      (direction === 'on' ? tf.add : tf.sub)(
        tf.mul(heads_RHd, geometry.cos),
        tf.mul(turned, geometry.sin),
      ),
      [R, heads * d],
    );
  }

  private mlp(
    layer: number,
    normed_RD: tf.Tensor2D,
    rows: TokenRows,
    past: AttentionPast | null,
    hook: DownHook | null,
    seen: Partial<BlockRecord> | null,
  ): tf.Tensor2D {
    const name = `blocks.${layer}`;
    const up_RF = this.linear(`${name}.up`, normed_RD);
    const gate_RF =
      this.config.activation === 'silu' ? this.linear(`${name}.gate`, normed_RD) : null;
    if (seen !== null) Object.assign(seen, { gate_RF, up_RF });
    const keys_RF = gate_RF === null ? geluTanh(up_RF) : tf.mul<tf.Tensor2D>(silu(gate_RF), up_RF);
    const base_RD = this.linear(`${name}.down`, keys_RF);
    return hook !== null && hook.layers.has(layer)
      ? hook.project(layer, keys_RF, base_RD, rows, past)
      : base_RD;
  }

  /** RMS norm where the checkpoint has no bias, layer norm where it has. */
  private norm(name: string, x_RD: tf.Tensor2D): tf.Tensor2D {
    const gain = this.weight(`${name}.gain`);
    const bias = this.weights.get(`${name}.bias`);
    const centred = bias === undefined ? x_RD : tf.sub(x_RD, tf.mean(x_RD, 1, true));
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), this.config.normEpsilon));
    const scaled = tf.mul(tf.mul(centred, scale), gain);
    return (bias === undefined ? scaled : tf.add(scaled, bias)) as tf.Tensor2D;
  }

  private linear(name: string, x_RI: tf.Tensor2D): tf.Tensor2D {
    const product: tf.Tensor2D = tf.matMul(x_RI, this.weight(`${name}.weight`), false, true);
    const bias = this.weights.get(`${name}.bias`);
    return bias === undefined ? product : tf.add<tf.Tensor2D>(product, bias);
  }

  hasWeight(name: string): boolean {
    return this.weights.has(name);
  }

  /** A weight by its name in the canonical layout; owned by the model. */
  weight(name: string): tf.Tensor {
    const tensor = this.weights.get(name);
    if (tensor === undefined) throw new Error(`the model has no weight ${name}`);
    return tensor;
  }

  private weightNames(): string[] {
    const names = ['embedding', 'position', 'finalNorm.gain', 'finalNorm.bias', 'head.bias'];
    if (!this.config.tiedEmbeddings) names.push('head.weight');
    for (let i = 0; i < this.config.layers; i++) {
      for (const norm of ['norm1', 'norm2'])
        names.push(`blocks.${i}.${norm}.gain`, `blocks.${i}.${norm}.bias`);
      for (const linear of ['query', 'key', 'value', 'output', 'gate', 'up', 'down']) {
        names.push(`blocks.${i}.${linear}.weight`, `blocks.${i}.${linear}.bias`);
      }
    }
    return names;
  }
}

function keepRecord(seen: Partial<BlockRecord> | null): void {
  for (const one of Object.values(seen ?? {})) if (one instanceof tf.Tensor) tf.keep(one);
}

/** Frees what was recorded; the run's own input stays its owner's. */
export function disposeRecord(record: RunRecord): void {
  const input = record.blocks[0]?.hidden_RD;
  for (const block of record.blocks)
    for (const one of Object.values(block))
      if (one instanceof tf.Tensor && one !== input) one.dispose();
  record.geometry?.dispose();
}

/** Frees a past's tensors. */
export function disposePast(past: AttentionPast | null): void {
  for (const { key, value } of past?.blocks.values() ?? []) tf.dispose([key, value]);
}

export interface AttentionGeometry {
  /** S: past and new slots. */
  readonly keysLong: number;
  /** [B, S] */
  readonly valid: Float32Array;
  /** [B, 1, G * T, S], 0 or a large negative number. */
  readonly mask: tf.Tensor4D;
  /** [R, 1, d] */
  readonly cos: tf.Tensor3D | null;
  readonly sin: tf.Tensor3D | null;
  pad(x_RX: tf.Tensor2D): tf.Tensor2D;
  /** `pad` with zeros in the fillers. */
  padZeros(x_RX: tf.Tensor2D): tf.Tensor2D;
  unpad(x: tf.Tensor2D): tf.Tensor2D;
  dispose(): void;
}

/** Large enough to vanish in a softmax, small enough to stay finite in float32. */
const MASKED = -1e9;

/**
 * The tensors that all blocks of one run share: masks, rotations and the ways between rows and
 * padded slots.
 */
function attentionGeometry(
  rows: TokenRows,
  past: AttentionPast | null,
  group: number,
  rotary: RotaryTable | null,
): AttentionGeometry {
  const { sequences: B, longest: T } = rows;
  const pastLong = past?.length ?? 0;
  const keysLong = pastLong + T;
  const valid = new Float32Array(B * keysLong);
  const mask = new Float32Array(B * group * T * keysLong).fill(MASKED);
  for (let b = 0; b < B; b++) {
    const length = rows.starts[b + 1]! - rows.starts[b]!;
    for (let s = 0; s < pastLong; s++) valid[b * keysLong + s] = past!.valid[b * pastLong + s]!;
    valid.fill(1, b * keysLong + pastLong, b * keysLong + pastLong + length);
    for (let g = 0; g < group; g++) {
      for (let t = 0; t < T; t++) {
        const row = ((b * group + g) * T + t) * keysLong;
        for (let s = 0; s < pastLong; s++) if (valid[b * keysLong + s] === 1) mask[row + s] = 0;
        mask.fill(0, row + pastLong, row + pastLong + Math.min(t + 1, length));
      }
    }
  }
  const maskTensor = tf.tensor4d(mask, [B, 1, group * T, keysLong]);
  const [cos, sin] = rotary === null ? [null, null] : rotary.at(rows.positions);
  const rowOfSlot = rows.dense ? null : tf.tensor1d(rows.rowOfSlot, 'int32');
  const slotOfRow = rows.dense ? null : tf.tensor1d(rows.slotOfRow, 'int32');
  return {
    keysLong,
    valid,
    mask: maskTensor,
    cos,
    sin,
    pad: (x) => (rowOfSlot === null ? x : tf.gather(x, rowOfSlot)),
    padZeros: (x) =>
      slotOfRow === null ? x : tf.scatterND(tf.reshape(slotOfRow, [-1, 1]), x, [B * T, x.shape[1]]),
    unpad: (x) => (slotOfRow === null ? x : tf.gather(x, slotOfRow)),
    dispose: () =>
      tf.dispose([maskTensor, cos, sin, rowOfSlot, slotOfRow].filter((tensor) => tensor !== null)),
  };
}

/** [B, S] tokens of the past and behind them the rows', padded as attention has them. */
function tokensSoFar(rows: TokenRows, past: AttentionPast | null): Int32Array {
  const before = past?.length ?? 0;
  const length = before + rows.longest;
  const tokens = new Int32Array(rows.sequences * length).fill(FILLER);
  for (let b = 0; b < rows.sequences; b++) {
    if (past !== null) tokens.set(past.tokens.subarray(b * before, (b + 1) * before), b * length);
    tokens.set(rows.tokens.subarray(rows.starts[b], rows.starts[b + 1]), b * length + before);
  }
  return tokens;
}

/** Some rows of a matrix. */
export function gatherRows(x_RX: tf.Tensor2D, picked: readonly number[] | Int32Array): tf.Tensor2D {
  return tf.tidy(() => tf.gather(x_RX, tf.tensor1d(Int32Array.from(picked), 'int32')));
}

function silu(x: tf.Tensor2D): tf.Tensor2D {
  return tf.mul(x, tf.sigmoid(x));
}

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
function geluTanh(x: tf.Tensor2D): tf.Tensor2D {
  const inner = tf.mul(
    tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)),
    Math.sqrt(2 / Math.PI),
  );
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}
