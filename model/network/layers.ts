/**
 * The network's layers without attention, with forward and backward passes side by side: linear,
 * norm, MLP. A back function takes the gradient of a loss by the layer's output (d) and returns the
 * gradient by its input. No weight's gradient is needed. transformer.ts explains the letters of the
 * shapes.
 */
import * as tf from '@tensorflow/tfjs-core';
import { canonicalTensors } from '../checkpoint/canonical.ts';
import type { Checkpoint, ModelConfig } from '../checkpoint/checkpoint.ts';

/** A model's weights by canonical name, in the backend's memory. */
export class Weights {
  readonly #tensors = new Map<string, tf.Tensor>();

  private constructor(readonly config: ModelConfig) {}

  /** Reads every weight. `progress` receives the share done in [0, 1]. */
  static async load(checkpoint: Checkpoint, progress?: (share: number) => void): Promise<Weights> {
    const weights = new Weights(checkpoint.config);
    const names = canonicalTensors(checkpoint.config)
      .map(({ name }) => name)
      .filter((name) => checkpoint.has(name));
    try {
      for (const [i, name] of names.entries()) {
        const { shape, values } = await checkpoint.read(name);
        weights.#tensors.set(name, tf.tensor(values, shape, 'float32'));
        progress?.((i + 1) / names.length);
      }
    } catch (error) {
      weights.dispose();
      throw error;
    }
    return weights;
  }

  get(name: string): tf.Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`the model has no weight ${name}`);
    return tensor;
  }

  /** Returns a weight that only some models have. */
  find(name: string): tf.Tensor | undefined {
    return this.#tensors.get(name);
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }
}

/** y = x W^T + b, [R, I] to [R, O]. */
export function linear(weights: Weights, name: string, x_RI: tf.Tensor2D): tf.Tensor2D {
  const product_RO: tf.Tensor2D = tf.matMul(x_RI, weights.get(`${name}.weight`), false, true);
  const bias_O = weights.find(`${name}.bias`);
  return bias_O === undefined ? product_RO : tf.add<tf.Tensor2D>(product_RO, bias_O);
}

/** dx = d W, [R, O] to [R, I]. */
export function linearBack(weights: Weights, name: string, d_RO: tf.Tensor2D): tf.Tensor2D {
  return tf.matMul(d_RO, weights.get(`${name}.weight`));
}

/**
 * Layer norm: y = x^ gain + bias, x^ = (x - mean) s, s = 1 / sqrt(variance + epsilon). Without a
 * bias in the checkpoint it is an RMS norm, which does not centre: x^ = x s.
 */
export function norm(weights: Weights, name: string, x_RD: tf.Tensor2D): tf.Tensor2D {
  const gain_D = weights.get(`${name}.gain`);
  const bias_D = weights.find(`${name}.bias`);
  const { centred_RD, scale_R1 } = centre(weights, bias_D !== undefined, x_RD);
  const scaled_RD = tf.mul(tf.mul(centred_RD, scale_R1), gain_D);
  return (bias_D === undefined ? scaled_RD : tf.add(scaled_RD, bias_D)) as tf.Tensor2D;
}

/** dx = s (g - [mean g] - x^ mean(g x^)), g = d gain. The bracket applies if the norm centres. */
export function normBack(
  weights: Weights,
  name: string,
  x_RD: tf.Tensor2D,
  d_RD: tf.Tensor2D,
): tf.Tensor2D {
  const isCentred = weights.find(`${name}.bias`) !== undefined;
  const { centred_RD, scale_R1 } = centre(weights, isCentred, x_RD);
  const x = tf.mul(centred_RD, scale_R1); // [R, D]
  const g = tf.mul(d_RD, weights.get(`${name}.gain`)); // [R, D]
  const along = tf.mul(x, tf.mean(tf.mul(g, x), 1, true)); // [R, D]
  const across = isCentred ? tf.sub(g, tf.mean(g, 1, true)) : g; // [R, D]
  return tf.mul<tf.Tensor2D>(scale_R1, tf.sub(across, along));
}

function centre(weights: Weights, isCentred: boolean, x_RD: tf.Tensor2D) {
  const { normEpsilon } = weights.config;
  const centred_RD = isCentred ? tf.sub(x_RD, tf.mean(x_RD, 1, true)) : x_RD;
  const variance_R1 = tf.mean(tf.square(centred_RD), 1, true);
  return { centred_RD, scale_R1: tf.rsqrt(tf.add(variance_R1, normEpsilon)) };
}

/** Inputs of the activation. `gate_RF` is null if only `up_RF` goes through it. */
export interface MlpRecord {
  gate_RF: tf.Tensor2D | null;
  up_RF: tf.Tensor2D;
}

/** Keys of the down-projection, [R, D] to [R, F]: silu(gate) up in Llama, gelu(up) in GPT. */
export function mlpKeys(
  weights: Weights,
  block: string,
  normed_RD: tf.Tensor2D,
): MlpRecord & { keys_RF: tf.Tensor2D } {
  const up_RF = linear(weights, `${block}.up`, normed_RD);
  if (weights.config.activation !== 'silu') return { gate_RF: null, up_RF, keys_RF: gelu(up_RF) };
  const gate_RF = linear(weights, `${block}.gate`, normed_RD);
  const active_RF = tf.mul(gate_RF, tf.sigmoid(gate_RF));
  return { gate_RF, up_RF, keys_RF: tf.mul<tf.Tensor2D>(active_RF, up_RF) };
}

/** Gradient through the down-projection and the keys, [R, D] to [R, D]. */
export function mlpBack(
  weights: Weights,
  block: string,
  { gate_RF, up_RF }: MlpRecord,
  d_RD: tf.Tensor2D,
): tf.Tensor2D {
  const dKeys_RF = linearBack(weights, `${block}.down`, d_RD);
  if (gate_RF === null)
    return linearBack(weights, `${block}.up`, tf.mul(dKeys_RF, geluSlope(up_RF)));
  // silu(g) = g s and silu'(g) = s + silu(g) (1 - s), s the sigmoid of g.
  const s_RF = tf.sigmoid(gate_RF);
  const active_RF = tf.mul(gate_RF, s_RF);
  const slope_RF = tf.add(s_RF, tf.mul(active_RF, tf.sub(1, s_RF)));
  const dGate_RF = tf.mul<tf.Tensor2D>(tf.mul(dKeys_RF, up_RF), slope_RF);
  return tf.add(
    linearBack(weights, `${block}.gate`, dGate_RF),
    linearBack(weights, `${block}.up`, tf.mul(dKeys_RF, active_RF)),
  );
}

/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
function gelu(x: tf.Tensor2D): tf.Tensor2D {
  const inner = tf.mul(
    tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715)),
    Math.sqrt(2 / Math.PI),
  );
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

/** 0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3 a x^2), t = tanh(c (x + a x^3)). */
function geluSlope(x: tf.Tensor2D): tf.Tensor2D {
  const [c, a] = [Math.sqrt(2 / Math.PI), 0.044715];
  const square = tf.square(x);
  const t = tf.tanh(tf.mul(tf.mul(x, tf.add(1, tf.mul(square, a))), c));
  const inner = tf.mul(tf.add(1, tf.mul(square, 3 * a)), c);
  return tf.mul(0.5, tf.add(tf.add(1, t), tf.mul(tf.mul(x, tf.sub(1, tf.square(t))), inner)));
}
