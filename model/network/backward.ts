/**
 * The way back through recorded blocks: the gradient of a loss with respect to the hidden states
 * that a run began with. No weight's gradient is ever wanted here, so much of what a tape keeps and
 * computes is not: 3,300 kernel calls a step instead of 4,400 with SmolLM2-135M, and nothing held
 * but the record. Held against the tape in test/model/network/backward.test.ts.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { TokenRows } from './token-rows.ts';
import type { AttentionGeometry, BlockRecord, RunRecord, Transformer } from './transformer.ts';

/**
 * d loss / d (the run's input) [R, D], from d loss / d (its output) [R, D]. The caller owns the
 * result and still owns the record.
 */
export function backThrough(
  model: Transformer,
  record: RunRecord,
  rows: TokenRows,
  gradient_RD: tf.Tensor2D,
): tf.Tensor2D {
  let gradient = tf.clone(gradient_RD);
  for (const block of record.blocks.toReversed()) {
    const next = tf.tidy(() => backBlock(model, block, rows, record.geometry!, gradient));
    gradient.dispose();
    gradient = next;
  }
  return gradient;
}

function backBlock(
  model: Transformer,
  block: BlockRecord,
  rows: TokenRows,
  geometry: AttentionGeometry,
  gradient_RD: tf.Tensor2D,
): tf.Tensor2D {
  const name = `blocks.${block.layer}`;
  const normedByMlp = backMlp(model, name, block, gradient_RD);
  if (model.config.architecture === 'gptj') {
    const normed = tf.add<tf.Tensor2D>(
      normedByMlp,
      backAttention(model, name, block, rows, geometry, gradient_RD),
    );
    return tf.add(gradient_RD, backNorm(model, `${name}.norm1`, block.hidden_RD, normed));
  }
  const middle = tf.add<tf.Tensor2D>(
    gradient_RD,
    backNorm(model, `${name}.norm2`, block.middle_RD, normedByMlp),
  );
  return tf.add(
    middle,
    backNorm(
      model,
      `${name}.norm1`,
      block.hidden_RD,
      backAttention(model, name, block, rows, geometry, middle),
    ),
  );
}

/** y = x W^T */
function backLinear(model: Transformer, name: string, gradient: tf.Tensor2D): tf.Tensor2D {
  return tf.matMul(gradient, model.weight(`${name}.weight`));
}

function backMlp(
  model: Transformer,
  name: string,
  { gate_RF, up_RF }: BlockRecord,
  gradient_RD: tf.Tensor2D,
): tf.Tensor2D {
  const keys_RF = backLinear(model, `${name}.down`, gradient_RD);
  if (gate_RF === null) return backLinear(model, `${name}.up`, tf.mul(keys_RF, geluSlope(up_RF)));
  // silu(g) = g s, silu'(g) = s + silu(g) (1 - s), s the sigmoid.
  const s = tf.sigmoid(gate_RF);
  const active = tf.mul(gate_RF, s);
  const slope = tf.add(s, tf.mul(active, tf.sub(1, s)));
  const gate = tf.mul<tf.Tensor2D>(tf.mul(keys_RF, up_RF), slope);
  return tf.add(
    backLinear(model, `${name}.gate`, gate),
    backLinear(model, `${name}.up`, tf.mul(keys_RF, active)),
  );
}

/** Of 0.5 x (1 + tanh(u)), u = c (x + a x^3): 0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3 a x^2). */
function geluSlope(x: tf.Tensor2D): tf.Tensor2D {
  const [c, a] = [Math.sqrt(2 / Math.PI), 0.044715];
  const square = tf.square(x);
  const t = tf.tanh(tf.mul(tf.mul(x, tf.add(1, tf.mul(square, a))), c));
  const inner = tf.mul(tf.add(1, tf.mul(square, 3 * a)), c);
  return tf.mul(0.5, tf.add(tf.add(1, t), tf.mul(tf.mul(x, tf.sub(1, tf.square(t))), inner)));
}

/**
 * x^ = (x - mean) s or x s, y = x^ gain: dx = s (g - [mean g] - x^ mean(g x^)), g = dy gain; the
 * bracket where the norm centres.
 */
function backNorm(
  model: Transformer,
  name: string,
  x_RD: tf.Tensor2D,
  gradient_RD: tf.Tensor2D,
): tf.Tensor2D {
  const isCentred = model.hasWeight(`${name}.bias`);
  const centred = isCentred ? tf.sub(x_RD, tf.mean(x_RD, 1, true)) : x_RD;
  const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), model.config.normEpsilon));
  const x = tf.mul(centred, scale);
  const g = tf.mul(gradient_RD, model.weight(`${name}.gain`));
  const along = tf.mul(x, tf.mean(tf.mul(g, x), 1, true));
  return tf.mul<tf.Tensor2D>(scale, tf.sub(isCentred ? tf.sub(g, tf.mean(g, 1, true)) : g, along));
}

function backAttention(
  model: Transformer,
  name: string,
  { query, key, value, weights }: BlockRecord,
  rows: TokenRows,
  geometry: AttentionGeometry,
  gradient_RD: tf.Tensor2D,
): tf.Tensor2D {
  const { heads: H, keyValueHeads: K, headWidth: d } = model.config;
  const G = H / K;
  const { sequences: B, longest: T } = rows;
  const S = geometry.keysLong;
  // The fillers' outputs were dropped: nothing comes back from them.
  const mixed = geometry.padZeros(backLinear(model, `${name}.output`, gradient_RD));
  const mixed_BKGTd = tf.reshape(
    tf.transpose(tf.reshape(mixed, [B, T, K, G, d]), [0, 2, 3, 1, 4]),
    [B, K, G * T, d],
  );
  const byWeights = tf.matMul(mixed_BKGTd, value, false, true);
  const shared = tf.sum(tf.mul(byWeights, weights), 3, true);
  const scores = tf.mul<tf.Tensor4D>(weights, tf.sub(byWeights, shared));
  const query_BKGTd = tf.mul(tf.matMul(scores, key), 1 / Math.sqrt(d));
  const newKeys = (x_BKSd: tf.Tensor): tf.Tensor2D =>
    geometry.unpad(
      tf.reshape(tf.transpose(tf.slice(x_BKSd, [0, 0, S - T, 0], [B, K, T, d]), [0, 2, 1, 3]), [
        B * T,
        K * d,
      ]),
    );
  const key_RKd = newKeys(tf.matMul(scores, query, true, false));
  const value_RKd = newKeys(tf.matMul(weights, mixed_BKGTd, true, false));
  const query_RHd = geometry.unpad(
    tf.reshape(tf.transpose(tf.reshape(query_BKGTd, [B, K, G, T, d]), [0, 3, 1, 2, 4]), [
      B * T,
      H * d,
    ]),
  );
  return tf.addN([
    backLinear(model, `${name}.query`, model.rotate(query_RHd, H, geometry, 'back')),
    backLinear(model, `${name}.key`, model.rotate(key_RKd, K, geometry, 'back')),
    backLinear(model, `${name}.value`, value_RKd),
  ]);
}
