/**
 * Finds each correction's target value at the output of the last edited block L, at its subject's
 * last token: z = h + delta, with
 *   delta = argmin  mean over contexts of -log p(target | context + prompt)
 *                 + klFactor * KL(p_base || p_edited) on "<subject> is a" at the subject's last
 *                   token
 *                 + weightDecay * |delta| / |h|^2,      |delta| <= clamp * |h|,
 * by Adam (arXiv 2403.05330, after MEMIT, arXiv 2210.07229). All targets of a batch are found at
 * once, and nothing is computed twice. Blocks up to L do not depend on delta and run once. Tokens
 * before the subject's last one never change, so their keys and values are kept per block. The
 * shared prefixes are run once for all corrections. Only positions that predict a target token are
 * scored over the vocabulary. Finished corrections drop out.
 *
 * Corrections of one subject share one delta: their keys are (nearly) the same key, and two wanted
 * changes for one key conflict (MEMIT-Merge, arXiv 2502.07322). This includes corrections already
 * in force, which the caller adds as extra edits.
 */
import type { EditSequence } from '../network/sequences.ts';
import { seededRandom } from '../tensor/random.ts';
import { formsOfStep, takesTurns } from './search-forms.ts';
import { disposeSearch, prepareSearch, type Search, type SearchContext } from './search-runs.ts';
import { lossAndGradient } from './target-loss.ts';

export interface FoundTargets {
  /** z of each edit, [n, D], in order. */
  values: Float32Array;
  /** Last loss and number of Adam steps, per edit. */
  losses: number[];
  steps: number[];
  seconds: { context: number; targets: number };
}

export async function findTargets(
  edits: readonly EditSequence[],
  context: SearchContext,
): Promise<FoundTargets> {
  const began = performance.now();
  const search = prepareSearch(edits, context);
  const contextSeconds = (performance.now() - began) / 1000;
  try {
    const { groups, anchors } = search;
    const D = context.model.config.residualWidth;
    const { delta, losses, steps } = await optimise(search);
    return {
      values: anchors.map((h, at) => h + delta[groups.of[Math.floor(at / D)]! * D + (at % D)]!),
      losses: edits.map((_, i) => losses[groups.of[i]!]!),
      steps: edits.map((_, i) => steps[groups.of[i]!]!),
      seconds: {
        context: contextSeconds,
        targets: (performance.now() - began) / 1000 - contextSeconds,
      },
    };
  } finally {
    disposeSearch(search);
  }
}

/** Delta [groups, D], and the last loss and the number of steps of each group. */
async function optimise(search: Search) {
  const { context, groups, norms } = search;
  const { parameters } = context;
  const D = context.model.config.residualWidth;
  const random = seededRandom(parameters.seed);
  const adam = new Adam(groups.count * D, parameters.learningRate);
  const infinite = () => new Array<number>(groups.count).fill(Number.POSITIVE_INFINITY);
  const [losses, before] = [infinite(), infinite()];
  const steps = new Array<number>(groups.count).fill(0);
  let live = Array.from({ length: groups.count }, (_, g) => g);

  // Where forms alternate, the loss of a step covers one form and the step before has the other.
  const formsMin = takesTurns(parameters) ? 2 : 1;
  for (let step = 1; step <= parameters.stepsMax && live.length > 0; step++) {
    const { chosen, forms } = chooseRuns(search, live, step, random);
    const { loss, gradient } = lossAndGradient(search, { chosen, live, delta: adam.values });
    const still: number[] = [];
    live.forEach((g, slot) => {
      const own = loss[slot]!;
      const whole = forms >= formsMin ? own : (own + before[g]!) / 2;
      before[g] = own;
      losses[g] = Number.isFinite(whole) ? whole : own;
      if (!Number.isFinite(own) || whole < parameters.lossTarget) return;
      still.push(g);
      steps[g] = step;
      adam.step(g * D, gradient.subarray(slot * D, (slot + 1) * D), step);
      clampNorm(adam.values.subarray(g * D, (g + 1) * D), parameters.clamp * norms[g]!);
    });
    live = still;
    await context.progress?.({ step, stepsMax: parameters.stepsMax, unfinished: live.length });
  }
  return { delta: adam.values, losses, steps };
}

/** Chooses the unfinished groups' runs for a step. "<subject> is a" goes with the bare prompt. */
function chooseRuns(
  { runs, groups, context }: Search,
  live: readonly number[],
  step: number,
  random: () => number,
): { chosen: number[]; forms: number } {
  const unfinished = new Set(live);
  const open = [...runs.keys()].filter((i) => unfinished.has(groups.of[runs[i]!.edit]!));
  const bareRows = open
    .filter((i) => runs[i]!.context === 0)
    .reduce((sum, i) => sum + runs[i]!.after.length, 0);
  const forms = formsOfStep(context.parameters, step, bareRows, random);
  return { chosen: open.filter((i) => forms.has(runs[i]!.context)), forms: forms.size };
}

class Adam {
  /** Start at 0. */
  readonly values: Float32Array;
  readonly #first: Float32Array;
  readonly #second: Float32Array;

  constructor(
    size: number,
    private readonly learningRate: number,
  ) {
    this.values = new Float32Array(size);
    this.#first = new Float32Array(size);
    this.#second = new Float32Array(size);
  }

  /** Moves the values from `offset` on against their gradient. Steps count from 1. */
  step(offset: number, gradient: Float32Array, step: number): void {
    const [first, second] = [this.#first, this.#second];
    gradient.forEach((slope, d) => {
      const at = offset + d;
      first[at] = BETA1 * first[at]! + (1 - BETA1) * slope;
      second[at] = BETA2 * second[at]! + (1 - BETA2) * slope * slope;
      const mean = first[at] / (1 - BETA1 ** step);
      const variance = second[at] / (1 - BETA2 ** step);
      this.values[at]! -= (this.learningRate * mean) / (Math.sqrt(variance) + EPSILON);
    });
  }
}

const BETA1 = 0.9;
const BETA2 = 0.999;
const EPSILON = 1e-8;

function clampNorm(vector: Float32Array, most: number): void {
  const norm = Math.hypot(...vector);
  if (norm > most) for (let i = 0; i < vector.length; i++) vector[i]! *= most / norm;
}
