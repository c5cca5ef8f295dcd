/**
 * Compares gates. One stream is edited, and at each mark the same pairs are held behind every gate
 * and measured. All gates see the same weights, made behind the configured gate.
 */
import type { GateParameters } from '../../schemas/hyper-parameters.ts';
import { hookIdOf, readPairs } from '../../versions/log/hook-pairs.ts';
import type { Range } from '../command.ts';
import { batchEnds, refusedIn } from '../edited-stream.ts';
import { nameOf } from '../kept-points.ts';
import type { Column } from '../tables.ts';
import type { GatedEngine } from '../wrapped-engine.ts';
import {
  openingsOn,
  ordinaryTexts,
  type OrdinaryOpenings,
  type TextSizes,
} from './ordinary-text.ts';
import {
  EARLIEST_GREEDY,
  marksOf,
  measureColumns,
  measureStream,
  type MarkMeasures,
  type StreamQuestion,
} from './stream-measures.ts';
import { withoutProbes } from './study-records.ts';
import { runStudy, type Keeping, type StudyOptions } from './study-run.ts';

export interface GatesOptions extends StudyOptions {
  unmeasured: Range[];
  batch: number;
  marks: number[];
  gates?: Record<string, Partial<GateParameters>>;
  sample: number;
}

const DEFAULT_GATES: NonNullable<GatesOptions['gates']> = {
  sequence: { kind: 'sequence' },
  subject: { kind: 'subject' },
  always: { kind: 'always' },
  'subject, one map for all': { kind: 'subject', map: 'joint' },
};

export interface NamedGate {
  name: string;
  gate: GateParameters;
}

export interface GatesQuestion extends StreamQuestion {
  /** Numbers of corrections at which to measure. */
  marks: readonly number[];
  gates: readonly NamedGate[];
  ordinary: TextSizes;
}

export interface GatePoint extends MarkMeasures, NamedGate {
  corrections: number;
  active: number;
  refused: number;
  /** One per edited block, in ascending block order. */
  thresholds: number[];
  ordinary: OrdinaryOpenings;
}

/** Shortened for a model with a short context, to at most half of it. */
const ORDINARY = { sequences: 24, tokensPerSequence: 120, seed: 1 };
const EARLIEST_MAX = 200;

export async function runGates(options: GatesOptions): Promise<void> {
  const { marks, unmeasured, batch: batchSize } = options;
  await runStudy('gates', options, async (run, all) => {
    const records = all.slice(0, Math.max(...marks));
    const gates = Object.entries(options.gates ?? DEFAULT_GATES).map(([name, gate]): NamedGate => {
      return { name, gate: run.parametersWith({ gate }).gate };
    });
    await run.withEngine(async (engine) => {
      const { model, parameters, software } = await engine.describe();
      const circumstances = run.circumstances();
      const tokensPerSequence = Math.min(ORDINARY.tokensPerSequence, model.contextMax >> 1);
      const question = {
        records,
        unmeasured,
        batchSize,
        marks,
        gates,
        asking: { sampleMax: options.sample, earliestMax: EARLIEST_MAX },
        ordinary: { ...ORDINARY, tokensPerSequence },
        circumstances,
      };
      const titleFor = ({ ordinary }: GatePoint) => `# Gates on the same weights

${model.name}, blocks ${parameters.layers.join(', ')}, edited behind the gate \
"${parameters.gate.kind}" in batches of ${batchSize}.
Shares in %; ordinary tokens opened: at the block with most of them, of ${ordinary.tokens} tokens.

`;
      await run.measure(
        `editing in batches of ${batchSize}`,
        records.length,
        (keeping) => compareGates(engine, question, keeping),
        run.table(COLUMNS, { ...circumstances, software }, titleFor),
      );
    });
  });
}

/**
 * Edits the stream and measures every gate at every mark. The `sequence` gate keeps its first alpha
 * for pairs that were made behind another gate.
 */
export async function* compareGates(
  engine: GatedEngine,
  question: GatesQuestion,
  keeping: Keeping,
): AsyncGenerator<GatePoint> {
  const { records, batchSize, gates, asking, ordinary, circumstances } = question;
  const marks = [...new Set(question.marks.map((mark) => Math.min(mark, records.length)))].sort(
    (a, b) => a - b,
  );
  const texts = await keeping.points.once(
    { study: 'ordinary-text', ...ordinary, circumstances },
    () => ordinaryTexts(engine, ordinary),
  );
  const ends = batchEnds(records.length, batchSize, marks);
  const plan = { ...keeping, ends, marks, revisionOf: withoutProbes };
  for await (const at of marksOf(engine, 'gates', question, plan)) {
    const { stream, end, measurable, about } = at;
    const rows = await stream.rowsAt(end);
    const pairs = await readPairs(stream.log, rows);
    const refused = refusedIn(stream.done);
    for (const { name, gate } of gates) {
      const measuredWith = { ...about, gate: { ...gate }, ordinary: { ...ordinary } };
      const answer = await keeping.points.once(measuredWith, async () => {
        const hookId = pairs === null ? null : `gate:${nameOf({ ...gate })}:${hookIdOf(rows)}`;
        const report = hookId === null ? null : await engine.holdHook(hookId, pairs!, gate);
        return {
          ...(await measureStream(engine, hookId, measurable, asking)),
          active: rows.length,
          thresholds: report?.layers.map(({ threshold }) => threshold) ?? [],
          ordinary: await openingsOn(engine, hookId, texts),
        };
      });
      yield { ...answer, corrections: end, name, gate, refused };
    }
  }
}

const COLUMNS: Column<GatePoint>[] = [
  ['corrections', 'corrections'],
  ['gate', 'name'],
  ['measured', 'sample'],
  ...measureColumns('paraphrase', 'paraphraseArgmax', 'neighboursUnchanged'),
  [
    'ordinary tokens opened',
    ({ ordinary }) => ordinary.openShare,
    (share) => (100 * share).toFixed(2),
  ],
  EARLIEST_GREEDY,
  [
    'threshold',
    ({ thresholds }) =>
      thresholds.length === 0
        ? null
        : `${Math.min(...thresholds).toFixed(2)}-${Math.max(...thresholds).toFixed(2)}`,
  ],
];
