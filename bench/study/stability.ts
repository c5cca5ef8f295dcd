/**
 * The stability analysis of the paper (arXiv 2403.05330, section 4): measures against the number of
 * consecutive batches of one size, and against the number of instances per batch for a fixed total.
 */
import type { Range } from '../command.ts';
import { batchEnds, refusedIn, secondsPerCorrection } from '../edited-stream.ts';
import type { GatedEngine } from '../wrapped-engine.ts';
import { stabilityReport, type StabilityPoint, type StreamResult } from './stability-report.ts';
import { marksOf, measureStream, type StreamQuestion } from './stream-measures.ts';
import type { StudyRecord } from './study-records.ts';
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

export interface StabilityQuestion extends StreamQuestion {
  /** Numbers of batches after which the stream is measured. Its end is always measured. */
  marks: readonly number[];
}

const EARLIEST_MAX = 200;
/** The same corrections are measured for every batch size. */
const EARLIEST_OF_TOTAL_MAX = 50;

export async function runStability(options: StabilityOptions): Promise<void> {
  const { unmeasured, sample: sampleMax, batch, marks, only } = options;
  await runStudy('stability', options, (run, records) =>
    run.withEngine(async (engine) => {
      const { model, parameters, software } = await engine.describe();
      const about =
        `${model.name}, blocks ${parameters.layers.join(', ')}, gate ${parameters.gate.kind}; ` +
        `measured on samples of at most ${sampleMax} corrections`;
      const circumstances = run.circumstances();
      let byBatches: StreamResult | null = null;
      const bySize: StabilityPoint[] = [];
      const write = async () => {
        const all = { ...circumstances, software, keptIn: run.folder };
        await run.write(await stabilityReport({ byBatches, bySize, about, circumstances: all }));
      };
      const edit = async (
        label: string,
        question: Omit<StabilityQuestion, 'unmeasured' | 'circumstances'>,
        found: (result: StreamResult) => Promise<void> | void,
      ) => {
        const whole = { ...question, unmeasured, circumstances };
        const points = (keeping: Keeping) => stabilityOfStream(engine, whole, keeping);
        await run.measure(label, question.records.length, points, found);
      };
      if (only !== 'sizes') {
        const asking = { sampleMax, earliestMax: Math.min(EARLIEST_MAX, batch) };
        const question = { records, batchSize: batch, marks, asking };
        await edit(`batches of ${batch}`, question, async (result) => {
          byBatches = result;
          await write();
        });
      }
      if (only === 'batches') return;
      const total = records.slice(0, options.total);
      const sizes = options.sizes.filter((size) => size <= total.length).sort((a, b) => b - a);
      for (const batchSize of sizes) {
        const asking = { sampleMax, earliestMax: EARLIEST_OF_TOTAL_MAX };
        const question = { records: total, batchSize, marks: [], asking };
        await edit(`${total.length} in batches of ${batchSize}`, question, async ({ points }) => {
          bySize.unshift(points[0]!);
          await write();
        });
      }
    }),
  );
}

/** Edits the records in batches of one size; yields the stream so far at each mark. */
export async function* stabilityOfStream(
  engine: GatedEngine,
  question: StabilityQuestion,
  keeping: Keeping,
): AsyncGenerator<StreamResult> {
  const { records, batchSize, asking } = question;
  const ends = batchEnds(records.length, batchSize);
  const marks = ends.filter((_, i) => i + 1 === ends.length || question.marks.includes(i + 1));
  const plan = { ...keeping, ends, marks, revisionOf: ({ revision }: StudyRecord) => revision };
  const points: StabilityPoint[] = [];
  for await (const at of marksOf(engine, 'stability', question, plan)) {
    const { stream, end, measurable, about } = at;
    const answer = await keeping.points.once(about, async () =>
      measureStream(engine, await stream.hookAt(end), measurable, asking),
    );
    const batches = [...stream.done];
    const since = batches.slice(points.at(-1)?.batches ?? 0);
    points.push({
      ...answer,
      batchSize,
      batches: batches.length,
      corrections: end,
      refused: refusedIn(batches),
      secondsPerCorrection: secondsPerCorrection(since),
      secondsTargetsPerCorrection: secondsPerCorrection(
        since,
        ({ stages }) => (stages?.targets ?? 0) + (stages?.context ?? 0),
      ),
      residentBytes: since.at(-1)!.residentBytes,
    });
    yield { points: [...points], batches };
  }
}
