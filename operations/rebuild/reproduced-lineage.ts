/** Reproduces the versions of a lineage. */
import { revisionId } from '../../schemas/correction.ts';
import type { HyperParameters } from '../../schemas/hyper-parameters.ts';
import { BlobMissing, VersionLogDamaged } from '../../versions/log/failures.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import { sameParameters, type RebuildEngine } from './rebuild-engines.ts';
import { RebuildRefused, type RebuildRun } from './rebuild-run.ts';
import { reproduceVersion, type KnownTargets, type Reproduced } from './reproduced-version.ts';
import { searchesOf } from './source-revisions.ts';
import { undoAgain } from './undone-version.ts';

export async function reproduceLineage(run: RebuildRun): Promise<void> {
  const { source, rebuilt, result } = run;
  const { due } = result;
  await run.requireOwn(
    async (version, runId) => version > due || runId === (await source.entry(version)).hash,
  );
  result.done = Math.min(result.began, due);
  const known: KnownTargets = new Map();
  let staged: string | null = null;
  for (let version = result.done + 1; version <= due; version++) {
    if (run.isStopped(version - 1, due)) break;
    const stored = await source.entry(version);
    const engine = await engineOf(run, stored);
    // The parts of one batch share a folder and their targets.
    const folder = stored.entry.batchId.split('.')[0]!;
    if (folder !== staged) {
      if (staged !== null) await rebuilt.blobs.discardStaged(staged);
      known.clear();
      staged = folder;
    }
    const made = await makeAgain(run, engine, stored, known);
    if (made.kind === 'refused') {
      result.stopped = { version, reasons: made.reasons };
      break;
    }
    await carryRefusals(run, stored);
    result.done = version;
    run.around.progress('rebuilding', version, due);
  }
  if (staged !== null) await rebuilt.blobs.discardStaged(staged);
}

/** Ends the rebuild, keeping the versions so far, at data that the source no longer has. */
async function makeAgain(
  run: RebuildRun,
  engine: RebuildEngine,
  stored: StoredEntry,
  known: KnownTargets,
): Promise<Reproduced> {
  try {
    if (stored.entry.undo === undefined) return await reproduceVersion(run, engine, stored, known);
    const made = await undoAgain(run, engine, stored);
    return made.kind === 'nothing'
      ? { kind: 'refused', reasons: ['nothing that it undid is here'] }
      : made;
  } catch (fault) {
    if (fault instanceof VersionLogDamaged || fault instanceof BlobMissing)
      return { kind: 'refused', reasons: [fault.message] };
    throw fault;
  }
}

/** Returns the model with the hyper-parameters that made the version. */
async function engineOf({ around }: RebuildRun, { entry }: StoredEntry): Promise<RebuildEngine> {
  const engine = await around.engines.with(entry.parameters as unknown as HyperParameters);
  const { base, parameters } = engine.madeWith;
  const made = `version ${entry.version} was made with`;
  const named = ({ name, sha256 }: typeof base): string => `${name} (${sha256.slice(0, 12)})`;
  if (base.sha256 !== entry.base.sha256)
    throw new RebuildRefused(
      `${made} ${named(entry.base)}, the model here is ${named(base)}`,
      'Set ERRATA_MODEL to the model that it was made with; ' +
        'or name the other one with --model, and a fork is made on it.',
    );
  if (!sameParameters(parameters, entry.parameters))
    throw new RebuildRefused(
      `${made} hyper-parameters that this version of Errata does not take as they are`,
      'Give hyper-parameters with --hyper-parameters, and a fork is made with them.',
    );
  return engine;
}

/** Registers the version's refusals, so that their ids are decided here too. */
async function carryRefusals(
  { source, rebuilt }: RebuildRun,
  { entry }: StoredEntry,
): Promise<void> {
  const added = new Set(entry.added.map(({ correctionId }) => correctionId));
  const beside = (await searchesOf(source, entry))
    .flatMap(({ search }) => search.edits)
    .map(revisionId)
    .filter((id) => !added.has(id));
  if (beside.length === 0) return;
  const outcomes = await source.registered.outcomesOf(beside);
  const refused = [...outcomes.values()]
    .filter(({ status }) => status === 'QUARANTINED')
    .map((outcome) => ({ ...outcome, lineage: rebuilt.lineage }));
  await (await rebuilt.register()).settle(refused);
}
