/**
 * Rotary position embedding (arXiv 2104.09864) as tables: the rotation of a head vector x at
 * position p is x * cos(p) + (x M) * sin(p), with M the signed permutation that swaps the two
 * channels of each pair. One form for the half-split pairing (Llama), the interleaved one (GPT-J)
 * and rotations of part of a head.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { RotaryConfig } from '../checkpoint/checkpoint.ts';

export interface RotaryTable {
  /** M [d, d]; owned by the table. */
  turn(): tf.Tensor2D;
  /** cos and sin [R, 1, d] at the positions; the caller owns them. */
  at(positions: Int32Array): [tf.Tensor3D, tf.Tensor3D];
  upload(): void;
  dispose(): void;
}

export function rotaryTable(config: RotaryConfig, headWidth: number): RotaryTable {
  const half = config.width / 2;
  const first = (pair: number) => (config.interleaved ? 2 * pair : pair);
  const second = (pair: number) => (config.interleaved ? 2 * pair + 1 : pair + half);
  const frequencies = Array.from({ length: half }, (_, pair) => frequency(config, pair));

  const turnValues = new Float32Array(headWidth * headWidth);
  for (let pair = 0; pair < half; pair++) {
    // (a, b) -> (-b, a): column a takes -b, column b takes a.
    turnValues[second(pair) * headWidth + first(pair)] = -1;
    turnValues[first(pair) * headWidth + second(pair)] = 1;
  }
  let turn: tf.Tensor2D | null = null;
  const upload = () => (turn ??= tf.keep(tf.tensor2d(turnValues, [headWidth, headWidth])));
  return {
    upload,
    turn: upload,
    at(positions) {
      const cos = new Float32Array(positions.length * headWidth).fill(1);
      const sin = new Float32Array(positions.length * headWidth);
      positions.forEach((position, row) => {
        for (let pair = 0; pair < half; pair++) {
          const angle = position * frequencies[pair]!;
          for (const channel of [first(pair), second(pair)]) {
            cos[row * headWidth + channel] = Math.cos(angle);
            sin[row * headWidth + channel] = Math.sin(angle);
          }
        }
      });
      const shape: [number, number, number] = [positions.length, 1, headWidth];
      return [tf.tensor3d(cos, shape), tf.tensor3d(sin, shape)];
    },
    dispose() {
      turn?.dispose();
      turn = null;
    },
  };
}

/** theta^(-2 i / width), stretched for Llama 3's long contexts as its configuration says. */
function frequency(config: RotaryConfig, pair: number): number {
  const plain = config.theta ** ((-2 * pair) / config.width);
  const scaling = config.scaling;
  if (scaling === null) return plain;
  const wavelength = (2 * Math.PI) / plain;
  const longest = scaling.originalContext / scaling.lowFrequency;
  const shortest = scaling.originalContext / scaling.highFrequency;
  if (wavelength < shortest) return plain;
  if (wavelength > longest) return plain / scaling.factor;
  const blend =
    (scaling.originalContext / wavelength - scaling.lowFrequency) /
    (scaling.highFrequency - scaling.lowFrequency);
  return ((1 - blend) * plain) / scaling.factor + blend * plain;
}
