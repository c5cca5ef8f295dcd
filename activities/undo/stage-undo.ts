/**
 * Copies the pairs of restored corrections bit for bit, and builds the hook without the removed
 * ones. Nothing is visible until commit-undo.
 */
import type { Engine } from '../../model/engine/engine.ts';
import type { StagedUpdate } from '../../schemas/editing.ts';
import { readPairs } from '../../versions/log/hook-pairs.ts';
import { encodePairs } from '../../versions/log/pairs.ts';
import type { Versions } from '../../versions/versions.ts';
import type { UndoStep } from '../../schemas/steps.ts';
import { holdRows, openStep } from '../batch/step-rows.ts';
import { readSteps, rowsAfter } from './undo-steps.ts';

export async function stageUndo(
  engine: Engine,
  versions: Versions,
  step: UndoStep,
): Promise<StagedUpdate> {
  const began = performance.now();
  const { log, history, madeWith, heartbeat } = await openStep(engine, versions, step);
  const steps = await readSteps(log, step.steps);
  const restored = steps.restored.map(({ revision, pairs, row }) => ({
    correctionId: revision.correction.id,
    pairs,
    row,
  }));
  const copied = await heartbeat.during({ stage: 'update' }, () => readPairs(log, restored));
  const pairs = copied === null ? null : await log.blobs.stage(step.batchId, encodePairs(copied));
  const rows = rowsAfter(history, steps, pairs);
  const layers = await heartbeat.during({ stage: 'hook' }, () => holdRows(engine, log, rows));
  const seconds = (performance.now() - began) / 1_000;
  return { pairs, rows: [], refused: [], layers, madeWith, seconds };
}
