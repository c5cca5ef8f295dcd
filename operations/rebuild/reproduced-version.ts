/**
 * One version made again on the base that it was made on: its searches run again as they were
 * asked, its pairs derived again from what they find, its probes asked again. The same machine
 * gives the same bits.
 */
import { revisionId, type CorrectionRevision } from '../../schemas/correction.ts';
import type { CommitResult, Refusal, TargetShard } from '../../schemas/editing.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { VersionEntry } from '../../schemas/version-entry.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import {
  addedRevisions,
  removalsOf,
  retractionsOf,
  searchesOf,
  type NamedSearch,
} from './source-words.ts';
import type { Workplace } from './workplace.ts';

export type Reproduced =
  { kind: 'made'; version: number; hash: string } | { kind: 'refused'; reasons: string[] };

export interface Reproduction {
  source: VersionLog;
  rebuilt: VersionLog;
  verdict: VerdictSettings;
  /** The words to be used for a record, where they are not the log's. */
  reword: <Revision extends CorrectionRevision>(revision: Revision) => Revision;
}

/**
 * Targets that were found already, by the search that asked for them; two parts of a batch may come
 * of one search.
 */
export type KnownTargets = Map<string, TargetShard>;

/** Makes the entry's version in the rebuilt lineage, whose HEAD is the version before. */
export async function reproduceVersion(
  place: Workplace,
  { entry, hash }: StoredEntry,
  known: KnownTargets,
  { source, rebuilt, verdict, reword }: Reproduction,
): Promise<Reproduced> {
  const { steps } = place;
  const lineage = rebuilt.lineage;
  const history = await rebuilt.read();
  const { head } = history;
  const { batchId } = entry;
  const edits = addedRevisions(entry).map(reword);
  const removals = removalsOf(entry, history);
  const searches =
    edits.length === 0
      ? []
      : ((await searchesOf(source, entry)) ?? [searchOfOld(entry, edits, removals)]);

  const shards: TargetShard[] = [];
  for (const { sha256, search } of searches) {
    let shard = known.get(sha256);
    if (shard === undefined) {
      // The search may be of before a version that another part of its batch made.
      const on =
        search.head.version === head.version ? head : (await rebuilt.at(search.head.version)).head;
      shard = await steps.computeTargets({
        lineage,
        batchId,
        head: on,
        edits: search.edits.map(reword),
        removals: search.removals,
      });
      known.set(sha256, shard);
    }
    shards.push(shard);
  }
  const step = { lineage, batchId, head, edits, removals };
  const staged = await steps.stageUpdate({ ...step, shards });
  const refused = [...shards.flatMap((shard) => shard.refused), ...staged.refused];
  if (staged.rows.join('\n') !== edits.map(revisionId).join('\n'))
    return { kind: 'refused', reasons: reasonsOf(edits, staged.rows, refused) };
  const probes = await steps.runProbes({ ...step, staged, settings: settledFor(entry, verdict) });
  if (!probes.verdict.pass)
    return {
      kind: 'refused',
      reasons: [...probes.verdict.reasons, ...probes.verdict.failing.map(inWords)],
    };
  const result = await steps.commitVersion({
    ...step,
    withdrawals: retractionsOf(entry),
    staged,
    probes,
    workflow: rebuiltBy(source.lineage, hash),
  });
  return resultOf(result);
}

/**
 * Who made a rebuilt version: instead of a workflow and its run, the lineage and the hash of the
 * entry that it is made after.
 */
export function rebuiltBy(lineage: string, hash: string): { workflowId: string; runId: string } {
  return { workflowId: `rebuild/${lineage}`, runId: hash };
}

export function resultOf(result: CommitResult): Reproduced {
  return result.kind === 'committed'
    ? { kind: 'made', version: result.version, hash: result.hash }
    : {
        kind: 'refused',
        reasons: [
          `the rebuilt lineage moved to version ${result.head.version} meanwhile: does another process rebuild it?`,
        ],
      };
}

/**
 * The thresholds as configured, but none that the version did not meet when it was made: which
 * thresholds held then is not in the log, and that they have changed since is not for a rebuild to
 * judge.
 */
export function settledFor(
  { probes: { after } }: Pick<VersionEntry, 'probes'>,
  verdict: VerdictSettings,
): VerdictSettings {
  const least = (min: number, measured: number | null): number => Math.min(min, measured ?? min);
  const most = (max: number, measured: number): number =>
    Math.max(max, measured * (1 + MEASURED_AGAIN_WITHIN));
  return {
    ...verdict,
    requireEffective:
      verdict.requireEffective && (after.efficacy ?? 1) === 1 && (after.efficacyGreedy ?? 1) === 1,
    generalisationMin: least(verdict.generalisationMin, after.generalisation),
    localityMin: least(verdict.localityMin, after.locality),
    retentionMin: least(verdict.retentionMin, after.retention),
    canaryRatioMax: most(verdict.canaryRatioMax, after.canaryRatio),
    editNormMax: most(verdict.editNormMax, after.editNorm),
  };
}

/** Perplexity and norm, measured again on another machine, relative. */
const MEASURED_AGAIN_WITHIN = 1e-3;

/**
 * Of before searches were kept: what was written is searched for together, without what was refused
 * beside it.
 */
function searchOfOld(
  entry: VersionEntry,
  edits: CorrectionRevision[],
  removals: NamedSearch['search']['removals'],
): NamedSearch {
  return {
    sha256: `of version ${entry.version}`,
    search: { head: { version: entry.version - 1, hash: entry.parent }, edits, removals },
  };
}

function reasonsOf(
  edits: readonly CorrectionRevision[],
  rows: readonly string[],
  refused: readonly Refusal[],
): string[] {
  const written = new Set(rows);
  const missing = edits.map(revisionId).filter((id) => !written.has(id));
  if (missing.length === 0) return ['its corrections come out in another order'];
  return missing.map((id) =>
    inWords(
      refused.find((refusal) => refusal.id === id) ?? {
        id,
        reason: 'none of its searches was for it',
      },
    ),
  );
}

function inWords({ id, reason }: Pick<Refusal, 'id' | 'reason'>): string {
  return `"${id}": ${reason}`;
}
