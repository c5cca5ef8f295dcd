/**
 * The paper's stability analysis (arXiv 2403.05330, section 4): measures against the number of
 * consecutive batches of one size, and against the number of instances per batch for one total.
 */
import type { Range } from '../command.ts';
import { batchEnds, EditedStream, type BatchDone } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { streamFolder } from './kept-points.ts';
import { stabilityReport } from './stability-report.ts';
import {
  hookAt,
  measureStream,
  refusedIn,
  secondsPerCorrection,
  type MarkMeasures,
  type SampleSizes,
} from './stream-measures.ts';
import { idsOf, inRanges, type StudyRecord } from './study-records.ts';
import { runStudy, type Keeping, type StudyOptions } from './study-run.ts';

export interface StabilityOptions extends StudyOptions {
  unmeasured: Range[];
  batch: number;
  marks: number[];
  total: number;
  sizes: number[];
  only?: 'batches' | 'sizes';
  sample: number;
}

export interface StabilityQuestion {
  records: readonly StudyRecord[];
  /** Indices in the file of records that are edited, but not measured. */
  unmeasured: readonly Range[];
  batchSize: number;
  /** Batches after which the stream is measured; its end always is. */
  marks: readonly number[];
  asking: SampleSizes;
  circumstances: Record<string, unknown>;
}

export interface StabilityPoint extends MarkMeasures {
  batchSize: number;
  batches: number;
  corrections: number;
  refused: number;
  /** Mean over the batches since the last mark; null if none was timed from start to end. */
  secondsPerCorrection: number | null;
  secondsTargetsPerCorrection: number | null;
  residentBytes: number;
}

export interface StreamResult {
  points: StabilityPoint[];
  batches: BatchDone[];
}

const EARLIEST_MAX = 200;
/** The same corrections for every batch size. */
const EARLIEST_OF_TOTAL_MAX = 50;

export async function runStability(options: StabilityOptions): Promise<void> {
  await runStudy('stability', options, async (run, records) => {
    const { unmeasured, sample } = options;
    const engine = await run.openEngine();
    try {
      const { model, parameters, software } = await engine.describe();
      const about =
        `${model.name}, blocks ${parameters.layers.join(', ')}, gate ${parameters.gate.kind}; ` +
        `measured on samples of at most ${sample} corrections`;
      const circumstances = { ...run.circumstances(), software, keptIn: run.keptIn };
      let byBatches: StreamResult | null = null;
      const bySize: StabilityPoint[] = [];
      const write = async () =>
        await run.write(await stabilityReport({ byBatches, bySize, about, circumstances }));
      const edit = async (
        label: string,
        question: Omit<StabilityQuestion, 'unmeasured' | 'circumstances'>,
        found: (result: StreamResult) => Promise<void> | void,
      ) =>
        await run.step<StreamResult, StreamResult>(
          label,
          question.records.length,
          found,
          (keeping) =>
            stabilityOfStream(
              engine,
              { ...question, unmeasured, circumstances: run.circumstances() },
              keeping,
            ),
        );

      if (options.only !== 'sizes') {
        const { batch: batchSize, marks } = options;
        const asking = { sampleMax: sample, earliestMax: Math.min(EARLIEST_MAX, batchSize) };
        const stream = { records, batchSize, marks, asking };
        await edit(`batches of ${batchSize}`, stream, async (result) => {
          byBatches = result;
          await write();
        });
      }
      if (options.only === 'batches') return;
      const total = records.slice(0, options.total);
      const sizes = options.sizes.filter((size) => size <= total.length).sort((a, b) => b - a);
      for (const batchSize of sizes) {
        const asking = { sampleMax: sample, earliestMax: EARLIEST_OF_TOTAL_MAX };
        const stream = { records: total, batchSize, marks: [], asking };
        const label = `${total.length} in batches of ${batchSize}`;
        const { points } = await edit(label, stream, () => {});
        bySize.unshift(points.at(-1)!);
        await write();
      }
    } finally {
      await engine.close();
    }
  });
}

/** Edits the records in batches of one size and measures at the marks. */
export async function stabilityOfStream(
  engine: GatedEngine,
  question: StabilityQuestion,
  { folder, points: kept, edited, found }: Keeping<StreamResult>,
): Promise<StreamResult> {
  const { records, batchSize, asking, unmeasured, circumstances } = question;
  const about = { study: 'stability', records: idsOf(records), batchSize, circumstances };
  const ends = batchEnds(records.length, batchSize);
  const marks = [
    ...new Set([...question.marks.filter((mark) => mark >= 1 && mark < ends.length), ends.length]),
  ].sort((a, b) => a - b);
  const revisions = records.map(({ revision }) => revision);
  const stream = await EditedStream.open(streamFolder(folder, about), engine, revisions, ends);
  const points: StabilityPoint[] = [];
  for (const [i, mark] of marks.entries()) {
    const end = ends[mark - 1]!;
    await stream.advanceTo(end, edited);
    edited(end);
    const measurable = records.slice(0, end).filter(({ index }) => !inRanges(index, unmeasured));
    const { answer } = await kept.once(
      { ...about, mark, asking: { ...asking }, unmeasured: unmeasured.map((one) => ({ ...one })) },
      async () =>
        await measureStream(engine, await hookAt(stream, end, engine), measurable, asking),
    );
    const since = stream.done.slice(i === 0 ? 0 : marks[i - 1], mark);
    const all = stream.done.slice(0, mark);
    points.push({
      ...answer,
      batchSize,
      batches: mark,
      corrections: end,
      refused: refusedIn(all),
      secondsPerCorrection: secondsPerCorrection(since, ({ seconds }) => seconds!),
      secondsTargetsPerCorrection: secondsPerCorrection(
        since,
        ({ stages }) => (stages?.targets ?? 0) + (stages?.context ?? 0),
      ),
      residentBytes: since.at(-1)!.residentBytes,
    });
    await found({ points: [...points], batches: [...all] });
  }
  return { points, batches: [...stream.done] };
}
