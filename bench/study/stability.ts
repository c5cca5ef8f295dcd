/**
 * The paper's stability analysis (arXiv 2403.05330, section 4): measures against the number of
 * consecutive batches of one size, and against the number of instances per batch for one total.
 */
import path from 'node:path';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { EditedStream, STUDY_LINEAGE, batchEnds, type BatchDone } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { nameOf, type KeptPoints } from './kept-points.ts';
import { measureStream, type Asking, type MarkMeasures } from './stream-measures.ts';
import { inRanges, type Range, type StudyRecord } from './study-records.ts';

export interface StabilityQuestion {
  records: readonly StudyRecord[];
  /** Indices in the file of records that are edited, but not measured. */
  unmeasured: readonly Range[];
  batchSize: number;
  /** Batches behind which the stream is measured; its end always is. */
  marks: readonly number[];
  asking: Asking;
  circumstances: Record<string, unknown>;
}

export interface StabilityPoint extends MarkMeasures {
  batchSize: number;
  batches: number;
  corrections: number;
  refused: number;
  /**
   * Mean over the batches since the mark before; null where none of them was timed from start to
   * end.
   */
  secondsPerCorrection: number | null;
  secondsTargetsPerCorrection: number | null;
  residentBytes: number;
}

export interface StreamResult {
  points: StabilityPoint[];
  batches: BatchDone[];
}

/** Where a stream and its points are kept, and who is told of them. */
export interface Keeping {
  folder: string;
  points: KeptPoints;
  edited: (corrections: number) => void;
  /** Called behind every mark with all that is known so far. */
  found(result: StreamResult): Promise<void> | void;
}

/** Edits the records in batches of one size and measures at the marks. */
export async function stabilityOfStream(
  engine: GatedEngine,
  question: StabilityQuestion,
  keeping: Keeping,
): Promise<StreamResult> {
  const { records, batchSize, asking, unmeasured, circumstances } = question;
  const about = {
    study: 'stability',
    records: records.map(({ revision }) => revision.correction.id),
    batchSize,
    circumstances,
  };
  const ends = batchEnds(records.length, batchSize);
  const marks = [
    ...new Set([...question.marks.filter((mark) => mark >= 1 && mark < ends.length), ends.length]),
  ].sort((a, b) => a - b);
  const stream = await EditedStream.open(
    path.join(keeping.folder, 'streams', nameOf(about).slice(0, 16)),
    engine,
    records.map(({ revision }) => revision),
    ends,
  );
  const points: StabilityPoint[] = [];
  for (const [i, mark] of marks.entries()) {
    const end = ends[mark - 1]!;
    await stream.advanceTo(end, keeping.edited);
    keeping.edited(end);
    const { answer } = await keeping.points.once(
      {
        ...about,
        mark,
        asking: { ...asking },
        unmeasured: unmeasured.map((range) => ({ ...range })),
      },
      async () => {
        const hookId = await ensureHook(
          engine,
          stream.versions.log(STUDY_LINEAGE),
          await stream.rowsAt(end),
        );
        return measureStream(
          engine,
          hookId,
          records.slice(0, end).filter(({ index }) => !inRanges(index, unmeasured)),
          asking,
        );
      },
    );
    const since = stream.done.slice(i === 0 ? 0 : marks[i - 1], mark);
    const all = stream.done.slice(0, mark);
    points.push({
      ...answer,
      batchSize,
      batches: mark,
      corrections: end,
      refused: all.reduce((sum, batch) => sum + batch.refused, 0),
      ...secondsOf(since),
      residentBytes: since.at(-1)!.residentBytes,
    });
    await keeping.found({ points: [...points], batches: [...all] });
  }
  return { points, batches: [...stream.done] };
}

function secondsOf(
  batches: readonly BatchDone[],
): Pick<StabilityPoint, 'secondsPerCorrection' | 'secondsTargetsPerCorrection'> {
  const timed = batches.filter((batch) => batch.seconds !== null && !batch.resumed);
  const corrections = timed.reduce((sum, { begin, end }) => sum + end - begin, 0);
  if (corrections === 0) return { secondsPerCorrection: null, secondsTargetsPerCorrection: null };
  return {
    secondsPerCorrection: timed.reduce((sum, { seconds }) => sum + seconds!, 0) / corrections,
    secondsTargetsPerCorrection:
      timed.reduce((sum, { stages }) => sum + (stages?.targets ?? 0) + (stages?.context ?? 0), 0) /
      corrections,
  };
}
