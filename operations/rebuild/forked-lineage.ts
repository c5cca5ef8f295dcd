/** Edits the revisions of a lineage's versions anew, with another model or hyper-parameters. */
import { editBatch } from '../../pipelines/batch/edit-batch.ts';
import { revisionId, type FactRevision } from '../../schemas/correction.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import { localPort } from '../local-batch.ts';
import type { RebuildEngine } from './rebuild-engines.ts';
import { REFUSED_MAX, RebuildRefused, rebuiltBy, type RebuildRun } from './rebuild-run.ts';
import { addedRevisions, distinct, retractionsOf, searchesOf } from './source-revisions.ts';
import { undoAgain } from './undone-version.ts';

export async function forkLineage(run: RebuildRun): Promise<void> {
  const { source, result, around } = run;
  const { due } = result;
  result.kind = 'fork';
  const engine = await around.engines.with(null);
  const sources = new Set<string>();
  for (let version = 1; version <= due; version++) sources.add((await source.entry(version)).hash);
  await run.requireOwn(async (_, runId) => sources.has(runId));
  await run.requireMadeWith(engine.madeWith);
  for (let version = 1; version <= due; version++) {
    if (run.isStopped(version - 1, due)) return;
    await forkVersion(run, engine, await source.entry(version));
    result.done = version;
  }
  around.progress('rebuilding', due, due);
  await reportMissing(run);
}

/** Edits all requested corrections, since another model may accept those refused then. */
async function forkVersion(
  run: RebuildRun,
  engine: RebuildEngine,
  stored: StoredEntry,
): Promise<void> {
  const { source, rebuilt, revised } = run;
  const { entry, hash } = stored;
  const { batchId } = entry;
  const register = await rebuilt.register();
  if ((await register.versionOfBatch(batchId)) !== null) return;
  if (entry.undo !== undefined) {
    const undone = await undoAgain(run, engine, stored);
    await rebuilt.blobs.discardStaged(batchId.split('.')[0]!);
    if (undone.kind === 'refused')
      throw new RebuildRefused(
        `the undo of version ${entry.version} is refused here: ${undone.reasons.join('; ')}`,
        'Look at the thresholds of the verdict (docs/configuration.md).',
      );
    return;
  }
  const searched = (await searchesOf(source, entry)).flatMap(({ search }) => search.edits);
  const revisions = distinct<FactRevision>([
    ...searched.map(revised),
    ...addedRevisions(entry).map(revised),
    ...retractionsOf(entry),
  ]);
  const decided = await register.outcomesOf(revisions.map(revisionId));
  const { verdict, batch, failures } = run.request.settings;
  const { versions } = run.around;
  await editBatch(localPort(engine.steps, versions, rebuiltBy(source.lineage, hash)), {
    lineage: rebuilt.lineage,
    batchId,
    revisions: revisions.filter((revision) => !decided.has(revisionId(revision))),
    settled: [],
    verdict,
    shardEditsMax: batch.shardEditsMax,
    editAttemptsMax: failures.editAttemptsMax,
  });
}

/** Reports corrections that hold in the source at the end and are missing in the fork. */
async function reportMissing({ source, rebuilt, result }: RebuildRun): Promise<void> {
  const { active } = await rebuilt.read();
  const missing = [...(await source.at(result.due)).active.keys()].filter((id) => !active.has(id));
  const outcomes = await (await rebuilt.register()).outcomesOf(missing);
  for (const id of missing.slice(0, REFUSED_MAX)) {
    const { status = 'QUARANTINED', reason = null } = outcomes.get(id) ?? {};
    result.refused.push({ id, status, reason });
  }
}
