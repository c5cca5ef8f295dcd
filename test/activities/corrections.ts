/** Revisions as they come from Kafka, for tests; what matters to a test it sets itself. */
import {
  factKeyOf,
  retractionId,
  type CorrectionRevision,
  type FactCorrection,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import type { HeadReference, ProbeReport, Removal, StagedUpdate } from '../../schemas/editing.ts';
import { DEFAULT_LINEAGE_SETTINGS, type VerdictSettings } from '../../schemas/settings.ts';
import type { EditActivities, LedgerActivities } from '../../activities/index.ts';

export const LINEAGE = 'l';
export const TOPIC = 'errata.l.corrections';
let offset = 0;

export function correction(id: string, more: Partial<FactCorrection> = {}): CorrectionRevision {
  const subject = more.subject ?? `Subject ${id}`;
  const whole: FactCorrection = {
    id,
    lineage: LINEAGE,
    subject,
    relation: null,
    prompt: `${subject} is in`,
    target: 'Lyon',
    previousAnswer: null,
    paraphrases: [`One finds ${subject} in`, `The place of ${subject} is`],
    neighbourhood: [`Neighbour of ${id} one is in`, `Neighbour of ${id} two is in`],
    source: 'test',
    issuedAt: 1_000,
    ...more,
  };
  offset += 1;
  return {
    kind: 'correction',
    factKey: factKeyOf(whole),
    position: { topic: TOPIC, partition: 0, offset: String(offset) },
    correction: whole,
  };
}

export function retraction(of: CorrectionRevision, issuedAt = 2_000): RetractionRevision {
  offset += 1;
  const position = { topic: TOPIC, partition: 0, offset: String(offset) };
  return {
    kind: 'retraction',
    factKey: of.factKey,
    position,
    id: retractionId(position),
    issuedAt,
  };
}

export const WORKFLOW = { workflowId: 'edit-batch/l/1', runId: 'run' };

/** A batch through all the steps, as the workflow takes it where nothing is refused or moves. */
export async function runBatch(
  activities: EditActivities & LedgerActivities,
  batchId: string,
  revisions: (CorrectionRevision | RetractionRevision)[],
  settings: VerdictSettings = DEFAULT_LINEAGE_SETTINGS.verdict,
) {
  const plan = await activities.planBatch({ lineage: LINEAGE, batchId, revisions });
  const step: {
    lineage: string;
    batchId: string;
    head: HeadReference;
    edits: CorrectionRevision[];
    removals: Removal[];
  } = { lineage: LINEAGE, batchId, head: plan.head, edits: plan.edits, removals: plan.removals };
  const shard = await activities.computeTargets(step);
  const staged: StagedUpdate = await activities.stageUpdate({ ...step, shards: [shard] });
  const probes: ProbeReport = await activities.runProbes({ ...step, staged, settings });
  const commit = () =>
    activities.commitVersion({
      ...step,
      withdrawals: plan.withdrawals,
      staged,
      probes,
      workflow: WORKFLOW,
    });
  return { plan, step, shard, staged, probes, commit };
}
