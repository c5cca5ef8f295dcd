/**
 * Archives the histories of closed workflows beside the versions that they made. Temporal deletes a
 * run after its namespace's retention period, and an audit may come later. Each run is a sealed
 * object, written once. A history's bytes are Temporal's own, so encrypted payloads stay encrypted.
 */
import { promisify } from 'node:util';
import { gunzipSync, gzip } from 'node:zlib';
import { z } from 'zod';
import { hashed } from '../log/object-names.ts';
import { parsedOf, readSealed, sealed } from '../log/sealed.ts';
import type { ObjectStore } from '../stores/object-store.ts';

const storedRun = z.object({
  workflowId: z.string(),
  runId: z.string(),
  type: z.string(),
  /** Temporal's name: COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED_AS_NEW, TIMED_OUT. */
  status: z.string(),
  /** Milliseconds since 1970. */
  startedAt: z.number(),
  closedAt: z.number(),
  /** JSON as Temporal's own tools read and write it; null where it is too large to keep. */
  history: z.string().nullable(),
  /** The reason that the history is missing. */
  omitted: z.string().nullable(),
});

/** A run with its history in plain text. The stored form is compressed by gzip, in base64. */
export type ArchivedRun = z.infer<typeof storedRun>;

type RunName = Pick<ArchivedRun, 'workflowId' | 'runId'>;

/**
 * Largest history that is kept, in characters of its JSON. Temporal ends a run whose history has 50
 * MB; JSON writes its bytes in base64.
 */
export const HISTORY_CHARACTERS_MAX = 128 * 2 ** 20;
/** A character has at most three bytes of UTF-8. */
const HISTORY_BYTES_MAX = 3 * HISTORY_CHARACTERS_MAX;

/**
 * Runs of one workflow that `latest` reads. A lineage continues as new every few thousand events.
 */
const RUNS_MAX = 10_000;

export class HistoryArchive {
  constructor(
    private readonly store: ObjectStore,
    private readonly lineage: string,
  ) {}

  /** Stores a run; an existing one is kept. */
  async put({ history, ...run }: ArchivedRun): Promise<'stored' | 'exists'> {
    const characters = history?.length ?? 0;
    const stored: ArchivedRun =
      history === null || characters > HISTORY_CHARACTERS_MAX
        ? { ...run, history: null }
        : { ...run, history: (await compressed(Buffer.from(history))).toString('base64') };
    if (characters > HISTORY_CHARACTERS_MAX)
      stored.omitted =
        `its history has ${characters} characters, ` + `at most ${HISTORY_CHARACTERS_MAX} are kept`;
    return await this.store.putIfAbsent(this.#nameOf(run), sealed(stored));
  }

  async has(run: RunName): Promise<boolean> {
    for await (const name of this.store.list(this.#nameOf(run))) return name === this.#nameOf(run);
    return false;
  }

  /** Reads a run; null where it is not archived. Throws `VersionLogDamaged`. */
  async get(run: RunName): Promise<ArchivedRun | null> {
    const stored = await this.#read(run);
    return stored === null ? null : this.#unpacked(stored);
  }

  /** Lists the ids of a workflow's archived runs, unordered. */
  async runIds(workflowId: string): Promise<string[]> {
    const folder = this.#folderOf(workflowId);
    const ids: string[] = [];
    for await (const name of this.store.list(folder)) {
      ids.push(name.slice(folder.length, -'.json'.length));
      if (ids.length === RUNS_MAX) break;
    }
    return ids;
  }

  /** Reads the archived run of a workflow that started last. Throws `VersionLogDamaged`. */
  async latest(workflowId: string): Promise<ArchivedRun | null> {
    let latest: ArchivedRun | null = null;
    for (const runId of await this.runIds(workflowId)) {
      const run = await this.#read({ workflowId, runId });
      if (run !== null && (latest === null || run.startedAt > latest.startedAt)) latest = run;
    }
    return latest === null ? null : this.#unpacked(latest);
  }

  async #read(run: RunName): Promise<ArchivedRun | null> {
    return await readSealed(this.store, this.lineage, this.#nameOf(run), (content) => {
      const stored = storedRun.parse(content);
      if (stored.workflowId !== run.workflowId || stored.runId !== run.runId)
        throw new TypeError(`it is run ${stored.runId} of ${stored.workflowId}`);
      return stored;
    });
  }

  #unpacked(stored: ArchivedRun): ArchivedRun {
    const { history } = stored;
    if (history === null) return stored;
    const limits = { maxOutputLength: HISTORY_BYTES_MAX };
    return parsedOf(this.lineage, this.#nameOf(stored), () => ({
      ...stored,
      history: gunzipSync(Buffer.from(history, 'base64'), limits).toString('utf8'),
    }));
  }

  #nameOf({ workflowId, runId }: RunName): string {
    return `${this.#folderOf(workflowId)}${runId}.json`;
  }

  #folderOf(workflowId: string): string {
    return `lineages/${this.lineage}/histories/${hashed(workflowId)}/`;
  }
}

const compressed = promisify(gzip);
