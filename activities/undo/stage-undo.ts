/**
 * Copies the pairs of what comes back, bit for bit, and builds the hook without what leaves.
 * Nothing of it can be seen until commit-undo.
 */
import type { Engine } from '../../model/engine/engine.ts';
import type { StagedUpdate } from '../../schemas/editing.ts';
import { hookIdOf, readPairs } from '../../versions/log/hook-pairs.ts';
import { encodePairs } from '../../versions/log/pairs.ts';
import { requireSameBase } from '../../versions/log/same-base.ts';
import type { Versions } from '../../versions/versions.ts';
import type { UndoStep } from '../../schemas/steps.ts';
import { provenanceOf } from '../batch/provenance.ts';
import { currentHeartbeat } from '../heartbeat.ts';
import { historyOfHead } from '../batch/step-rows.ts';
import { readSteps, rowsAfter } from './undo-steps.ts';

export async function stageUndo(
  engine: Engine,
  versions: Versions,
  step: UndoStep,
): Promise<StagedUpdate> {
  const began = performance.now();
  const heartbeat = currentHeartbeat();
  const log = versions.log(step.lineage);
  const history = await historyOfHead(log, step.head);
  const madeWith = await provenanceOf(engine);
  requireSameBase(history, madeWith);
  const steps = await readSteps(log, step.steps);
  const copied = await heartbeat.during({ stage: 'update' }, () =>
    readPairs(
      log,
      steps.restored.map(({ revision, pairs, row }) => ({
        correctionId: revision.correction.id,
        pairs,
        row,
      })),
    ),
  );
  const pairs = copied === null ? null : await log.blobs.stage(step.batchId, encodePairs(copied));
  const rows = rowsAfter(history, steps, pairs);
  const layers = await heartbeat.during({ stage: 'hook' }, async () => {
    const hookId = hookIdOf(rows);
    return hookId === null
      ? []
      : (await engine.holdHook(hookId, (await readPairs(log, rows))!)).layers;
  });
  return {
    pairs,
    rows: [],
    refused: [],
    layers,
    madeWith,
    seconds: (performance.now() - began) / 1_000,
  };
}
