/** Freezes a lineage: no batch starts, but corrections are still accepted and undos still run. */
import type { Authorship, OperatedLineage } from './undo.ts';

/** Freezes a lineage and returns the reason that its status shows. */
export async function freezeLineage(
  { workflows, log }: OperatedLineage,
  { reason, by }: Authorship,
): Promise<string> {
  const shown = reason === '' ? `frozen by ${by}` : `${reason} (${by})`;
  await workflows.freeze(log.lineage, shown);
  return shown;
}

/** Ends any freeze; a held batch is tried again first. */
export async function resumeLineage({ workflows, log }: OperatedLineage): Promise<void> {
  await workflows.resume(log.lineage);
}
