/**
 * Edits facts in consecutive batches, on a version log in a temporary folder. Every verdict passes,
 * so that the measurement concerns the editor and not the thresholds. A correction that the editor
 * refuses counts as failed.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Engine } from '../../model/engine/engine.ts';
import { editBatch } from '../../pipelines/batch/edit-batch.ts';
import type { FactRevision } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS, type VerdictSettings } from '../../schemas/settings.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { localPort, localSteps, type LocalSteps } from '../local-batch.ts';
import type { FactRecord } from './fact-records.ts';

/** Thresholds that every batch passes. */
export const PERMISSIVE: VerdictSettings = {
  ...DEFAULT_LINEAGE_SETTINGS.verdict,
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: Number.MAX_VALUE,
  editNormMax: Number.MAX_VALUE,
};

/** Returns the last record of each fact, and the hook of all (null if every one was refused). */
export async function editFacts(
  engine: Engine,
  records: readonly FactRecord[],
  batchEdits: number,
  progress: (done: number) => void = () => {},
): Promise<{ hookId: string | null; latest: FactRecord[] }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'errata-facts-'));
  try {
    const versions = versionsInFolder(folder);
    const steps = localSteps(engine, versions);
    for (let from = 0; from < records.length; from += batchEdits) {
      const batch = records.slice(from, from + batchEdits);
      await editPermissively(steps, versions, {
        lineage: 'facts',
        batchId: `facts-${from}`,
        revisions: batch.map(({ revision }) => revision),
      });
      progress(from + batch.length);
    }
    const log = versions.log('facts');
    const latest = new Map(records.map((record) => [record.revision.factKey, record]));
    return {
      hookId: await ensureHook(engine, log, (await log.read()).active.values()),
      latest: [...latest.values()],
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Edits one batch in one search, and commits it whatever the probes say. */
export async function editPermissively(
  steps: LocalSteps,
  versions: Versions,
  batch: { lineage: string; batchId: string; revisions: FactRevision[] },
): Promise<Outcome[]> {
  const { lineage, revisions } = batch;
  const port = localPort(steps, versions, { workflowId: lineage, runId: lineage });
  const { outcomes } = await editBatch(port, {
    ...batch,
    settled: [],
    shardEditsMax: Math.max(1, revisions.length),
    verdict: PERMISSIVE,
    editAttemptsMax: DEFAULT_LINEAGE_SETTINGS.failures.editAttemptsMax,
  });
  return outcomes;
}
