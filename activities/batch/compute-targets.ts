/**
 * Finds the target of each correction on top of HEAD. This is most of the work; corrections are
 * independent of one another.
 */
import type { EditRequest } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { CorrectionRevision } from '../../schemas/correction.ts';
import type { TargetSearch, TargetShard } from '../../schemas/editing.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { encodeTargets } from '../../versions/log/pairs.ts';
import type { Versions } from '../../versions/versions.ts';
import type { EditStep } from '../../schemas/steps.ts';
import { aboutSubject, openStep, remaining } from './step-rows.ts';

export async function computeTargets(
  engine: Engine,
  versions: Versions,
  step: EditStep,
): Promise<TargetShard> {
  const began = performance.now();
  if (step.edits.length === 0) return { targets: null, accepted: [], refused: [], seconds: 0 };
  const { log, history, heartbeat } = await openStep(engine, versions, step);
  const computed = await heartbeat.during({ stage: 'hook' }, async (tell) => {
    const inForce = remaining(history, step.removals);
    const hookId = await ensureHook(engine, log, inForce);
    const requests = step.edits.map((edit): EditRequest => ({
      ...requestOf(edit),
      alongside: aboutSubject(inForce, edit.correction.subject)
        .slice(-ALONGSIDE_MAX)
        .map(({ prompt, target }) => ({ prompt, target })),
    }));
    return engine.computeTargets(hookId, requests, (progress) =>
      tell({ stage: 'targets', ...progress }),
    );
  });
  const { targets, accepted, refused } = computed;
  const { head, edits, removals } = step;
  const { version, hash } = head;
  const search: TargetSearch = { head: { version, hash }, edits, removals };
  const stage = (bytes: Uint8Array) => log.blobs.stage(step.batchId, bytes);
  return {
    targets: targets.ids.length === 0 ? null : await stage(encodeTargets(targets)),
    search: await stage(canonicalJson(search)),
    accepted,
    refused,
    seconds: (performance.now() - began) / 1_000,
  };
}

/** Number of latest facts in force about the subject that a search preserves. */
const ALONGSIDE_MAX = 8;

export function requestOf({
  correction: { id, subject, prompt, target },
}: CorrectionRevision): EditRequest {
  return { id, subject, prompt, target };
}
