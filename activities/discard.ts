/** Takes back what stage-update wrote, once its batch is refused. What a version names stays, whoever asks. */
import type { StagedUpdate } from '../schemas/editing.ts';
import type { Versions } from '../versions/versions.ts';

export async function discard(versions: Versions, step: { lineage: string; batchId: string; staged: StagedUpdate }): Promise<void> {
  const { pairs } = step.staged;
  if (pairs !== null) await versions.log(step.lineage).deleteUnreferenced(pairs);
}
