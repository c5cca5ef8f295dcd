/** What undoing a version in the middle of a lineage does to every answer, to the last bit. */
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import type { Probe, ProbeAnswer } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { ProbeScores } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { Versions } from '../../versions/versions.ts';

export interface RevertFigures {
  head: number;
  undone: number;
  /** The version that the undo made. */
  version: number;
  seconds: number;
  /**
   * Own prompts, paraphrases and neighbours of the facts that were undone: as the base model
   * answers them, bit for bit.
   */
  undoneFacts: { corrections: number; prompts: number; asBase: number; differedBefore: number };
  /** The same of all other corrections: as before the undo, bit for bit. */
  otherFacts: { corrections: number; prompts: number; asBefore: number };
  before: ProbeScores;
  after: ProbeScores;
}

/**
 * Undoes a version by the activities of the edit worker, with the verdict that a batch gets. The
 * versions are changed.
 */
export async function measureRevert(
  engine: Engine,
  versions: Versions,
  lineage: string,
  undone: number,
  settings: VerdictSettings,
  tell: (stage: string) => void,
): Promise<RevertFigures> {
  const log = versions.log(lineage);
  const before = await log.read();
  const { entry } = await log.entry(undone);
  const gone = new Set(
    entry.added.map(({ correctionId }) => correctionId).filter((id) => before.active.has(id)),
  );
  const all = [...before.active.values()];
  const [undoneProbes, otherProbes] = [
    probesOf(all.filter(({ correctionId }) => gone.has(correctionId))),
    probesOf(all.filter(({ correctionId }) => !gone.has(correctionId))),
  ];

  tell('asking before');
  const headHook = await ensureHook(engine, log, all);
  const undoneBefore = await engine.probe(headHook, undoneProbes);
  const undoneBase = await engine.probe(null, undoneProbes);
  const otherBefore = await engine.probe(headHook, otherProbes);

  tell(`undoing version ${undone}`);
  const began = performance.now();
  const activities = {
    ...createEditActivities({ engine, versions }),
    ...createLedgerActivities({ versions }),
  };
  const batchId = `undo-bench-${undone}`;
  const request = {
    id: `bench-${undone}`,
    target: { kind: 'version' as const, version: undone },
    reason: 'measured',
    requestedBy: 'bench',
    requestedAt: Date.now(),
  };
  const plan = await activities.planUndo({ lineage, batchId, request });
  if (plan.steps === null)
    throw new Error(`nothing to undo of version ${undone}: ${plan.nothing ?? ''}`);
  const step = { lineage, batchId, head: plan.head, steps: plan.steps };
  const staged = await activities.stageUndo(step);
  const probes = await activities.probeUndo({ ...step, staged, settings });
  if (!probes.verdict.pass)
    throw new Error(`the undo was refused: ${probes.verdict.reasons.join('; ')}`);
  const committed = await activities.commitUndo({
    ...step,
    staged,
    probes,
    request,
    workflow: { workflowId: 'bench', runId: 'bench' },
  });
  if (committed.kind !== 'committed') throw new Error('HEAD moved');
  const seconds = (performance.now() - began) / 1_000;

  tell('asking after');
  const after = await log.read();
  const hook = await ensureHook(engine, log, after.active.values());
  const undoneAfter = await engine.probe(hook, undoneProbes);
  const otherAfter = await engine.probe(hook, otherProbes);
  return {
    head: before.head.version,
    undone,
    version: committed.version,
    seconds,
    undoneFacts: {
      corrections: gone.size,
      prompts: undoneProbes.length,
      asBase: equal(undoneAfter, undoneBase),
      differedBefore: undoneProbes.length - equal(undoneBefore, undoneBase),
    },
    otherFacts: {
      corrections: all.length - gone.size,
      prompts: otherProbes.length,
      asBefore: equal(otherAfter, otherBefore),
    },
    before: probes.before,
    after: probes.after,
  };
}

/**
 * Scored where there is a target, so that answers are compared by their log-probabilities and not
 * by words alone.
 */
function probesOf(corrections: readonly ActiveCorrection[]): Probe[] {
  return corrections.flatMap(({ prompt, target, paraphrases, neighbourhood }) => [
    { prompt, target, greedyTokensMax: 4 },
    ...paraphrases.map((paraphrase): Probe => ({ prompt: paraphrase, target, greedyTokensMax: 0 })),
    ...neighbourhood.map((neighbour): Probe => ({ prompt: neighbour, greedyTokensMax: 0 })),
  ]);
}

function equal(a: readonly ProbeAnswer[], b: readonly ProbeAnswer[]): number {
  return a.filter((answer, i) => {
    const other = b[i]!;
    return (
      answer.nextToken === other.nextToken &&
      answer.answer === other.answer &&
      Object.is(answer.targetLogProbability, other.targetLogProbability)
    );
  }).length;
}
