/**
 * The histories of workflows that have ended, kept beside the versions that they made: Temporal
 * forgets a run when its namespace's retention is over, and an audit asks later than that. Each run
 * is a sealed object, written once, whoever writes it. The bytes of a history are those that
 * Temporal had: payloads that are encrypted there are encrypted here.
 */
import { gunzipSync, gzip } from 'node:zlib';
import { promisify } from 'node:util';
import { z } from 'zod';
import { VersionLogDamaged } from '../log/failures.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { sealed, unsealed } from '../log/sealed.ts';
import { hashed } from '../log/object-names.ts';

export interface ArchivedRun {
  workflowId: string;
  runId: string;
  /** The workflow's type. */
  type: string;
  /** As Temporal names it: COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED_AS_NEW, TIMED_OUT. */
  status: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  closedAt: number;
  /**
   * JSON as Temporal's own tools read and write it; null where it was larger than is kept, as
   * `omitted` says.
   */
  history: string | null;
  omitted: string | null;
}

/**
 * Largest history that is kept, in characters of its JSON. Temporal ends a run whose history has 50
 * MB; JSON writes their bytes in base64.
 */
export const HISTORY_CHARACTERS_MAX = 128 * 2 ** 20;

/**
 * Runs of one workflow that are looked at for the latest one. A lineage goes on as new every few
 * thousand events.
 */
const RUNS_MAX = 10_000;

export class HistoryArchive {
  readonly #store: ObjectStore;
  readonly #lineage: string;

  constructor(store: ObjectStore, lineage: string) {
    this.#store = store;
    this.#lineage = lineage;
  }

  /** Keeps a run; of any number of writers one does. */
  async put(run: ArchivedRun): Promise<'stored' | 'exists'> {
    const tooLarge = run.history !== null && run.history.length > HISTORY_CHARACTERS_MAX;
    const history =
      run.history === null || tooLarge
        ? null
        : (await compressed(Buffer.from(run.history))).toString('base64');
    const omitted = tooLarge
      ? `its history has ${run.history!.length} characters, at most ${HISTORY_CHARACTERS_MAX} are kept`
      : run.omitted;
    return await this.#store.putIfAbsent(
      this.#nameOf(run),
      sealed({ ...run, history, omitted } satisfies StoredRun),
    );
  }

  async has(run: { workflowId: string; runId: string }): Promise<boolean> {
    for await (const name of this.#store.list(this.#nameOf(run))) return name === this.#nameOf(run);
    return false;
  }

  /** Null where the run is not kept. Throws `VersionLogDamaged`. */
  async get(run: { workflowId: string; runId: string }): Promise<ArchivedRun | null> {
    const stored = await this.#read(run);
    return stored === null ? null : this.#unpacked(stored);
  }

  /** The runs of a workflow that are kept, by id, in no order that means anything. */
  async runIds(workflowId: string): Promise<string[]> {
    const ids: string[] = [];
    for await (const name of this.#store.list(this.#folderOf(workflowId))) {
      ids.push(name.slice(this.#folderOf(workflowId).length, -'.json'.length));
      if (ids.length === RUNS_MAX) break;
    }
    return ids;
  }

  /**
   * The kept run of a workflow that was started last; null where none is. Throws
   * `VersionLogDamaged`.
   */
  async latest(workflowId: string): Promise<ArchivedRun | null> {
    let latest: StoredRun | null = null;
    for (const runId of await this.runIds(workflowId)) {
      const run = await this.#read({ workflowId, runId });
      if (run !== null && (latest === null || run.startedAt > latest.startedAt)) latest = run;
    }
    return latest === null ? null : this.#unpacked(latest);
  }

  async #read(run: { workflowId: string; runId: string }): Promise<StoredRun | null> {
    const bytes = await this.#store.get(this.#nameOf(run));
    return bytes === null
      ? null
      : this.#sound(run, () => {
          const stored = storedRun.parse(unsealed(bytes));
          if (stored.workflowId !== run.workflowId || stored.runId !== run.runId)
            throw new TypeError(`it is run ${stored.runId} of ${stored.workflowId}`);
          return stored;
        });
  }

  #unpacked(stored: StoredRun): ArchivedRun {
    const { history } = stored;
    return {
      ...stored,
      history:
        history === null
          ? null
          : this.#sound(stored, () =>
              gunzipSync(Buffer.from(history, 'base64'), {
                maxOutputLength: HISTORY_BYTES_MAX,
              }).toString('utf8'),
            ),
    };
  }

  #sound<Value>(run: { workflowId: string; runId: string }, read: () => Value): Value {
    try {
      return read();
    } catch (fault) {
      throw new VersionLogDamaged(
        this.#lineage,
        this.#nameOf(run),
        fault instanceof Error ? fault.message : String(fault),
      );
    }
  }

  #nameOf({ workflowId, runId }: { workflowId: string; runId: string }): string {
    return `${this.#folderOf(workflowId)}${runId}.json`;
  }

  #folderOf(workflowId: string): string {
    return `lineages/${this.#lineage}/histories/${hashed(workflowId)}/`;
  }
}

/** A character is at most three bytes of UTF-8. */
const HISTORY_BYTES_MAX = 3 * HISTORY_CHARACTERS_MAX;

const storedRun = z.object({
  workflowId: z.string(),
  runId: z.string(),
  type: z.string(),
  status: z.string(),
  startedAt: z.number(),
  closedAt: z.number(),
  /** gzip, in base64. */
  history: z.string().nullable(),
  omitted: z.string().nullable(),
});

type StoredRun = z.infer<typeof storedRun>;

const compressed = promisify(gzip);
