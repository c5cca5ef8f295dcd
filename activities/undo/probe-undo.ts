/** Probes an undo. Restored corrections are probed as if a batch had added them. */
import type { Engine } from '../../model/engine/engine.ts';
import type { ProbeReport } from '../../schemas/editing.ts';
import type { ProbeUndoStep } from '../../schemas/steps.ts';
import type { Versions } from '../../versions/versions.ts';
import type { ProbeCache } from '../batch/probe-cache.ts';
import { probeUpdate } from '../batch/run-probes.ts';
import { historyOfHead } from '../batch/step-rows.ts';
import { readSteps, rowsAfter } from './undo-steps.ts';

export async function probeUndo(
  engine: Engine,
  versions: Versions,
  cache: ProbeCache,
  step: ProbeUndoStep,
): Promise<ProbeReport> {
  const log = versions.log(step.lineage);
  const history = await historyOfHead(log, step.head);
  const steps = await readSteps(log, step.steps);
  const report = await probeUpdate(engine, log, cache, {
    batchId: step.batchId,
    history,
    added: steps.restored.map(({ revision }) => revision.correction),
    removals: steps.removals,
    rows: rowsAfter(history, steps, step.staged.pairs),
    layers: step.staged.layers,
    settings: step.settings,
  });
  return {
    ...report,
    verdict: { ...report.verdict, failing: report.verdict.failing.slice(0, FAILING_TOLD_MAX) },
  };
}

/**
 * Bounds the refusals in a report, which is one payload, because an undo may restore thousands. The
 * details have all of them.
 */
const FAILING_TOLD_MAX = 100;
