/**
 * Takes back what stage-update and run-probes wrote, once its batch is refused: the pairs, and what was asked and
 * answered. What a version names stays, whoever asks.
 */
import type { ProbeReport, StagedUpdate } from '../schemas/editing.ts';
import type { Versions } from '../versions/versions.ts';

export async function discard(versions: Versions, step: { lineage: string; batchId: string; staged: StagedUpdate; probes?: ProbeReport | null }): Promise<void> {
  const log = versions.log(step.lineage);
  for (const blob of [step.staged.pairs, step.probes?.details ?? null]) {
    if (blob !== null) await log.deleteUnreferenced(blob);
  }
}
