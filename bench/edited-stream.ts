/**
 * Edits a stream of corrections batch by batch into a version log in a folder. An interrupted
 * process resumes after the last finished batch. Every verdict passes, as in `errata tune`.
 */
import path from 'node:path';
import type { Engine } from '../model/engine/engine.ts';
import type { LocalSteps } from '../operations/local-batch.ts';
import { editPermissively } from '../operations/tune/edit-facts.ts';
import type { CorrectionRevision } from '../schemas/correction.ts';
import type { ActiveCorrection } from '../versions/log/history.ts';
import { ensureHook } from '../versions/log/hook-pairs.ts';
import type { VersionLog } from '../versions/log/version-log.ts';
import { versionsInFolder, type Versions } from '../versions/versions.ts';
import { KeptPoints } from './kept-points.ts';
import { noSeconds, timedSteps, type StageSeconds } from './wrapped-engine.ts';

export interface BatchDone {
  /** Corrections [begin, end) of the stream. */
  begin: number;
  end: number;
  version: number;
  refused: number;
  /** Null if the process ended after committing the batch and before noting its time. */
  seconds: number | null;
  stages: StageSeconds | null;
  residentBytes: number;
  /** True for the first batch after a resume: its time includes rebuilding hooks. */
  resumed: boolean;
}

export const STUDY_LINEAGE = 'study';

export class EditedStream {
  readonly versions: Versions;
  readonly log: VersionLog;
  readonly done: BatchDone[] = [];
  readonly #notes: KeptPoints;
  readonly #steps: LocalSteps;
  readonly #stages = noSeconds();
  #hasEdited = false;

  /**
   * The folder must belong to this stream alone, always with the same corrections, ends and engine.
   * `ends` lists the batch ends in ascending order.
   */
  constructor(
    folder: string,
    private readonly engine: Engine,
    private readonly revisions: readonly CorrectionRevision[],
    private readonly ends: readonly number[],
  ) {
    this.versions = versionsInFolder(path.join(folder, 'versions'));
    this.log = this.versions.log(STUDY_LINEAGE);
    this.#notes = new KeptPoints(folder);
    this.#steps = timedSteps(engine, this.versions, this.#stages);
  }

  /** Edits up to `end` of the stream; finished batches are read from their notes. */
  async advanceTo(end: number, progress: (corrections: number) => void = () => {}): Promise<void> {
    for (let i = this.done.length; i < this.ends.length && this.ends[i]! <= end; i++) {
      const batch = { begin: this.ends[i - 1] ?? 0, end: this.ends[i]! };
      this.done.push(await this.#notes.once(batch, () => this.#editBatch(batch)));
      progress(batch.end);
    }
  }

  /** Returns the active corrections at `end` of the stream, which must be the end of a batch. */
  async rowsAt(end: number): Promise<ActiveCorrection[]> {
    const batch = this.done.find((one) => one.end === end);
    if (batch === undefined) throw new RangeError(`no batch of the stream has ended at ${end}`);
    return [...(await this.log.at(batch.version)).active.values()];
  }

  /** Makes the engine hold the stream's hook at `end`; returns its id. */
  async hookAt(end: number): Promise<string | null> {
    return await ensureHook(this.engine, this.log, await this.rowsAt(end));
  }

  async #editBatch({ begin, end }: { begin: number; end: number }): Promise<BatchDone> {
    const resumed = begin > 0 && !this.#hasEdited;
    this.#hasEdited = true;
    Object.assign(this.#stages, noSeconds());
    const startedAt = performance.now();
    const batchId = `corrections-${begin}-${end}`;
    const isMade = (await (await this.log.register()).versionOfBatch(batchId)) !== null;
    const outcomes = await editPermissively(this.#steps, this.versions, {
      lineage: STUDY_LINEAGE,
      batchId,
      revisions: this.revisions.slice(begin, end),
    });
    return {
      begin,
      end,
      version: (await this.log.read()).head.version,
      refused: outcomes.filter(({ status }) => status === 'QUARANTINED').length,
      seconds: isMade ? null : (performance.now() - startedAt) / 1_000,
      stages: isMade ? null : { ...this.#stages },
      residentBytes: process.memoryUsage().rss,
      resumed,
    };
  }
}

/**
 * Returns the ends of batches of a given size. Each mark and the end of the stream also end a
 * batch.
 */
export function batchEnds(
  corrections: number,
  batchSize: number,
  marks: readonly number[] = [],
): number[] {
  const ends: number[] = [];
  const due = [...marks, corrections].filter((mark) => mark <= corrections);
  for (let begin = 0; begin < corrections; begin = ends.at(-1)!)
    ends.push(Math.min(begin + batchSize, ...due.filter((mark) => mark > begin)));
  return ends;
}

/** Returns the mean over fully timed batches; null if there are none. */
export function secondsPerCorrection(
  batches: readonly BatchDone[],
  secondsOf: (batch: BatchDone) => number = ({ seconds }) => seconds!,
): number | null {
  const timed = batches.filter(({ seconds, resumed }) => seconds !== null && !resumed);
  const corrections = timed.reduce((sum, { begin, end }) => sum + end - begin, 0);
  if (corrections === 0) return null;
  return timed.reduce((sum, batch) => sum + secondsOf(batch), 0) / corrections;
}

export function refusedIn(batches: readonly BatchDone[]): number {
  return batches.reduce((sum, { refused }) => sum + refused, 0);
}
