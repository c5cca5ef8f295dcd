/**
 * A stream of corrections, edited batch by batch on a version log that is kept: a process that was
 * stopped goes on behind the last batch it finished. As in the benchmark every verdict passes.
 */
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Engine } from '../../model/engine/engine.ts';
import { localSteps, type LocalSteps } from '../../operations/local-batch.ts';
import { editPermissively } from '../../operations/tune/edit-facts.ts';
import type { CorrectionRevision } from '../../schemas/correction.ts';
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
  /** First batch of a process that found the stream begun: its time includes building again. */
  resumed: boolean;
}

/** The lineage of a study's versions. */
export const STUDY_LINEAGE = 'study';

export class EditedStream {
  readonly versions: Versions;
  readonly done: BatchDone[] = [];
  readonly #stages = noSeconds();
  readonly #steps: LocalSteps;
  #isFirst = true;

  private constructor(
    private readonly folder: string,
    engine: Engine,
    private readonly revisions: readonly CorrectionRevision[],
    private readonly ends: readonly number[],
  ) {
    this.versions = versionsInFolder(path.join(folder, 'versions'));
    this.#steps = localSteps(timedEngine(engine, this.#stages), this.versions);
  }

  /**
   * Opens a stream in a folder that must be its alone, with the same records, ends and engine each
   * time. `ends` are where batches end, ascending.
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

  /** Edits on until `end` of the stream is reached; finished batches cost nothing. */
  async advanceTo(end: number, progress: (corrections: number) => void = () => {}): Promise<void> {
    for (let i = this.done.length; i < this.ends.length && this.ends[i]! <= end; i++) {
      const begin = i === 0 ? 0 : this.ends[i - 1]!;
      const batch = await this.#editBatch(begin, this.ends[i]!, this.#isFirst && begin > 0);
      this.#isFirst = false;
      // A line of its own even behind one that was cut off.
      await appendFile(this.#notes, `\n${JSON.stringify(batch)}\n`);
      this.done.push(batch);
      progress(batch.end);
    }
  }

  /** The corrections that hold once the stream has come to `end`, which it must have. */
  async rowsAt(end: number): Promise<ActiveCorrection[]> {
    const batch = this.done.find((one) => one.end === end);
    if (batch === undefined) throw new RangeError(`no batch of the stream has ended at ${end}`);
    return [...(await this.versions.log(STUDY_LINEAGE).at(batch.version)).active.values()];
  }

  async #editBatch(begin: number, end: number, resumed: boolean): Promise<BatchDone> {
    const before = { ...this.#stages };
    const startedAt = performance.now();
    const log = this.versions.log(STUDY_LINEAGE);
    const batchId = `corrections-${begin}-${end}`;
    const isMade = (await (await log.register()).versionOfBatch(batchId)) !== null;
    const outcomes = await editPermissively(this.#steps, this.versions, {
      lineage: STUDY_LINEAGE,
      batchId,
      revisions: this.revisions.slice(begin, end),
    });
    return {
      begin,
      end,
      version: (await log.read()).head.version,
      refused: outcomes.filter(({ status }) => status === 'QUARANTINED').length,
      seconds: isMade ? null : (performance.now() - startedAt) / 1_000,
      stages: isMade ? null : difference(this.#stages, before),
      residentBytes: process.memoryUsage().rss,
      resumed,
    };
  }

  get #notes(): string {
    return path.join(this.folder, 'batches.jsonl');
  }

  /** Skips a line that was cut off: its batch is planned again and found committed. */
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
    const mark = due.find((one) => one > begin)!;
    const end = Math.min(begin + batchSize, mark);
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
