import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findTargets } from '../../model/editing/targets.ts';
import type { Hook } from '../../model/hook/hook.ts';
import { changeOf, openRows } from '../../model/hook/layer-hook.ts';
import { takeReaches } from '../../model/hook/pair-rows.ts';
import { locate, type EditSequence } from '../../model/network/sequences.ts';
import { layOutRows, type TokenRows } from '../../model/network/token-rows.ts';
import type { DownHook, Transformer } from '../../model/network/transformer.ts';
import type { Prior } from '../../model/statistics/prior.ts';
import { download64, multiply64, scope64 } from '../../model/tensor/float64.ts';
import { largestDifference } from '../golden/read-golden.ts';
import { batches, contexts, front, probes, Twin } from './comeba-world.ts';

/**
 * Tolerances as shares of the largest entry: float32 in our code, float64 in the twin. Seen: 5e-6
 * at most.
 */
const TOLERANCE = {
  /** Twenty Adam steps, each divided by the root of a small second moment. */
  target: 1e-4,
  key: 1e-5,
  residual: 1e-4,
  change: 1e-4,
  moment: 1e-5,
  size: 1e-4,
  logits: 1e-4,
};
/**
 * Absolute tolerance, for z-scores between -4 and 4 and for alpha, which is lower by 1e-5 of itself
 * in our code (reach.ts).
 */
const SCORE_TOLERANCE = 2e-4;

describe.each(['llama', 'gpt2', 'gptj'])('editing a tiny %s like the PyTorch twin', (name) => {
  let twin: Twin;
  beforeAll(async () => {
    twin = await Twin.open(name);
  });
  afterAll(() => twin.close());

  it.each([0, 1, 2])('finds the same targets for batch %d in one pass', async (b) => {
    const { checkpoint, model, parameters, written } = twin;
    const { tokenizer } = checkpoint;
    const hook = b === 0 ? null : twin.build(written[b - 1]!.all);
    const found = await findTargets(batches[b]!, {
      model,
      tokenizer,
      hook: hook === null ? null : openAtSubjects(hook, subjectPositions(batches[b]!, tokenizer)),
      parameters,
      front,
      contexts,
    });
    hook?.dispose();
    expect(found.steps).toEqual([...twin.numbers(`batch.${b}.updates`)]);
    expect(share(found.values, twin.numbers(`batch.${b}.z`))).toBeLessThan(TOLERANCE.target);
  });

  it.each([0, 1, 2])('writes the same keys, residuals, change and key moment for batch %d', (b) => {
    const { written, parameters, priors, D } = twin;
    const before = b === 0 ? null : twin.build(written[b - 1]!.all);
    const after = twin.build(written[b]!.all);
    for (const [i, layer] of parameters.layers.entries()) {
      const golden = (what: string) => twin.numbers(`batch.${b}.layer.${layer}.${what}`);
      const { batch, all } = written[b]!;
      expect(share(batch.keys[i]!, golden('keys')), `keys of block ${layer}`).toBeLessThan(
        TOLERANCE.key,
      );

      const had = before === null ? null : changes(before, layer, batch.keys[i]!);
      const wanted = takeReaches(batch.changes[i]!, batch.count, D).changes;
      const residual = wanted.map((value, at) => value - (had?.[at] ?? 0));
      expect(share(residual, golden('residual')), `residuals of block ${layer}`).toBeLessThan(
        TOLERANCE.residual,
      );

      const whole = denseChange(after, layer);
      const earlier = before === null ? null : denseChange(before, layer);
      const delta = whole.map((value, at) => value - (earlier?.[at] ?? 0));
      expect(share(delta, golden('delta')), `Delta of block ${layer}`).toBeLessThan(
        TOLERANCE.change,
      );

      const A = keyMoment(priors.get(layer)!, all.keys[i]!);
      expect(share(A, golden('moment')), `A of block ${layer}`).toBeLessThan(TOLERANCE.moment);
    }
    before?.dispose();
    after.dispose();
  });
});

describe.each(['llama', 'gpt2', 'gptj'])('the gates of a tiny %s and of the twin', (name) => {
  let twin: Twin;
  beforeAll(async () => {
    twin = await Twin.open(name);
  });
  afterAll(() => twin.close());

  describe.each([
    // Our hooks, in which the first position never opens, and those of the twin's own run with
    // the paper's gate, in which it may.
    ['subjects', 'shut'],
    ['paper', 'free'],
  ] as const)('over the hooks of its run with %s, first position %s,', (run, first) => {
    const pairsOf = (b: number) =>
      run === 'subjects' ? twin.written[b]!.all : twin.readPairs(b, run);

    it('lower alpha to the same numbers', () => {
      for (const b of batches.keys()) {
        const hook = twin.build(pairsOf(b));
        hook.report.layers.forEach(({ layer, threshold }) => {
          const wanted = twin.numbers(`batch.${b}.layer.${layer}.alpha`, run)[0]!;
          expect(Math.abs(threshold - wanted), `batch ${b}, block ${layer}`).toBeLessThan(
            SCORE_TOLERANCE,
          );
        });
        hook.dispose();
      }
    });

    it('open on the same tokens with the same scores and logits', () => {
      let opened = 0;
      for (const b of batches.keys()) {
        const pairs = pairsOf(b);
        const [hook, wide] = [twin.build(pairs), twin.build(pairs, -1e9)];
        for (const [p, tokens] of probes.entries()) {
          const looked = look(twin.model, { hook, wide }, tokens, first === 'free');
          const at = `batch.${b}.probe.${p}`;
          for (const [layer, seen] of looked.layers) {
            const golden = (what: string) => twin.numbers(`${at}.layer.${layer}.${what}`, run);
            const where = `${at}, block ${layer}`;
            expect(share(seen.sizes, golden('size')), where).toBeLessThan(TOLERANCE.size);
            expect(largestDifference(seen.scores, golden('score')), where).toBeLessThan(
              SCORE_TOLERANCE,
            );
            expect([...seen.opened], where).toEqual([...golden('open')]);
            opened += seen.opened.reduce((sum, open) => sum + open, 0);
          }
          expect(share(looked.logits, twin.numbers(`${at}.logits`, run)), at).toBeLessThan(
            TOLERANCE.logits,
          );
        }
        hook.dispose();
        wide.dispose();
      }
      expect(opened).toBeGreaterThan(20);
    });
  });
});

/** Largest difference as a share of the largest wanted entry. */
function share(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  return (
    largestDifference(found, wanted) / largestDifference(wanted, new Float32Array(wanted.length))
  );
}

/** The position of the subject's last token in every sequence of the target search, in order. */
function subjectPositions(
  edits: readonly EditSequence[],
  tokenizer: Parameters<typeof locate>[0],
): number[] {
  return edits.flatMap(({ bare, behind, subject }) => [
    front.length + bare.subjectLast,
    ...contexts.map((context) => front.length + context.length + behind.subjectLast),
    front.length + locate(tokenizer, `${subject} is a`, 0, subject.length).subjectLast,
  ]);
}

/**
 * Opens at the subjects' last tokens and nowhere else, in any division of the sequences into
 * passes.
 */
function openAtSubjects(hook: Hook, subjectAt: readonly number[]): DownHook {
  return {
    layers: hook.layers,
    project({ layer, keys_RF, base_RD, rows }) {
      const opened = new Uint8Array(rows.count);
      // The shared prefixes run as fewer sequences; they contain no subject.
      if (rows.sequences === subjectAt.length) {
        for (let b = 0; b < rows.sequences; b++)
          for (let row = rows.starts[b]!; row < rows.starts[b + 1]!; row++)
            if (rows.positions[row] === subjectAt[b]) opened[row] = 1;
      }
      return openRows(base_RD, opened, (open) =>
        changeOf(hook.blocks.get(layer)!, tf.gather(keys_RF, open)),
      );
    },
  };
}

interface Looked {
  sizes: Float32Array;
  scores: Float32Array;
  opened: Uint8Array;
}

/**
 * One unpadded sequence behind the hook; `wide` is the same hook open everywhere, for its scores
 * alone.
 */
function look(
  model: Transformer,
  { hook, wide }: { hook: Hook; wide: Hook },
  tokens: readonly number[],
  firstMayOpen: boolean,
): { layers: Map<number, Looked>; logits: Float32Array } {
  const layers = new Map<number, Looked>();
  const rows = layOutRows([tokens]);
  // No gate opens at position 0; with shifted positions it may.
  const asked: TokenRows = firstMayOpen
    ? { ...rows, positions: rows.positions.map((position) => position + 1) }
    : rows;
  const watching: DownHook = {
    layers: hook.layers,
    project({ layer, keys_RF, base_RD, past }) {
      const sizes = tf
        .norm(changeOf(hook.blocks.get(layer)!, keys_RF), 'euclidean', 1)
        .dataSync()
        .slice();
      const seen: Looked = {
        sizes: sizes as Float32Array,
        scores: new Float32Array(0),
        opened: new Uint8Array(tokens.length),
      };
      layers.set(layer, seen);
      wide.openObserver = (_, __, scores) => (seen.scores = scores.slice());
      wide.project({ layer, keys_RF, base_RD, rows: asked, past });
      hook.openObserver = (_, opened) => (seen.opened = opened.slice());
      return hook.project({ layer, keys_RF, base_RD, rows: asked, past });
    },
  };
  const logits = tf.tidy(() => {
    const { hidden } = model.run(
      model.embed(rows),
      rows,
      { from: 0, to: model.config.layers },
      { hook: watching },
    );
    return model
      .logits(hidden, [tokens.length - 1])
      .dataSync()
      .slice() as Float32Array;
  });
  return { layers, logits };
}

/** (W_h - W0) k of keys [R, F], row-major. */
function changes(hook: Hook, layer: number, keys: Float32Array): Float32Array {
  const block = hook.blocks.get(layer)!;
  const F = block.prior.lower.rows;
  return tf.tidy(
    () =>
      changeOf(block, tf.tensor2d(keys, [keys.length / F, F]))
        .dataSync()
        .slice() as Float32Array,
  );
}

/** W_h - W0, [D, F]. */
function denseChange(hook: Hook, layer: number): Float32Array {
  const block = hook.blocks.get(layer)!;
  return tf.tidy(
    () =>
      tf
        .transpose(changeOf(block, tf.eye(block.prior.lower.rows)))
        .dataSync()
        .slice() as Float32Array,
  );
}

/** A = A0 + K^T K of the pairs' keys, [F, F]. */
function keyMoment({ lower }: Prior, keys: Float32Array): Float64Array {
  const F = lower.rows;
  const A = scope64(() => Float64Array.from(download64(multiply64(lower, lower, false, true))));
  for (let row = 0; row < keys.length; row += F)
    for (let i = 0; i < F; i++)
      for (let j = 0; j < F; j++) A[i * F + j]! += keys[row + i]! * keys[row + j]!;
  return A;
}
