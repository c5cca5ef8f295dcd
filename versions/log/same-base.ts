/**
 * Whether a lineage's versions can go on with the model at hand. Pairs belong to the base model and
 * the blocks they were made for; on others they would say something, but nothing that was ever
 * checked.
 */
import type { Provenance } from '../../schemas/editing.ts';
import { BaseChanged } from './failures.ts';
import type { History } from './history.ts';

/**
 * Throws `BaseChanged` where HEAD was made with another base model, or with other blocks or keys
 * than the model edits now.
 */
export function requireSameBase(
  history: History,
  now: Pick<Provenance, 'base' | 'parameters'>,
): void {
  const head = history.latest?.entry;
  if (head === undefined) return;
  const differences: string[] = [];
  if (head.base.sha256 !== now.base.sha256)
    differences.push(
      `base model ${head.base.name} (${head.base.sha256.slice(0, 12)}), now ${now.base.name} (${now.base.sha256.slice(0, 12)})`,
    );
  const parameters: Record<string, unknown> = { ...now.parameters };
  for (const name of SHAPING_PARAMETERS) {
    const [made, given] = [
      JSON.stringify(head.parameters[name] ?? null),
      JSON.stringify(parameters[name] ?? null),
    ];
    if (made !== given) differences.push(`${name} ${made}, now ${given}`);
  }
  if (differences.length > 0) throw new BaseChanged(history.lineage, head.version, differences);
}

/**
 * Parameters that the pairs' shape hangs on. The others may change from version to version; each
 * entry says what it had.
 */
const SHAPING_PARAMETERS = ['layers', 'keyViews'] as const;
