/** Tells the topics what was decided: a version first, so that whoever hears of a correction finds its version. */
import type { Outcome } from '../schemas/editing.ts';
import type { HookVersion } from '../schemas/hook-version.ts';

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
  /** What the version log says of a version. */
  versionOf(lineage: string, version: number): Promise<HookVersion>;
}

export function announceActivities(dependencies: AnnounceDependencies): AnnounceActivities {
  return {
    async announce({ lineage, outcomes, version }) {
      if (version !== null) await dependencies.announcer.announceVersion(await dependencies.versionOf(lineage, version));
      if (outcomes.length > 0) await dependencies.announcer.announceOutcomes(lineage, outcomes);
    },
  };
}
