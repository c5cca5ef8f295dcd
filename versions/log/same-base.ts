import type { Provenance } from '../../schemas/editing.ts';
import { BaseChanged } from './failures.ts';
import type { History } from './history.ts';

/** Parameters that determine the pairs' shape. The others may change from version to version. */
const SHAPING_PARAMETERS = ['layers', 'keyViews'] as const;

/**
 * Throws `BaseChanged` where HEAD was made with another base model, or with other blocks or keys
 * than the model edits now. Pairs are valid only for the base model and the blocks that they were
 * made for.
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
  const parameters: Record<string, unknown> = { ...now.parameters };
  for (const name of SHAPING_PARAMETERS) {
    const made = JSON.stringify(head.parameters[name] ?? null);
    const given = JSON.stringify(parameters[name] ?? null);
    if (made !== given) differences.push(`${name} ${made}, now ${given}`);
  }
  if (differences.length > 0) throw new BaseChanged(history.lineage, head.version, differences);
}
