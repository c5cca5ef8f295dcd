/**
 * A stream of corrections, edited batch by batch by the edit worker's own activities on a version
 * log that is kept: a process that was stopped goes on behind the last batch it finished. As in the
 * benchmark nothing is judged on the way.
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  createEditActivities,
  createLedgerActivities,
  type EditActivities,
  type LedgerActivities,
} from '../../activities/index.ts';
import type { CorrectionRevision } from '../../schemas/correction.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { VerdictSettings } from '../../schemas/settings.ts';
import type { ActiveCorrection } from '../../versions/log/history.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { noSeconds, timedEngine, type StageSeconds } from '../stages.ts';

export interface BatchDone {
  /** Corrections [begin, end) of the stream. */
  begin: number;
  end: number;
  /** HEAD behind the batch. */
  version: number;
  refused: number;
  /** Null where the process ended between the commit and the note of it. */
  seconds: number | null;
  stages: StageSeconds | null;
  /** Resident memory behind the batch. */
  residentBytes: number;
  /**
   * First batch of a process that found the stream begun: its time holds what had to be built
   * again.
   */
  resumed: boolean;
}

/** Versions of a study are of this lineage. */
export const STUDY_LINEAGE = 'study';

export const PERMISSIVE: VerdictSettings = {
  requireEffective: false,
  generalisationMin: 0,
  localityMin: 0,
  retentionMin: 0,
  canaryRatioMax: Number.MAX_VALUE,
  editNormMax: Number.MAX_VALUE,
  retentionSample: 8,
};

export class EditedStream {
  readonly versions: Versions;
  readonly done: BatchDone[] = [];
  readonly #stages = noSeconds();
  readonly #activities: EditActivities & LedgerActivities;

  private constructor(
    private readonly folder: string,
    engine: Engine,
    private readonly revisions: readonly CorrectionRevision[],
    private readonly ends: readonly number[],
  ) {
    this.versions = versionsInFolder(path.join(folder, 'versions'));
    this.#activities = {
      ...createEditActivities({
        engine: timedEngine(engine, this.#stages),
        versions: this.versions,
      }),
      ...createLedgerActivities({ versions: this.versions }),
    };
  }

  /**
   * `ends` are where batches end, ascending. The folder must be this stream's alone: same records,
   * ends and engine.
   */
  static async open(
    folder: string,
    engine: Engine,
    revisions: readonly CorrectionRevision[],
    ends: readonly number[],
  ): Promise<EditedStream> {
    const stream = new EditedStream(folder, engine, revisions, ends);
    await mkdir(folder, { recursive: true });
    stream.done.push(...(await stream.#readNotes()));
    return stream;
  }

  /** Edits on until `end` of the stream is reached; what is done already costs nothing. */
  async advanceTo(end: number, tell: (corrections: number) => void = () => {}): Promise<void> {
    const begun = this.done.length;
    for (let i = begun; i < this.ends.length && this.ends[i]! <= end; i++) {
      const begin = i === 0 ? 0 : this.ends[i - 1]!;
      const batch = await this.#editBatch(begin, this.ends[i]!, this.#isFirst && begin > 0);
      this.#isFirst = false;
      // A line of its own even behind one that was cut off.
      await appendFile(this.#notes, `\n${JSON.stringify(batch)}\n`);
      this.done.push(batch);
      tell(batch.end);
    }
  }

  /** The corrections that hold once the stream has come to `end`, which it must have. */
  async rowsAt(end: number): Promise<ActiveCorrection[]> {
    const batch = this.done.find((one) => one.end === end);
    if (batch === undefined) throw new RangeError(`no batch of the stream has ended at ${end}`);
    return [...(await this.versions.log(STUDY_LINEAGE).at(batch.version)).active.values()];
  }

  #isFirst = true;

  async #editBatch(begin: number, end: number, resumed: boolean): Promise<BatchDone> {
    const before = { ...this.#stages };
    const began = performance.now();
    const batchId = `corrections-${begin}-${end}`;
    const revisions = this.revisions.slice(begin, end);
    const plan = await this.#activities.planBatch({ lineage: STUDY_LINEAGE, batchId, revisions });
    const log = this.versions.log(STUDY_LINEAGE);
    if (plan.committed !== null) {
      const { entry } = await log.entry(plan.committed.version);
      return {
        begin,
        end,
        version: entry.version,
        refused: plan.settled.filter(({ status }) => status === 'QUARANTINED').length,
        seconds: null,
        stages: null,
        residentBytes: process.memoryUsage().rss,
        resumed,
      };
    }
    const step = {
      lineage: STUDY_LINEAGE,
      batchId,
      head: plan.head,
      edits: plan.edits,
      removals: plan.removals,
    };
    const shard = await this.#activities.computeTargets(step);
    const staged = await this.#activities.stageUpdate({ ...step, shards: [shard] });
    let { version } = plan.head;
    if (staged.rows.length > 0) {
      const probes = await this.#activities.runProbes({ ...step, staged, settings: PERMISSIVE });
      const committed = await this.#activities.commitVersion({
        ...step,
        withdrawals: [],
        staged,
        probes,
        workflow: { workflowId: 'study', runId: 'study' },
      });
      if (committed.kind !== 'committed')
        throw new Error(
          `another process writes into ${this.folder}: HEAD is version ${committed.head.version}`,
        );
      ({ version } = committed);
    }
    return {
      begin,
      end,
      version,
      refused: plan.edits.length - staged.rows.length,
      seconds: (performance.now() - began) / 1000,
      stages: difference(this.#stages, before),
      residentBytes: process.memoryUsage().rss,
      resumed,
    };
  }

  get #notes(): string {
    return path.join(this.folder, 'batches.jsonl');
  }

  /**
   * A line that was cut off by the end of its process is no note: its batch is planned again and
   * found committed.
   */
  async #readNotes(): Promise<BatchDone[]> {
    let text: string;
    try {
      text = await readFile(this.#notes, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
    const notes = text.split('\n').flatMap((line) => {
      try {
        return [JSON.parse(line) as BatchDone];
      } catch {
        return [];
      }
    });
    return [...new Map(notes.map((note) => [note.begin, note])).values()].sort(
      (a, b) => a.begin - b.begin,
    );
  }
}

/** Where batches of a size end, and also at each mark, so that every mark is the end of a batch. */
export function batchEnds(
  corrections: number,
  batchSize: number,
  marks: readonly number[] = [],
): number[] {
  const ends: number[] = [];
  const due = [...marks.filter((mark) => mark > 0 && mark < corrections), corrections].sort(
    (a, b) => a - b,
  );
  for (let begin = 0; begin < corrections;) {
    const end = Math.min(
      begin + batchSize,
      due.find((mark) => mark > begin)!,
    );
    ends.push(end);
    begin = end;
  }
  return ends;
}

function difference(now: StageSeconds, before: StageSeconds): StageSeconds {
  return Object.fromEntries(
    Object.entries(now).map(([stage, seconds]) => [
      stage,
      seconds - before[stage as keyof StageSeconds],
    ]),
  ) as StageSeconds;
}
