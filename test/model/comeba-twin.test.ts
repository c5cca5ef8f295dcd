import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/config/home.ts';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint/checkpoint.ts';
import type { PairSet } from '../../model/engine-types.ts';
import { download64, multiply64, scope64, widen64 } from '../../model/tensor/float64.ts';
import { Hook } from '../../model/hook/hook.ts';
import { changeOf, openRows } from '../../model/hook/layer-hook.ts';
import type { KeyStatistics } from '../../model/statistics/key-statistics.ts';
import { takeReaches, withReaches } from '../../model/hook/pair-rows.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/statistics/prior.ts';
import { reachesOf } from '../../model/editing/reach.ts';
import type { EditSequence, LocatedPrompt } from '../../model/network/sequences.ts';
import { locate } from '../../model/network/sequences.ts';
import { findTargets } from '../../model/editing/targets.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import { layOutRows, type TokenRows } from '../../model/network/token-rows.ts';
import { type DownHook, Transformer } from '../../model/network/transformer.ts';
import { derivePairs } from '../../model/editing/update.ts';
import type { GateParameters, HyperParameters } from '../../schemas/editing.ts';
import {
  goldenPath,
  largestDifference,
  readGoldenJson,
  readGoldenTensors,
} from '../golden/read-golden.ts';

interface Located {
  tokens: number[];
  subjectLast: number;
}

interface TwinInput {
  parameters: {
    layers: number[];
    lambda: number;
    updatesMax: number;
    learningRate: number;
    klFactor: number;
    weightDecay: number;
    clamp: number;
    lossTarget: number;
    alpha: number;
  };
  front: number[];
  contexts: number[][];
  batches: {
    subject: string;
    prompt: string;
    targetTokens: number[];
    bare: Located;
    behind: Located;
  }[][];
  probes: number[][];
}

/** Each is a share of the largest entry: float32 here, float64 there. Seen: 5e-6 at most. */
const TOLERANCE = {
  /** Twenty Adam steps, each of which divides by the root of a small second moment. */
  target: 1e-4,
  key: 1e-5,
  residual: 1e-4,
  change: 1e-4,
  moment: 1e-5,
  size: 1e-4,
  logits: 1e-4,
};
/**
 * Absolute, of z-scores between -4 and 4, and of alpha, which lies 1e-5 of itself lower here
 * (reach.ts).
 */
const SCORE_TOLERANCE = 2e-4;

const input = readGoldenJson<TwinInput>('comeba', 'input.json');
const { front, contexts, probes } = input;
const { alpha } = input.parameters;
const batches = input.batches.map((batch): EditSequence[] =>
  batch.map(({ subject, prompt, bare, behind, targetTokens }) => ({
    id: prompt,
    subject,
    bare: onlyLast(bare),
    behind: onlyLast(behind),
    target: targetTokens,
    spellings: [],
  })),
);

beforeAll(() => {
  loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
});

describe.each(['llama', 'gpt2', 'gptj'])('editing a tiny %s as the PyTorch twin does', (name) => {
  const twins = {
    subjects: readGoldenTensors('comeba', `${name}-subjects.safetensors`),
    paper: readGoldenTensors('comeba', `${name}-paper.safetensors`),
  };
  const numbers = (key: string, twin: keyof typeof twins = 'subjects') =>
    twins[twin].get(key)!.values as Float32Array;
  let checkpoint: Checkpoint;
  let model: Transformer;
  let parameters: HyperParameters;
  let priors: Map<number, Prior>;
  let D: number;
  let F: number;
  /** Ours after each batch, written over the twin's targets. */
  const written: { batch: PairSet; all: PairSet }[] = [];

  const sequenceGate = (floor: number): GateParameters => ({
    kind: 'sequence',
    map: 'joint',
    floor,
  });
  const build = (pairs: PairSet, floor = alpha) => Hook.build(pairs, priors, sequenceGate(floor));

  beforeAll(async () => {
    checkpoint = await openCheckpoint(goldenPath('tiny', name));
    model = await Transformer.load(checkpoint);
    ({ residualWidth: D, mlpWidth: F } = model.config);
    const { layers, lambda, updatesMax, learningRate, klFactor, weightDecay, clamp, lossTarget } =
      input.parameters;
    const many = contexts.length;
    parameters = parametersFor(model.config, {
      layers,
      lambda,
      stepsMax: updatesMax,
      learningRate,
      klFactor,
      weightDecay,
      clamp,
      lossTarget,
      contexts: many,
      contextsPerStep: many,
    });
    const moments = new Map(
      layers.map((layer) => {
        const moment = tf.tensor2d(numbers(`moment0.${layer}`), [F, F]);
        const wide = widen64(moment);
        moment.dispose();
        return [layer, wide];
      }),
    );
    priors = buildPriors(model, { moments } as unknown as KeyStatistics, parameters);
    for (const [b, batch] of batches.entries()) {
      const pairs = written.at(-1)?.all ?? null;
      const hook = pairs === null ? null : build(pairs);
      const derived = await derivePairs(batch, numbers(`batch.${b}.z`), {
        model,
        priors,
        hook,
        pairs,
        front,
        contexts,
        gate: sequenceGate(alpha),
      });
      hook?.dispose();
      written.push({
        batch: derived.pairs,
        all: pairs === null ? derived.pairs : joinPairs(pairs, derived.pairs),
      });
    }
  });
  afterAll(async () => {
    disposePriors(priors);
    model.dispose();
    await checkpoint.close();
  });

  it.each([0, 1, 2])('finds the same targets for batch %d, all at once', async (b) => {
    const { tokenizer } = checkpoint;
    const hook = b === 0 ? null : build(written[b - 1]!.all);
    const found = await findTargets(batches[b]!, {
      model,
      tokenizer,
      hook: hook === null ? null : openAtSubjects(hook, subjectPositions(batches[b]!, tokenizer)),
      parameters,
      front,
      contexts,
    });
    hook?.dispose();
    expect(found.steps).toEqual([...numbers(`batch.${b}.updates`)]);
    expect(share(found.values, numbers(`batch.${b}.z`))).toBeLessThan(TOLERANCE.target);
  });

  it.each([0, 1, 2])('writes the same keys, residuals, change and key moment for batch %d', (b) => {
    const before = b === 0 ? null : build(written[b - 1]!.all);
    const after = build(written[b]!.all);
    for (const [i, layer] of parameters.layers.entries()) {
      const golden = (what: string) => numbers(`batch.${b}.layer.${layer}.${what}`);
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

  describe.each([
    // The hooks as written here, in which the first position never opens; and those of the twin's
    // own run with the paper's gate, in which it may.
    ['subjects', 'shut'],
    ['paper', 'free'],
  ] as const)('over the hooks of its run with %s, first position %s,', (twin, first) => {
    const pairsOf = (b: number) =>
      twin === 'subjects' ? written[b]!.all : readPairs(b, (key) => numbers(key, twin));

    it('lowers alpha to the same numbers', () => {
      for (const b of batches.keys()) {
        const hook = build(pairsOf(b));
        hook.report.layers.forEach(({ layer, threshold }) => {
          const wanted = numbers(`batch.${b}.layer.${layer}.alpha`, twin)[0]!;
          expect(Math.abs(threshold - wanted), `batch ${b}, block ${layer}`).toBeLessThan(
            SCORE_TOLERANCE,
          );
        });
        hook.dispose();
      }
    });

    it('opens the sequence gate on the same tokens, for the same scores, and says the same', () => {
      let opened = 0;
      for (const b of batches.keys()) {
        const pairs = pairsOf(b);
        const [hook, wide] = [build(pairs), build(pairs, -1e9)];
        for (const [p, tokens] of probes.entries()) {
          const looked = look(model, hook, wide, tokens, first === 'free');
          const at = `batch.${b}.probe.${p}`;
          for (const [layer, seen] of looked.layers) {
            const golden = (what: string) => numbers(`${at}.layer.${layer}.${what}`, twin);
            const where = `${at}, block ${layer}`;
            expect(share(seen.sizes, golden('size')), where).toBeLessThan(TOLERANCE.size);
            expect(largestDifference(seen.scores, golden('score')), where).toBeLessThan(
              SCORE_TOLERANCE,
            );
            expect([...seen.opened], where).toEqual([...golden('open')]);
            opened += seen.opened.reduce((sum, open) => sum + open, 0);
          }
          expect(share(looked.logits, numbers(`${at}.logits`, twin)), at).toBeLessThan(
            TOLERANCE.logits,
          );
        }
        hook.dispose();
        wide.dispose();
      }
      expect(opened).toBeGreaterThan(20);
    });
  });

  /**
   * The pairs of a run's batches 0..b: u = (W_h - W0) k + r, with the reaches that this project
   * takes over them.
   */
  function readPairs(b: number, golden: (key: string) => Float32Array): PairSet {
    const { layers } = parameters;
    const sums = layers.map(() => new Float32Array(D * F));
    let all: PairSet | null = null;
    for (let at = 0; at <= b; at++) {
      const batch: PairSet = {
        layers,
        count: batches[at]!.length,
        subjects: batches[at]!.map(({ subject }) => subject),
        spellings: batches[at]!.map(({ spellings }) => spellings),
        keyWidth: F,
        valueWidth: D,
        keys: [],
        changes: [],
      };
      layers.forEach((layer, i) => {
        const keys = golden(`batch.${at}.layer.${layer}.keys`);
        batch.keys.push(keys);
        batch.changes.push(
          wantedChanges(sums[i]!, keys, golden(`batch.${at}.layer.${layer}.residual`), D, F),
        );
        golden(`batch.${at}.layer.${layer}.delta`).forEach((step, j) => (sums[i]![j]! += step));
      });
      const plain: PairSet = all === null ? batch : joinPairs(withoutReaches(all, D), batch);
      const hook = build(plain);
      const reaches = reachesOf(model, batches[at]!, hook.blocks, front);
      hook.dispose();
      const reached = {
        ...batch,
        valueWidth: D + 1,
        changes: batch.changes.map((rows, i) => withReaches(rows, reaches[i]!)),
      };
      all = all === null ? reached : joinPairs(all, reached);
    }
    return all!;
  }
});

/** Neither where a subject begins nor how it is spelt is asked behind the paper's gate. */
function onlyLast({ tokens, subjectLast }: Located): LocatedPrompt {
  return { tokens, subjectFirst: subjectLast, subjectLast };
}

/** Largest difference as a share of the largest wanted entry. */
function share(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  return (
    largestDifference(found, wanted) / largestDifference(wanted, new Float32Array(wanted.length))
  );
}

/**
 * The position of the subject's last token in every sequence that the search for targets lays out,
 * in its order.
 */
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
 * Opens at the subjects' last tokens and nowhere else, whichever way the sequences are cut into
 * passes.
 */
function openAtSubjects(hook: Hook, subjectAt: readonly number[]): DownHook {
  return {
    layers: hook.layers,
    project({ layer, keys_RF, base_RD, rows }) {
      const opened = new Uint8Array(rows.count);
      // The shared prefixes are run as fewer sequences; no subject is in them.
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
 * One unpadded sequence behind the hook; `wide` is the same hook, open everywhere, asked for its
 * scores alone.
 */
function look(
  model: Transformer,
  hook: Hook,
  wide: Hook,
  tokens: readonly number[],
  firstMayOpen: boolean,
): { layers: Map<number, Looked>; logits: Float32Array } {
  const layers = new Map<number, Looked>();
  const rows = layOutRows([tokens]);
  // No gate opens at position 0; told that the tokens stand one further on, it may.
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

/** u = (W_h - W0) k + r for each row; the change is [D, F]. */
function wantedChanges(
  change: Float32Array,
  keys: Float32Array,
  residual: Float32Array,
  D: number,
  F: number,
): Float32Array {
  return Float32Array.from(residual, (r, at) => {
    const [row, d] = [Math.floor(at / D), at % D];
    let sum = r;
    for (let f = 0; f < F; f++) sum += change[d * F + f]! * keys[row * F + f]!;
    return sum;
  });
}

function withoutReaches(pairs: PairSet, D: number): PairSet {
  return {
    ...pairs,
    valueWidth: D,
    changes: pairs.changes.map((rows) => takeReaches(rows, pairs.count, D).changes),
  };
}

function joinPairs(a: PairSet, b: PairSet): PairSet {
  const join = (left: Float32Array[], right: Float32Array[]) =>
    left.map((rows, i) => Float32Array.of(...rows, ...right[i]!));
  return {
    ...a,
    count: a.count + b.count,
    subjects: [...a.subjects, ...b.subjects],
    spellings: [...a.spellings, ...b.spellings],
    keys: join(a.keys, b.keys),
    changes: join(a.changes, b.changes),
  };
}
