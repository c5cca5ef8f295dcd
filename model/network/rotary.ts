/**
 * Rotary position embedding (arXiv 2104.09864) as tables. A head vector x at position p becomes x
 * cos(p) + (x M) sin(p), where M is the signed permutation that swaps the two channels of each
 * pair. This form covers the half-split pairing (Llama), the interleaved pairing (GPT-J) and the
 * rotation of part of a head.
 */
import * as tf from '@tensorflow/tfjs-core';
import { rotaryFrequency, type RotaryConfig } from '../checkpoint/model-config.ts';

export class RotaryTable {
  /** [pairs, 2] channels that rotate together. */
  readonly #pairs: [number, number][];
  readonly #frequencies: number[];
  /** M [d, d] */
  readonly #turn: tf.Tensor2D;

  constructor(
    config: RotaryConfig,
    private readonly headWidth: number,
  ) {
    const half = config.width / 2;
    this.#pairs = Array.from({ length: half }, (_, pair) =>
      config.interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + half],
    );
    this.#frequencies = this.#pairs.map((_, pair) => rotaryFrequency(config, pair));
    const turn = new Float32Array(headWidth * headWidth);
    for (const [first, second] of this.#pairs) {
      // (a, b) -> (-b, a): column a takes -b, column b takes a.
      turn[second * headWidth + first] = -1;
      turn[first * headWidth + second] = 1;
    }
    this.#turn = tf.keep(tf.tensor2d(turn, [headWidth, headWidth]));
  }

  /** Returns cos and sin [R, 1, d] at the positions. The caller owns them. */
  at(positions: Int32Array): [tf.Tensor3D, tf.Tensor3D] {
    const d = this.headWidth;
    const cos = new Float32Array(positions.length * d).fill(1);
    const sin = new Float32Array(positions.length * d);
    positions.forEach((position, row) => {
      this.#pairs.forEach((channels, pair) => {
        const angle = position * this.#frequencies[pair]!;
        for (const channel of channels) {
          cos[row * d + channel] = Math.cos(angle);
          sin[row * d + channel] = Math.sin(angle);
        }
      });
    });
    const shape: [number, number, number] = [positions.length, 1, d];
    return [tf.tensor3d(cos, shape), tf.tensor3d(sin, shape)];
  }

  /** x cos + (x M) sin for x [R, heads d]; the inverse uses - sin. */
  rotate(
    x_RHd: tf.Tensor2D,
    heads: number,
    by: { cos_R1d: tf.Tensor3D; sin_R1d: tf.Tensor3D; direction: 'on' | 'back' },
  ): tf.Tensor2D {
    const d = this.headWidth;
    const R = x_RHd.shape[0];
    const straight = tf.reshape(x_RHd, [R, heads, d]);
    const product = tf.matMul(tf.reshape(x_RHd, [R * heads, d]), this.#turn);
    const turned = tf.reshape(product, [R, heads, d]);
    const combine = by.direction === 'on' ? tf.add : tf.sub;
    return tf.reshape(combine(tf.mul(straight, by.cos_R1d), tf.mul(turned, by.sin_R1d)), [
      R,
      heads * d,
    ]);
  }

  dispose(): void {
    this.#turn.dispose();
  }
}
