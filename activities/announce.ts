/** Tells the topics what was decided: a version first, so that whoever hears of a correction finds its version. */
import type { Outcome } from '../schemas/editing.ts';
import type { HookVersion } from '../schemas/hook-version.ts';
import type { StoredEntry } from '../versions/history.ts';
import type { Versions } from '../versions/versions.ts';

export interface AnnounceActivities {
  /** May tell the same thing twice; an outcome and a version are the same bytes under the same key each time. */
  announce(step: { lineage: string; outcomes: Outcome[]; version: number | null }): Promise<void>;
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
      if (version !== null) {
        const { entries } = await versions.log(lineage).at(version);
        await announcer.announceVersion(hookVersionOf(entries[version - 1]!));
      }
      if (outcomes.length > 0) await announcer.announceOutcomes(lineage, outcomes);
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
