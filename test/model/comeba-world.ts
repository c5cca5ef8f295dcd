/** Edits a tiny model with our code and compares it with a PyTorch twin of the paper's method. */
import * as tf from '@tensorflow/tfjs-core';
import { deviceFromEnvironment, homeFromEnvironment } from '../../infra/config/home.ts';
import { openCheckpoint, type Checkpoint } from '../../model/checkpoint/checkpoint.ts';
import { reachesOf } from '../../model/editing/reach.ts';
import { derivePairs } from '../../model/editing/update.ts';
import type { PairSet } from '../../model/engine-types.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { Hook } from '../../model/hook/hook.ts';
import { takeReaches, withReaches } from '../../model/hook/pair-rows.ts';
import type { EditSequence, LocatedPrompt } from '../../model/network/sequences.ts';
import { Transformer } from '../../model/network/transformer.ts';
import type { KeyStatistics } from '../../model/statistics/key-statistics.ts';
import { buildPriors, disposePriors, type Prior } from '../../model/statistics/prior.ts';
import { widen64 } from '../../model/tensor/float64.ts';
import { loadTensorFlow } from '../../model/tensor/tensorflow.ts';
import type { GateParameters, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { goldenPath, readGoldenJson, readGoldenTensors } from '../golden/read-golden.ts';

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

const input = readGoldenJson<TwinInput>('comeba', 'input.json');
export const { front, contexts, probes } = input;
const { alpha } = input.parameters;
export const batches = input.batches.map((batch): EditSequence[] =>
  batch.map(({ subject, prompt, bare, behind, targetTokens }) => ({
    id: prompt,
    subject,
    bare: onlyLast(bare),
    behind: onlyLast(behind),
    target: targetTokens,
    spellings: [],
  })),
);

export type TwinRun = 'subjects' | 'paper';

/** Our editing of a tiny model beside that of the PyTorch twin. */
export class Twin {
  readonly #runs: Record<TwinRun, ReturnType<typeof readGoldenTensors>>;
  readonly checkpoint: Checkpoint;
  readonly model: Transformer;
  readonly parameters: HyperParameters;
  readonly priors: Map<number, Prior>;
  readonly D: number;
  readonly F: number;
  /** Our pairs after each batch, written over the twin's targets. */
  readonly written: { batch: PairSet; all: PairSet }[] = [];

  private constructor(name: string, checkpoint: Checkpoint, model: Transformer) {
    this.#runs = {
      subjects: readGoldenTensors('comeba', `${name}-subjects.safetensors`),
      paper: readGoldenTensors('comeba', `${name}-paper.safetensors`),
    };
    this.checkpoint = checkpoint;
    this.model = model;
    ({ residualWidth: this.D, mlpWidth: this.F } = model.config);
    this.parameters = twinParameters(model);
    const moments = new Map(
      this.parameters.layers.map((layer) => {
        const moment = tf.tensor2d(this.numbers(`moment0.${layer}`), [this.F, this.F]);
        const wide = widen64(moment);
        moment.dispose();
        return [layer, wide];
      }),
    );
    this.priors = buildPriors(model, { moments } as unknown as KeyStatistics, this.parameters);
  }

  static async open(name: string): Promise<Twin> {
    loadTensorFlow(homeFromEnvironment().tensorflow(deviceFromEnvironment()).addon);
    const checkpoint = await openCheckpoint(goldenPath('tiny', name));
    const twin = new Twin(name, checkpoint, await Transformer.load(checkpoint));
    for (const b of batches.keys()) await twin.#write(b);
    return twin;
  }

  async close(): Promise<void> {
    disposePriors(this.priors);
    this.model.dispose();
    await this.checkpoint.close();
  }

  numbers(key: string, run: TwinRun = 'subjects'): Float32Array {
    return this.#runs[run].get(key)!.values as Float32Array;
  }

  build(pairs: PairSet, floor = alpha): Hook {
    return Hook.build(pairs, this.priors, { ...SEQUENCE_GATE, floor });
  }

  async #write(b: number): Promise<void> {
    const pairs = this.written.at(-1)?.all ?? null;
    const hook = pairs === null ? null : this.build(pairs);
    const { model, priors } = this;
    const context = { model, priors, hook, pairs, front, contexts, gate: SEQUENCE_GATE };
    const derived = await derivePairs(batches[b]!, this.numbers(`batch.${b}.z`), context);
    hook?.dispose();
    const all = pairs === null ? derived.pairs : joinPairs(pairs, derived.pairs);
    this.written.push({ batch: derived.pairs, all });
  }

  /** The pairs of the twin's batches 0..b: u = (W_h - W0) k + r, with the reaches of our hooks. */
  readPairs(b: number, run: TwinRun): PairSet {
    const { D, F } = this;
    const { layers } = this.parameters;
    const sums = layers.map(() => new Float32Array(D * F));
    let all: PairSet | null = null;
    for (let at = 0; at <= b; at++) {
      const golden = (layer: number, what: string) =>
        this.numbers(`batch.${at}.layer.${layer}.${what}`, run);
      const keys = layers.map((layer) => golden(layer, 'keys'));
      const batch: PairSet = {
        layers,
        count: batches[at]!.length,
        subjects: batches[at]!.map(({ subject }) => subject),
        spellings: batches[at]!.map(({ spellings }) => spellings),
        keyWidth: F,
        valueWidth: D,
        keys,
        changes: layers.map((layer, i) =>
          wantedChanges(sums[i]!, keys[i]!, golden(layer, 'residual'), F),
        ),
      };
      layers.forEach((layer, i) =>
        golden(layer, 'delta').forEach((step, j) => (sums[i]![j]! += step)),
      );
      const hook = this.build(all === null ? batch : joinPairs(withoutReaches(all, D), batch));
      const reaches = reachesOf(this.model, batches[at]!, hook.blocks, front);
      hook.dispose();
      const changes = batch.changes.map((rows, i) => withReaches(rows, reaches[i]!));
      const reached = { ...batch, valueWidth: D + 1, changes };
      all = all === null ? reached : joinPairs(all, reached);
    }
    return all!;
  }
}

const SEQUENCE_GATE: GateParameters = { kind: 'sequence', map: 'joint', floor: alpha };

function twinParameters({ config }: Transformer): HyperParameters {
  const { updatesMax: stepsMax, alpha: _, ...rest } = input.parameters;
  const counts = { contexts: contexts.length, contextsPerStep: contexts.length };
  return parametersFor(config, { ...rest, ...counts, stepsMax });
}

/** Behind the paper's gate, neither the start of a subject nor its spelling matters. */
function onlyLast({ tokens, subjectLast }: Located): LocatedPrompt {
  return { tokens, subjectFirst: subjectLast, subjectLast };
}

/** u = (W_h - W0) k + r for each row; the change is [D, F]. */
function wantedChanges(
  change: Float32Array,
  keys: Float32Array,
  residual: Float32Array,
  F: number,
): Float32Array {
  const D = change.length / F;
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
