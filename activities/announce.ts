/**
 * Registers what was decided and tells the topics: a version first, so that whoever hears of a
 * correction finds its version. A version whose batch was cut off before is announced by
 * whoever announces next.
 */
import type { Outcome } from '../schemas/editing.ts';
import type { HookVersion } from '../schemas/hook-version.ts';
import type { StoredEntry } from '../versions/log/history.ts';
import type { Versions } from '../versions/versions.ts';

export type AnnounceActivities = ReturnType<typeof announceActivities>;

export interface AnnounceStep {
  lineage: string;
  outcomes: Outcome[];
  version: number | null;
}

/**
 * Where announcements go: the outcomes and versions topics, whose writing is the pipelines' affair.
 */
export interface Announcer {
  announceVersion(version: HookVersion): Promise<void>;
  announceOutcomes(lineage: string, outcomes: readonly Outcome[]): Promise<void>;
}

export interface AnnounceDependencies {
  announcer: Announcer;
  versions: Versions;
}

export function announceActivities({ announcer, versions }: AnnounceDependencies) {
  return {
    /**
     * Returns the outcomes as registered: an id that was decided before keeps its outcome. May
     * announce the same thing twice, each time with the same bytes under the same key.
     */
    async announce({ lineage, outcomes, version }: AnnounceStep): Promise<Outcome[]> {
      const log = versions.log(lineage);
      const register = await log.register();
      const standing = await register.settle(outcomes);
      const announced = new Set<string>();
      for (const untold of await register.unannounced(
        Math.max(version ?? 0, (await log.read()).head.version),
      )) {
        const stored = await log.entry(untold);
        const decided = await register.outcomesOfEntry(stored.entry);
        await announcer.announceVersion(hookVersionOf(stored));
        await announcer.announceOutcomes(lineage, decided);
        await register.markAnnounced(untold);
        for (const outcome of decided) announced.add(nameOf(outcome));
      }
      const rest = standing.filter((outcome) => !announced.has(nameOf(outcome)));
      if (rest.length > 0) await announcer.announceOutcomes(lineage, rest);
      return standing;
    },
  };
}

function nameOf({ revisionId, status, position }: Outcome): string {
  return `${status} ${position.topic}-${position.partition}-${position.offset} ${revisionId}`;
}

export function hookVersionOf({ entry, hash }: StoredEntry): HookVersion {
  return {
    lineage: entry.lineage,
    version: entry.version,
    hash,
    parent: entry.parent,
    batchId: entry.batchId,
    added: entry.added.length,
    removed: entry.removed.length,
    corrections: entry.corrections,
    createdAt: Date.parse(entry.createdAt),
  };
}
