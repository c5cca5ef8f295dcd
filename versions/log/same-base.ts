import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import type { Provenance } from '../../schemas/editing.ts';
import { BaseChanged } from './failures.ts';
import type { History } from './history.ts';

/** Selects the parameters that determine the shape of the pairs. */
function shapeOf(parameters: Partial<HyperParameters>): Record<string, unknown> {
  const { layers, gate } = parameters;
  // The paper's gate has one averaged key per correction and stores its reach with the change.
  return { layers, keys: gate?.kind === 'sequence' ? 'averaged' : 'separate' };
}

/**
 * Throws `BaseChanged` where HEAD was made with another base model, or with other blocks or keys
 * than the model edits now. Pairs are valid only for the base model and blocks that they were made
 * for.
 */
export function requireSameBase(
  history: History,
  now: Pick<Provenance, 'base' | 'parameters'>,
): void {
  const head = history.latest?.entry;
  if (head === undefined) return;
  const differences: string[] = [];
  const inWords = ({ name, sha256 }: Provenance['base']) => `${name} (${sha256.slice(0, 12)})`;
  if (head.base.sha256 !== now.base.sha256)
    differences.push(`base model ${inWords(head.base)}, now ${inWords(now.base)}`);
  const shape = shapeOf(now.parameters);
  for (const [name, value] of Object.entries(shapeOf(head.parameters))) {
    const [made, given] = [JSON.stringify(value), JSON.stringify(shape[name])];
    if (made !== given) differences.push(`${name} ${made}, now ${given}`);
  }
  if (differences.length > 0) throw new BaseChanged(history.lineage, head.version, differences);
}
