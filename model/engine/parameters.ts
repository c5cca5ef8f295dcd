/** Hyper-parameters by model: its family's set (parameter-sets/), or a rule for untuned models. */
import type {
  GateKind,
  GateParameters,
  HyperParameterOverrides,
  HyperParameters,
} from '../../schemas/hyper-parameters.ts';
import type { ModelConfig } from '../checkpoint/checkpoint.ts';
import { generalParameters, misfits, parameterSetFor } from './parameter-sets.ts';

/**
 * Returns the parameters for a model of this shape: the general rule, overridden by the model's
 * set, overridden by `overrides`. The general rule edits blocks at 13 to 28 % of the depth (where
 * the method's papers edit GPT-2 XL and GPT-J) with lambda = F (the size of an edit scales with F /
 * lambda). Throws RangeError on blocks that the model does not have, and on overrides found for
 * another model.
 */
export function parametersFor(
  config: ModelConfig,
  overrides: HyperParameterOverrides = {},
): HyperParameters {
  const { fits, ...asked } = overrides;
  const faults = misfits(fits ?? {}, config);
  if (faults.length > 0)
    throw new RangeError(
      `the parameter set is for another model: this one has ${faults.join(', ')}`,
    );
  const general = generalParameters();
  const own = parameterSetFor(config)?.parameters ?? {};
  const kind = asked.gate?.kind ?? own.gate?.kind ?? general.gate.kind;
  const merged = {
    ...general,
    layers: generalLayers(config.layers),
    lambda: config.mlpWidth,
    ...own,
    ...asked,
    // A threshold is valid only for the kind of gate it was found for.
    gate: {
      ...GATE_DEFAULTS[kind],
      ...((own.gate?.kind ?? general.gate.kind) === kind ? own.gate : {}),
      ...asked.gate,
      kind,
    },
  };
  checkLayers(merged.layers, config.layers);
  if (merged.gate.map === 'subject' && merged.gate.kind !== 'subject')
    throw new RangeError(
      `the ${merged.gate.kind} gate does not tell subjects apart: its map must be joint`,
    );
  return merged;
}

function generalLayers(blocks: number): number[] {
  const first = Math.max(1, Math.round(0.13 * blocks));
  const last = Math.min(blocks - 2, Math.max(first, Math.round(0.28 * blocks)));
  return Array.from({ length: Math.max(1, last - first + 1) }, (_, i) =>
    Math.min(first + i, blocks - 1),
  );
}

function checkLayers(layers: readonly number[], blocks: number): void {
  const fits = layers.every(
    (layer, i) =>
      Number.isInteger(layer) &&
      layer >= 0 &&
      layer < blocks &&
      (i === 0 || layer > layers[i - 1]!),
  );
  if (layers.length === 0 || !fits)
    throw new RangeError(
      `the edited blocks are ${layers.join(', ') || 'none'}; ` +
        `they must be ascending numbers from 0 to ${blocks - 1}`,
    );
}

/**
 * The floor of `subject` was chosen on keys of CounterFact's prompts at 30 to 2,000 corrections.
 * The floor of `sequence` is the paper's alpha.
 */
const GATE_DEFAULTS: Record<GateKind, Omit<GateParameters, 'kind'>> = {
  subject: { map: 'subject', floor: 0.5 },
  sequence: { map: 'joint', floor: 2.2 },
  always: { map: 'joint', floor: 0 },
};
