/** A lineage without Kafka and Temporal: the steps of a batch, called in sequence. */
import {
  createEditActivities,
  createLedgerActivities,
  type EditActivities,
  type LedgerActivities,
} from '../../activities/index.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { CorrectionRevision, RetractionRevision } from '../../schemas/correction.ts';
import { DEFAULT_LINEAGE_SETTINGS, type VerdictSettings } from '../../schemas/settings.ts';
import type { ObjectStore } from '../../versions/stores/object-store.ts';
import { Versions } from '../../versions/versions.ts';
import { MemoryStore } from './memory-store.ts';
import { LINEAGE } from './corrections.ts';
import { FakeEngine } from './fake-engine.ts';

export type StepActivities = EditActivities & LedgerActivities;

/** Lets any batch pass, for tests that do not depend on its quality. */
export const PASS_EVERYTHING: VerdictSettings = {
  ...DEFAULT_LINEAGE_SETTINGS.verdict,
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: 1e9,
  editNormMax: 1e9,
};

export const WORKFLOW = { workflowId: 'edit-batch/l/1', runId: 'run' };

/** The activities of a batch on the given engine and store, or on new ones. */
export function testLineage<
  Store extends ObjectStore = MemoryStore,
  OneEngine extends Engine = FakeEngine,
>(given: { store?: Store; engine?: OneEngine } = {}) {
  const store = (given.store ?? new MemoryStore()) as Store;
  const engine = (given.engine ?? new FakeEngine()) as OneEngine;
  const versions = new Versions(store);
  const activities = stepActivities(engine, versions);
  return {
    store,
    engine,
    versions,
    activities,
    log: versions.log(LINEAGE),
    commitBatch: async (
      batchId: string,
      revisions: (CorrectionRevision | RetractionRevision)[],
      settings?: VerdictSettings,
    ) => await (await runBatch(activities, batchId, revisions, settings)).commit(),
  };
}

export function stepActivities(engine: Engine, versions: Versions): StepActivities {
  return { ...createEditActivities({ engine, versions }), ...createLedgerActivities({ versions }) };
}

/** Takes a batch through all its steps, as the workflow does without refusals or a moving HEAD. */
export async function runBatch(
  activities: StepActivities,
  batchId: string,
  revisions: (CorrectionRevision | RetractionRevision)[],
  settings: VerdictSettings = DEFAULT_LINEAGE_SETTINGS.verdict,
) {
  const plan = await activities.planBatch({ lineage: LINEAGE, batchId, revisions });
  const { head, edits, removals, withdrawals } = plan;
  const step = { lineage: LINEAGE, batchId, head, edits, removals };
  const shard = await activities.computeTargets(step);
  const staged = await activities.stageUpdate({ ...step, shards: [shard] });
  const probes = await activities.runProbes({ ...step, staged, settings });
  const commit = () =>
    activities.commitVersion({ ...step, withdrawals, staged, probes, workflow: WORKFLOW });
  return { plan, step, shard, staged, probes, commit };
}
