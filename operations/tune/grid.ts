/** The candidates for an untuned model: windows of consecutive blocks, lambda around F. */
import { parametersFor } from '../../model/engine/parameters.ts';
import type { ModelConfig } from '../../model/checkpoint/checkpoint.ts';

export interface Candidate {
  layers: number[];
  lambda: number;
  /** lambda / F. */
  lambdaFactor: number;
}

/** From F downwards: with one map per subject a larger lambda only weakens the edit. */
export const LAMBDA_FACTORS = [0.1, 0.3, 1] as const;
export const WINDOWS_MAX = 5;

/** Returns `layers 4-8, lambda 1 F`. */
export function nameOf({ layers, lambdaFactor }: Candidate): string {
  return `layers ${windowName(layers)}, lambda ${lambdaFactor} F`;
}

export function windowName(layers: readonly number[]): string {
  return layers.length === 1 ? String(layers[0]) : `${layers[0]}-${layers.at(-1)}`;
}

export function candidate(
  config: ModelConfig,
  layers: readonly number[],
  lambdaFactor: number,
): Candidate {
  return {
    layers: [...layers],
    lambdaFactor,
    lambda: Number((lambdaFactor * config.mlpWidth).toPrecision(6)),
  };
}

/**
 * Returns windows as wide as the model's present one, spread evenly over the first 60 % of the
 * depth (facts are recalled there, arXiv 2202.05262), avoiding blocks whose keys have outlier
 * norms. The present window is included if it is allowed. If such blocks leave no room, the windows
 * get narrower. Throws RangeError if no block is left.
 */
export function windowsOf(
  config: ModelConfig,
  massive: readonly number[],
  windowsMax: number = WINDOWS_MAX,
): number[][] {
  const present = parametersFor(config).layers;
  const last = Math.max(
    present.at(-1)!,
    Math.min(config.layers - 2, Math.ceil(DEEPEST_SHARE * config.layers)),
  );
  const allowed = (layers: readonly number[]): boolean =>
    layers.every((layer) => !massive.includes(layer));
  for (let width = present.length; width > 0; width--) {
    const windows: number[][] = [];
    for (let first = Math.min(1, present[0]!); first + width - 1 <= last; first++) {
      const layers = Array.from({ length: width }, (_, i) => first + i);
      if (allowed(layers)) windows.push(layers);
    }
    if (windows.length > 0) return spread(windows, present, windowsMax);
  }
  throw new RangeError(`every block up to ${last} has massive keys (${massive.join(', ')})`);
}

const DEEPEST_SHARE = 0.6;

function spread(
  windows: readonly number[][],
  present: readonly number[],
  windowsMax: number,
): number[][] {
  const count = Math.min(windowsMax, windows.length);
  const picked = new Set(
    Array.from({ length: count }, (_, i) =>
      Math.round((i * (windows.length - 1)) / Math.max(1, count - 1)),
    ),
  );
  const own = windows.findIndex((layers) => layers.join() === present.join());
  if (own >= 0 && !picked.has(own)) {
    const nearest = [...picked].reduce((best, at) =>
      Math.abs(at - own) < Math.abs(best - own) ? at : best,
    );
    picked.delete(nearest);
    picked.add(own);
  }
  return [...picked].sort((a, b) => a - b).map((at) => windows[at]!);
}
