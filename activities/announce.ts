/**
 * Registers what was decided and tells the topics: a version first, so that whoever hears of a correction finds its
 * version.
 */
import type { Outcome } from '../schemas/editing.ts';
import type { HookVersion } from '../schemas/hook-version.ts';
import type { StoredEntry } from '../versions/history.ts';
import type { Versions } from '../versions/versions.ts';

export interface AnnounceActivities {
  /**
   * Gives the outcomes as they stand: an id that was decided before keeps what it became. May tell the same thing twice;
   * an outcome and a version are the same bytes under the same key each time.
   */
  announce(step: { lineage: string; outcomes: Outcome[]; version: number | null }): Promise<Outcome[]>;
}

/** Where announcements go: the outcomes and versions topics, whose writing is the pipelines' affair. */
export interface Announcer {
  announceVersion(version: HookVersion): Promise<void>;
  announceOutcomes(lineage: string, outcomes: readonly Outcome[]): Promise<void>;
}

export interface AnnounceDependencies {
  announcer: Announcer;
  versions: Versions;
}

export function announceActivities({ announcer, versions }: AnnounceDependencies): AnnounceActivities {
  return {
    async announce({ lineage, outcomes, version }) {
      const log = versions.log(lineage);
      const standing = outcomes.length === 0 ? [] : await (await log.register()).settle(outcomes);
      if (version !== null) await announcer.announceVersion(hookVersionOf(await log.entry(version)));
      if (standing.length > 0) await announcer.announceOutcomes(lineage, standing);
      return standing;
    },
  };
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
