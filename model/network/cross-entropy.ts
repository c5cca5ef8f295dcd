/**
 * Cross-entropy over the vocabulary against single tokens and whole distributions, with its own
 * gradient. The tape would keep half a dozen [N, V] tensors; the closed form (softmax - wanted) W
 * needs one.
 */
import * as tf from '@tensorflow/tfjs-core';

/**
 * Loss of each row, [N]: -log p(token) for the first rows and KL(q || p) for the last ones, where p
 * = softmax(normed W^T + bias), W [V, D], normed [N, D].
 */
export function crossEntropy(
  head_VD: tf.Tensor2D,
  normed_ND: tf.Tensor2D,
  bias_V: tf.Tensor1D | null,
  wanted: { tokens: readonly number[]; distributions: tf.Tensor2D | null },
): tf.Tensor1D {
  const tokens = tf.tensor1d(Int32Array.from(wanted.tokens), 'int32');
  const q = wanted.distributions;
  const apply = tf.customGrad((x, save) => {
    const normed = x as tf.Tensor2D;
    const product_NV = tf.matMul<tf.Tensor2D>(normed, head_VD, false, true);
    const logits_NV = bias_V === null ? product_NV : tf.add<tf.Tensor2D>(product_NV, bias_V);
    const peak = tf.max(logits_NV, 1, true);
    const exps = tf.exp(tf.sub(logits_NV, peak));
    const total = tf.sum(exps, 1, true);
    const logTotal = tf.reshape(tf.add(tf.log(total), peak), [normed.shape[0]]);
    const probabilities = tf.div(exps, total);
    // <normed, W_target> picks the wanted logit without an [N, V] mask.
    const wantedHead = tf.gather(head_VD, tokens);
    const wantedLogits: tf.Tensor1D = tf.sum(
      tf.mul(tf.slice(normed, [0, 0], [wanted.tokens.length, -1]), wantedHead),
      1,
    );
    const picked: tf.Tensor1D[] = [
      bias_V === null ? wantedLogits : tf.add(wantedLogits, tf.gather(bias_V, tokens)),
    ];
    if (q !== null) {
      const soft = tf.slice(logits_NV, [wanted.tokens.length, 0]);
      const entropy = tf.sum(tf.mul(q, tf.log(tf.maximum(q, 1e-30))), 1);
      picked.push(tf.sub(tf.sum(tf.mul(q, soft), 1), entropy));
    }
    const loss = tf.sub(logTotal, tf.concat(picked));
    (save as tf.GradSaveFunc)([probabilities, wantedHead]);
    return {
      value: loss,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [p, wantedRows] = saved as [tf.Tensor2D, tf.Tensor2D];
        const push: tf.Tensor2D[] = [
          tf.sub(tf.matMul(tf.slice(p, [0, 0], [wanted.tokens.length, -1]), head_VD), wantedRows),
        ];
        if (q !== null)
          push.push(tf.matMul(tf.sub(tf.slice(p, [wanted.tokens.length, 0]), q), head_VD));
        return tf.mul(tf.reshape(dy, [-1, 1]), tf.concat(push));
      },
    };
  });
  return apply(normed_ND) as tf.Tensor1D;
}
