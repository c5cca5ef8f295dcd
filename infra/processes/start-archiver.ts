/** Runs the archiver, which copies histories from Temporal to the version log. */
import { HistoryArchiver, type HistoryShelf } from '../../pipelines/temporal/history-archiver.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { TemporalRuns } from '../../pipelines/temporal/temporal-runs.ts';
import type { Versions } from '../../versions/versions.ts';
import type { Configuration } from '../config/configuration.ts';
import { temporalLineages } from '../config/connections.ts';

export function startArchiver(
  configuration: Configuration,
  versions: Versions,
  logger: Logger,
): { stop(): Promise<void> } {
  const temporal = temporalLineages(configuration);
  const archiver = new HistoryArchiver({
    lineages: configuration.lineages,
    runs: new TemporalRuns(temporal.client),
    shelf: (lineage) => shelfOf(versions, lineage),
    logger,
  });
  archiver.start();
  return {
    async stop() {
      await archiver.stop();
      await temporal.close();
    },
  };
}

/** Maximum number of entries read at once in a pass over the log. */
const ENTRIES_AT_ONCE_MAX = 64;

export function shelfOf(versions: Versions, lineage: string): HistoryShelf {
  const archive = versions.histories(lineage);
  const log = versions.log(lineage);
  return {
    has: (run) => archive.has(run),
    put: (run) => archive.put(run),
    async *runsAfter(version) {
      const { head } = await log.read();
      for (let first = version + 1; first <= head.version; first += ENTRIES_AT_ONCE_MAX) {
        for (const { entry } of await log.entries(
          first,
          Math.min(head.version, first + ENTRIES_AT_ONCE_MAX - 1),
        ))
          yield { version: entry.version, ...entry.workflow };
      }
    },
  };
}
