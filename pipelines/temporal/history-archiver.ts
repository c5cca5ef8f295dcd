/**
 * Archives the history of every ended run, before Temporal deletes it. It compares Temporal and the
 * version log with the archive, so it catches up after any downtime and several archivers may run.
 * It waits during an outage of Temporal or the archive.
 */
import { setTimeout } from 'node:timers/promises';
import { messageOf } from '../../schemas/failures.ts';
import type { Logger } from '../logger.ts';
import {
  jsonOfHistory,
  lineageOfWorkflow,
  workflowsOf,
  type History,
  type WorkflowRun,
} from './temporal-runs.ts';

export interface KnownRuns {
  list(query: string): AsyncIterable<WorkflowRun>;
  describe(workflowId: string, runId: string): Promise<{ run: WorkflowRun } | null>;
  history(workflowId: string, runId: string): Promise<History | null>;
}

/** The archive of a lineage's histories, and the runs that its versions name. */
export interface HistoryShelf {
  has(run: RunName): Promise<boolean>;
  put(run: KeptRun): Promise<unknown>;
  /** Yields the runs that made the versions after `version`, ascending. */
  runsAfter(version: number): AsyncIterable<RunName & { version: number }>;
}

export type RunName = Pick<WorkflowRun, 'workflowId' | 'runId'>;

export interface KeptRun extends WorkflowRun {
  closedAt: number;
  history: string | null;
  omitted: string | null;
}

export interface ArchiverParts {
  lineages: readonly string[];
  runs: KnownRuns;
  shelf(lineage: string): HistoryShelf;
  logger: Logger;
}

export interface Caught {
  archived: number;
  /** Number of runs that a version names and that neither Temporal nor the archive has. */
  lost: number;
}

const LOOK_EVERY_MS = 15_000;
/** Interval of full scans. Scans in between only go back to the previous one. */
const LOOK_AT_ALL_EVERY_MS = 6 * 3_600_000;
const LIST_LAG_MAX_MS = 10 * 60_000;
/** Pause between histories, which are read one after the other: batches have priority. */
const PAUSE_MS = 20;

export class HistoryArchiver {
  readonly #places = new Map<string, Place>();
  #outage: string | null = null;
  #stopping = false;
  readonly #wake = new AbortController();
  #ended: Promise<void> = Promise.resolve();

  constructor(private readonly parts: ArchiverParts) {}

  start(): void {
    this.#ended = this.#run();
  }

  /** Waits for the history that is being archived. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake.abort();
    await this.#ended;
  }

  /** Archives ended runs that are missing. Throws if Temporal or the archive is unavailable. */
  async catchUp(lineage: string, now = Date.now()): Promise<Caught> {
    const shelf = this.parts.shelf(lineage);
    const unseen = { lookedAt: null, allLookedAt: 0, version: 0, lost: new Set<number>() };
    const place: Place = this.#places.get(lineage) ?? unseen;
    this.#places.set(lineage, place);
    const all = place.lookedAt === null || now - place.allLookedAt >= LOOK_AT_ALL_EVERY_MS;
    const since = all
      ? ''
      : ` AND CloseTime > "${new Date(place.lookedAt! - LIST_LAG_MAX_MS).toISOString()}"`;
    let archived = 0;
    for await (const run of this.parts.runs.list(
      `${workflowsOf(lineage)} AND ExecutionStatus != "Running"${since}`,
    )) {
      if (this.#stopping) break;
      if (await this.#archive(shelf, run)) archived++;
    }
    archived += await this.#ofVersions(lineage, shelf, place);
    if (!this.#stopping) {
      place.lookedAt = now;
      if (all) place.allLookedAt = now;
    }
    return { archived, lost: place.lost.size };
  }

  /** Archives the runs that versions name, since Temporal's lists may miss some. */
  async #ofVersions(lineage: string, shelf: HistoryShelf, place: Place): Promise<number> {
    let archived = 0;
    let open = false;
    for await (const { version, workflowId, runId } of shelf.runsAfter(place.version)) {
      if (this.#stopping) break;
      // A lineage may have been rebuilt from another, whose archive has the history.
      const kept =
        lineageOfWorkflow(workflowId) !== lineage || (await shelf.has({ workflowId, runId }));
      const found = kept ? null : await this.parts.runs.describe(workflowId, runId);
      if (!kept && found === null) this.#lost(lineage, place, { version, workflowId, runId });
      if (found !== null && (await this.#archive(shelf, found.run))) archived++;
      open ||= found !== null && found.run.closedAt === null;
      if (!open) place.version = version;
    }
    return archived;
  }

  #lost(lineage: string, place: Place, run: RunName & { version: number }): void {
    if (place.lost.has(run.version)) return;
    place.lost.add(run.version);
    this.parts.logger.warn({ lineage, ...run }, 'The history of a version is lost');
  }

  async #archive(shelf: HistoryShelf, run: WorkflowRun): Promise<boolean> {
    const { closedAt } = run;
    if (closedAt === null || (await shelf.has(run))) return false;
    const history = await this.#historyOf(run);
    // Temporal deleted it after the list was made.
    if (history === null) return false;
    await shelf.put({ ...run, closedAt, ...history });
    await setTimeout(PAUSE_MS);
    return true;
  }

  async #historyOf({
    workflowId,
    runId,
  }: WorkflowRun): Promise<Pick<KeptRun, 'history' | 'omitted'> | null> {
    try {
      const history = await this.parts.runs.history(workflowId, runId);
      return history === null ? null : { history: jsonOfHistory(history), omitted: null };
    } catch (error) {
      // A history too long for a string must not keep the others from being archived.
      if (error instanceof RangeError) return { history: null, omitted: error.message };
      throw error;
    }
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      for (const lineage of this.parts.lineages) {
        if (this.#stopping) return;
        try {
          const { archived } = await this.catchUp(lineage);
          if (archived > 0) this.parts.logger.debug({ lineage, archived }, 'Histories archived');
          if (this.#outage !== null)
            this.parts.logger.info({ lineage }, 'Histories are archived again');
          this.#outage = null;
        } catch (error) {
          const reason = messageOf(error);
          if (this.#outage === null)
            this.parts.logger.warn({ lineage, reason }, 'Histories cannot be archived for now');
          this.#outage = reason;
        }
      }
      const { signal } = this.#wake;
      await setTimeout(LOOK_EVERY_MS, null, { signal }).catch(() => {});
    }
  }
}

/** The progress in one lineage; without it the whole lineage is scanned again. */
interface Place {
  lookedAt: number | null;
  allLookedAt: number;
  /** The runs of the versions through this one are archived or lost. */
  version: number;
  /** Versions whose run is lost; each is logged once. */
  lost: Set<number>;
}
