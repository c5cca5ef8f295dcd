/**
 * Registers outcomes and announces them on the topics. Each version comes first, so that a consumer
 * of an outcome finds its version. If a batch was interrupted, the next call announces its version.
 */
import type { Outcome } from '../schemas/outcome.ts';
import type { HookVersion } from '../schemas/hook-version.ts';
import type { StoredEntry } from '../versions/log/history.ts';
import type { Versions } from '../versions/versions.ts';

export type AnnounceActivities = ReturnType<typeof announceActivities>;

interface AnnounceStep {
  lineage: string;
  outcomes: Outcome[];
  version: number | null;
}

/** Writes the outcomes and versions topics. */
export interface Announcer {
  announceVersion(version: HookVersion): Promise<void>;
  announceOutcomes(lineage: string, outcomes: readonly Outcome[]): Promise<void>;
}

export function announceActivities({
  announcer,
  versions,
}: {
  announcer: Announcer;
  versions: Versions;
}) {
  return {
    /**
     * Returns the outcomes as registered: an id that was decided earlier keeps its outcome. A
     * repeated announcement has the same bytes and the same key.
     */
    async announce({ lineage, outcomes, version }: AnnounceStep): Promise<Outcome[]> {
      const log = versions.log(lineage);
      const register = await log.register();
      const registered = await register.settle(outcomes);
      const announced = new Set<string>();
      const newest = Math.max(version ?? 0, (await log.read()).head.version);
      for (const pending of await register.unannounced(newest)) {
        const stored = await log.entry(pending);
        const decided = await register.outcomesOfEntry(stored.entry);
        await announcer.announceVersion(hookVersionOf(stored));
        await announcer.announceOutcomes(lineage, decided);
        await register.markAnnounced(pending);
        for (const outcome of decided) announced.add(nameOf(outcome));
      }
      const rest = registered.filter((outcome) => !announced.has(nameOf(outcome)));
      if (rest.length > 0) await announcer.announceOutcomes(lineage, rest);
      return registered;
    },
  };
}

function nameOf({ revisionId, status, position }: Outcome): string {
  return `${status} ${position.topic}-${position.partition}-${position.offset} ${revisionId}`;
}

function hookVersionOf({ entry, hash }: StoredEntry): HookVersion {
  const { lineage, version, parent, batchId, corrections } = entry;
  const [added, removed] = [entry.added.length, entry.removed.length];
  const createdAt = Date.parse(entry.createdAt);
  return { lineage, version, hash, parent, batchId, added, removed, corrections, createdAt };
}
