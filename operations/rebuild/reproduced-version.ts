/**
 * Reproduces one version on its own base: repeats its searches with the same inputs, derives its
 * pairs from the results, and repeats its probes. The same machine gives the same bits.
 */
import { revisionId, type CorrectionRevision } from '../../schemas/correction.ts';
import type { CommitResult, Refusal, TargetShard, Verdict } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import type { RebuildEngine } from './rebuild-engines.ts';
import { rebuiltBy, type RebuildRun } from './rebuild-run.ts';
import { addedRevisions, removalsOf, retractionsOf, searchesOf } from './source-revisions.ts';

export type Reproduced =
  { kind: 'made'; version: number; hash: string } | { kind: 'refused'; reasons: string[] };

/**
 * Targets that were found already, by the hash of their search: two parts of a batch may share a
 * search.
 */
export type KnownTargets = Map<string, TargetShard>;

/** Makes the entry's version in the rebuilt lineage, whose HEAD is the version before. */
export async function reproduceVersion(
  { source, rebuilt, revised, request }: RebuildRun,
  { steps }: RebuildEngine,
  { entry, hash }: StoredEntry,
  known: KnownTargets,
): Promise<Reproduced> {
  const { lineage } = rebuilt;
  const history = await rebuilt.read();
  const { head } = history;
  const { batchId } = entry;
  const edits = addedRevisions(entry).map(revised);
  const shards: TargetShard[] = [];
  for (const { sha256, search } of await searchesOf(source, entry)) {
    let shard = known.get(sha256);
    if (shard === undefined) {
      // The search may precede a version that another part of its batch made.
      const { version } = search.head;
      const on = version === head.version ? head : (await rebuilt.at(version)).head;
      const { removals } = search;
      const searched = { lineage, batchId, head: on, edits: search.edits.map(revised), removals };
      shard = await steps.computeTargets(searched);
      known.set(sha256, shard);
    }
    shards.push(shard);
  }
  const step = { lineage, batchId, head, edits, removals: removalsOf(entry, history) };
  const staged = await steps.stageUpdate({ ...step, shards });
  if (staged.rows.join('\n') !== edits.map(revisionId).join('\n')) {
    const refused = [...shards.flatMap((shard) => shard.refused), ...staged.refused];
    return { kind: 'refused', reasons: reasonsOf(edits, staged.rows, refused) };
  }
  const settings = settingsAlikeFor(entry, request.settings.verdict);
  const probes = await steps.runProbes({ ...step, staged, settings });
  if (!probes.verdict.pass) return { kind: 'refused', reasons: verdictReasons(probes.verdict) };
  const withdrawals = retractionsOf(entry);
  const workflow = rebuiltBy(source.lineage, hash);
  return resultOf(await steps.commitVersion({ ...step, withdrawals, staged, probes, workflow }));
}

export function resultOf(result: CommitResult): Reproduced {
  if (result.kind === 'committed')
    return { kind: 'made', version: result.version, hash: result.hash };
  const moved = `the rebuilt lineage moved to version ${result.head.version} meanwhile`;
  return { kind: 'refused', reasons: [`${moved}: does another process rebuild it?`] };
}

/**
 * Returns the configured thresholds, relaxed to the values measured in the version where it did not
 * meet them. The log does not store the thresholds of that time, and a rebuild must not fail
 * because they changed.
 */
export function settingsAlikeFor(
  { probes: { after } }: Pick<VersionEntry, 'probes'>,
  verdict: VerdictSettings,
): VerdictSettings {
  const least = (min: number, measured: number | null): number => Math.min(min, measured ?? min);
  const most = (max: number, measured: number): number =>
    Math.max(max, measured * (1 + MEASURED_AGAIN_WITHIN));
  const isEffective = (after.efficacy ?? 1) === 1 && (after.efficacyGreedy ?? 1) === 1;
  return {
    ...verdict,
    requireEffective: verdict.requireEffective && isEffective,
    generalisationMin: least(verdict.generalisationMin, after.generalisation),
    localityMin: least(verdict.localityMin, after.locality),
    retentionMin: least(verdict.retentionMin, after.retention),
    canaryRatioMax: most(verdict.canaryRatioMax, after.canaryRatio),
    editNormMax: most(verdict.editNormMax, after.editNorm),
  };
}

/** Relative tolerance of perplexity and norm when measured again on another machine. */
const MEASURED_AGAIN_WITHIN = 1e-3;

export function verdictReasons({ reasons, failing }: Verdict): string[] {
  return [...reasons, ...failing.map(described)];
}

function reasonsOf(
  edits: readonly CorrectionRevision[],
  rows: readonly string[],
  refused: readonly Refusal[],
): string[] {
  const written = new Set(rows);
  const missing = edits.map(revisionId).filter((id) => !written.has(id));
  if (missing.length === 0) return ['its corrections come out in another order'];
  const refusals = new Map(refused.map((refusal) => [refusal.id, refusal]));
  return missing.map((id) =>
    described(refusals.get(id) ?? { id, reason: 'none of its searches was for it' }),
  );
}

function described({ id, reason }: Pick<Refusal, 'id' | 'reason'>): string {
  return `"${id}": ${reason}`;
}
