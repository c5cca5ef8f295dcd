/** Hyper-parameters by model: what was measured to work, and a rule for models nobody has tuned yet. */
import type { GateKind, HyperParameterOverrides, HyperParameters } from '../schemas/editing.ts';
import type { ModelConfig } from './checkpoint.ts';

/**
 * Parameters for a model of this shape, `overrides` on top. Without a measured set: blocks at 13 to 28 % of the depth
 * (where the method's papers edit GPT-2 XL and GPT-J), lambda = F (what is written scales with F / lambda). Throws
 * RangeError on blocks that the model does not have.
 */
export function parametersFor(config: ModelConfig, overrides: HyperParameterOverrides = {}): HyperParameters {
  const kind = overrides.gate?.kind ?? 'scope';
  const first = Math.max(1, Math.round(0.13 * config.layers));
  const last = Math.min(config.layers - 2, Math.max(first, Math.round(0.28 * config.layers)));
  const layers = Array.from({ length: Math.max(1, last - first + 1) }, (_, i) => Math.min(first + i, config.layers - 1));
  checkLayers(overrides.layers ?? layers, config.layers);
  return {
    layers,
    lambda: config.mlpWidth,
    ridge: 0,
    stepsMax: 10,
    learningRate: 1.2,
    klFactor: 0.0625,
    weightDecay: 1e-3,
    clamp: 4,
    lossTarget: 0.05,
    contexts: 5,
    contextsPerStep: 1,
    keyViews: 'separate',
    targetTokensMax: 32,
    seed: 1,
    ...overrides,
    gate: { kind, floor: GATE_FLOORS[kind], referenceQuantile: 0.995, nearKey: 0.8, ...overrides.gate },
  };
}

function checkLayers(layers: readonly number[], blocks: number): void {
  const fits = layers.every((layer, i) => Number.isInteger(layer) && layer >= 0 && layer < blocks && (i === 0 || layer > layers[i - 1]!));
  if (layers.length === 0 || !fits) throw new RangeError(`the edited blocks are ${layers.join(', ') || 'none'}; they must be ascending numbers from 0 to ${blocks - 1}`);
}

/** Thresholds to start from: leverage and cosines as shares, `sequence` the paper's alpha, `norm` in units of the values. */
const GATE_FLOORS: Record<GateKind, number> = { scope: 0.35, leverage: 0.35, key: 0.7, norm: 1, sequence: 2.2, always: 0 };
