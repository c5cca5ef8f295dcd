/** Finds the target of each correction on top of HEAD: most of the work, and no correction needs another's. */
import type { EditRequest, Engine } from '../model/engine.ts';
import type { CorrectionRevision } from '../schemas/correction.ts';
import type { TargetShard } from '../schemas/editing.ts';
import { ensureHook } from '../versions/hook-pairs.ts';
import { encodeTargets } from '../versions/pairs.ts';
import type { Versions } from '../versions/versions.ts';
import { requireSameBase } from '../versions/same-base.ts';
import type { EditStep } from './index.ts';
import { provenanceOf } from './provenance.ts';
import { pulseOfThisStep } from './pulse.ts';
import { historyOfHead, remaining } from './step-rows.ts';

export async function computeTargets(engine: Engine, versions: Versions, step: EditStep): Promise<TargetShard> {
  const began = performance.now();
  const pulse = pulseOfThisStep();
  const log = versions.log(step.lineage);
  if (step.edits.length === 0) return { targets: null, accepted: [], refused: [], seconds: 0 };
  const history = await historyOfHead(log, step.head);
  requireSameBase(history, await provenanceOf(engine));
  const computed = await pulse.during({ stage: 'hook' }, async (tell) => {
    const hookId = await ensureHook(engine, log, remaining(history, step.removals));
    return engine.computeTargets(hookId, step.edits.map(requestOf), (progress) => tell({ stage: 'targets', ...progress }));
  });
  const { targets, accepted, refused } = computed;
  return {
    targets: targets.ids.length === 0 ? null : await log.putBlob(encodeTargets(targets)),
    accepted,
    refused,
    seconds: (performance.now() - began) / 1_000,
  };
}

export function requestOf({ correction: { id, subject, prompt, target } }: CorrectionRevision): EditRequest {
  return { id, subject, prompt, target };
}
