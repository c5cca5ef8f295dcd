/**
 * The one atomic step: entry HEAD + 1 is written if there is none. Run twice it finds its own batch id in the log and
 * gives the same answer; it never overwrites, and a HEAD that moved is an answer too.
 */
import type { FactRevision } from '../schemas/correction.ts';
import { removalsInForce, type CommitResult, type ProbeReport, type StagedUpdate, type Verdict } from '../schemas/editing.ts';
import type { VersionEntry } from '../schemas/version-entry.ts';
import { EntryRefused } from '../versions/failures.ts';
import type { History } from '../versions/history.ts';
import type { VersionLog } from '../versions/version-log.ts';
import type { Versions } from '../versions/versions.ts';
import type { EditStep } from './index.ts';

export type CommitStep = EditStep & {
  withdrawals: FactRevision[];
  staged: StagedUpdate;
  probes: ProbeReport;
  workflow: { workflowId: string; runId: string };
};

export async function commitVersion(versions: Versions, step: CommitStep): Promise<CommitResult> {
  const log = versions.log(step.lineage);
  const history = await log.read();
  const made = await alreadyMade(log, step.batchId);
  if (made !== null) return made;
  if (history.head.version !== step.head.version || history.head.hash !== step.head.hash) return { kind: 'head-moved', head: history.head };
  if (!step.probes.verdict.pass) throw new EntryRefused(step.lineage, history.head.version + 1, failedProbes(step.probes.verdict));
  const entry = entryOf(history, {
    ...step,
    // A version whose blobs are gone could never be served.
    staged: {
      ...step.staged,
      pairs: step.staged.pairs === null ? null : await log.keepBlob(step.staged.pairs),
      searches: await Promise.all((step.staged.searches ?? []).map((search) => log.keepBlob(search))),
    },
    probes: { ...step.probes, details: await log.keepBlob(step.probes.details) },
  });
  const result = await log.append(entry);
  if (result.kind === 'appended') return { kind: 'committed', version: entry.version, hash: result.hash, already: false };
  return (await alreadyMade(log, step.batchId)) ?? { kind: 'head-moved', head: (await log.read()).head };
}

async function alreadyMade(log: VersionLog, batchId: string): Promise<CommitResult | null> {
  const version = await (await log.register()).versionOfBatch(batchId);
  return version === null ? null : { kind: 'committed', version, hash: (await log.entry(version)).hash, already: true };
}

function failedProbes({ reasons, failing }: Verdict): string[] {
  return [...reasons, ...failing.map(({ id, reason }) => `"${id}": ${reason}`)].map((reason) => `its probes failed: ${reason}`);
}

function entryOf(history: History, step: CommitStep): VersionEntry {
  const { staged, probes } = step;
  const byId = new Map(step.edits.map((revision) => [revision.correction.id, revision]));
  const removed = removalsInForce(step.removals, staged.rows);
  const added = staged.rows.map((id, row): VersionEntry['added'][number] => {
    const revision = byId.get(id);
    if (revision === undefined) throw new EntryRefused(step.lineage, history.head.version + 1, [`row ${row} is of "${id}", which is not in the batch`]);
    const { subject, relation, prompt, target, previousAnswer, paraphrases, neighbourhood, source, issuedAt, replayOf } = revision.correction;
    return { correctionId: id, factKey: revision.factKey, row, subject, relation, prompt, target, previousAnswer, paraphrases, neighbourhood, source, issuedAt, position: revision.position, ...(replayOf === undefined ? {} : { replayOf }) };
  });
  const { base, keyStatistics, parameters, software } = staged.madeWith;
  return {
    format: 1,
    lineage: step.lineage,
    version: history.head.version + 1,
    parent: history.head.hash,
    createdAt: new Date().toISOString(),
    batchId: step.batchId,
    added,
    removed,
    retractions: step.withdrawals.flatMap((revision) => (revision.kind === 'retraction' ? [{ id: revision.id, factKey: revision.factKey, issuedAt: revision.issuedAt, position: revision.position }] : [])),
    pairs: staged.pairs,
    searches: staged.searches ?? [],
    corrections: history.active.size + added.length - removed.length,
    layers: staged.layers,
    probes: { before: probes.before, after: probes.after, details: probes.details },
    base,
    keyStatistics,
    parameters: { ...parameters },
    workflow: { workflowId: step.workflow.workflowId, runId: step.workflow.runId },
    software,
  };
}
