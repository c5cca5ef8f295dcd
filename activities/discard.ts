/**
 * Takes back what a batch staged, once all of it is decided. What a version names was kept when it
 * was committed.
 */
import type { Versions } from '../versions/versions.ts';

export async function discard(
  versions: Versions,
  step: { lineage: string; batchId: string },
): Promise<void> {
  await versions.log(step.lineage).discardStaged(step.batchId);
}
