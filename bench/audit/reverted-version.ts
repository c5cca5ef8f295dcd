/** Compares every answer before and after the undo of a version, bit for bit. */
import type { Probe, ProbeAnswer } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { localSteps } from '../../operations/local-batch.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { Versions } from '../../versions/versions.ts';
import { STUDY_LINEAGE } from '../edited-stream.ts';

export type RevertFigures = Awaited<ReturnType<typeof measureRevert>>;

interface EditedLineage {
  engine: Engine;
  versions: Versions;
}

/** Undoes a version with the edit worker's activities. This changes `versions`. */
export async function measureRevert(
  { engine, versions }: EditedLineage,
  undone: number,
  begins: (stage: string) => void,
) {
  const log = versions.log(STUDY_LINEAGE);
  const { head, active } = await log.read();
  const added = new Set((await log.entry(undone)).entry.added.map((one) => one.correctionId));
  const all = [...active.values()];
  const gone = all.filter(({ correctionId }) => added.has(correctionId));
  const undoneProbes = probesOf(gone);
  const otherProbes = probesOf(all.filter(({ correctionId }) => !added.has(correctionId)));

  begins('asking before');
  const headHook = await ensureHook(engine, log, all);
  const undoneBefore = await engine.probe(headHook, undoneProbes);
  const undoneBase = await engine.probe(null, undoneProbes);
  const otherBefore = await engine.probe(headHook, otherProbes);

  begins(`undoing version ${undone}`);
  const began = performance.now();
  const { version, before, after } = await undo({ engine, versions }, undone);
  const seconds = (performance.now() - began) / 1_000;

  begins('asking after');
  const hook = await ensureHook(engine, log, (await log.read()).active.values());
  const undoneAfter = await engine.probe(hook, undoneProbes);
  const otherAfter = await engine.probe(hook, otherProbes);
  return {
    head: head.version,
    undone,
    version,
    seconds,
    /** Prompts of the undone facts (own, paraphrases, neighbours), compared with the base model. */
    undoneFacts: {
      corrections: gone.length,
      prompts: undoneProbes.length,
      asBase: equal(undoneAfter, undoneBase),
      differedBefore: undoneProbes.length - equal(undoneBefore, undoneBase),
    },
    /** Prompts of all other corrections, compared with the answers before the undo. */
    otherFacts: {
      corrections: all.length - gone.length,
      prompts: otherProbes.length,
      asBefore: equal(otherAfter, otherBefore),
    },
    before,
    after,
  };
}

async function undo({ engine, versions }: EditedLineage, version: number) {
  const activities = localSteps(engine, versions);
  const about = { lineage: STUDY_LINEAGE, batchId: `undo-bench-${version}` };
  const request = {
    id: `bench-${version}`,
    target: { kind: 'version' as const, version },
    reason: 'measured',
    requestedBy: 'bench',
    requestedAt: Date.now(),
  };
  const { head, steps, nothing } = await activities.planUndo({ ...about, request });
  if (steps === null) throw new Error(`version ${version} has nothing to undo: ${nothing ?? ''}`);
  const step = { ...about, head, steps };
  const staged = await activities.stageUndo(step);
  const settings = DEFAULT_LINEAGE_SETTINGS.verdict;
  const probes = await activities.probeUndo({ ...step, staged, settings });
  const { pass, reasons } = probes.verdict;
  if (!pass) throw new Error(`the undo was refused: ${reasons.join('; ')}`);
  const workflow = { workflowId: 'bench', runId: 'bench' };
  const committed = await activities.commitUndo({ ...step, staged, probes, request, workflow });
  if (committed.kind !== 'committed') throw new Error('HEAD moved');
  return { version: committed.version, before: probes.before, after: probes.after };
}

/** Uses targets where available, so that answers are compared by their log-probabilities. */
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
