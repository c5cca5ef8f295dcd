import type { CanaryReading } from '../engine-types.ts';
import type { Hook } from '../hook/hook.ts';
import { perplexityOf, sequenceLosses } from '../network/perplexity.ts';
import type { LoadedModel } from './loaded-model.ts';

/** Measures perplexity on the canary text. Runs only the sequences on which a gate may open. */
export function readCanary(
  { model, statistics: { canary, canaryLoss } }: LoadedModel,
  hook: Hook | null,
): CanaryReading {
  const basePerplexity = perplexityOf(canaryLoss, canary);
  const tokens = canary.reduce((sum, sequence) => sum + sequence.length - 1, 0);
  if (hook === null)
    return { perplexity: basePerplexity, basePerplexity, ratio: 1, tokens, openShare: 0 };
  const touched = hook.mayOpen(canary);
  const opened = new Map<number, number>();
  hook.openObserver = (layer, rows) =>
    opened.set(layer, (opened.get(layer) ?? 0) + rows.reduce((sum, open) => sum + open, 0));
  // A sequence on which no gate opens has the base model's perplexity, bit for bit.
  const losses = [...canaryLoss];
  try {
    const sequences = touched.map((b) => canary[b]!);
    const again = sequenceLosses(model, sequences, hook);
    touched.forEach((b, i) => (losses[b] = again[i]!));
  } finally {
    hook.openObserver = null;
  }
  const perplexity = perplexityOf(losses, canary);
  return {
    perplexity,
    basePerplexity,
    ratio: perplexity / basePerplexity,
    tokens,
    openShare: Math.max(0, ...opened.values()) / tokens,
  };
}
