/**
 * The comparison of gates: one stream is edited, and at each mark the same pairs are held behind
 * every gate and measured. All gates see the same weights, made behind the configured gate.
 */
import type { GateKind, GateParameters } from '../../schemas/editing.ts';
import { hookIdOf, readPairs } from '../../versions/log/hook-pairs.ts';
import type { Range } from '../command.ts';
import { percent, type Column } from '../tables.ts';
import { batchEnds, EditedStream, STUDY_LINEAGE } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { nameOf, streamFolder } from './kept-points.ts';
import {
  openingsOn,
  ordinaryTexts,
  type OrdinaryOpenings,
  type TextSizes,
} from './ordinary-text.ts';
import {
  measureColumns,
  measureStream,
  refusedIn,
  type MarkMeasures,
  type SampleSizes,
} from './stream-measures.ts';
import { idsOf, inRanges, withoutProbes, type StudyRecord } from './study-records.ts';
import { runStudy, type Keeping, type StudyOptions } from './study-run.ts';

export interface GatesOptions extends StudyOptions {
  unmeasured: Range[];
  batch: number;
  marks: number[];
  gates?: Record<string, Partial<GateParameters>>;
  sample: number;
}

export const GATE_KINDS: readonly GateKind[] = ['sequence', 'subject', 'always'];

export interface NamedGate {
  name: string;
  gate: GateParameters;
}

export interface GatesQuestion {
  records: readonly StudyRecord[];
  /** Indices in the file of records that are edited, but not measured. */
  unmeasured: readonly Range[];
  batchSize: number;
  /** Numbers of corrections. */
  marks: readonly number[];
  gates: readonly NamedGate[];
  asking: SampleSizes;
  ordinary: TextSizes;
  circumstances: Record<string, unknown>;
}

export interface GatePoint extends MarkMeasures {
  corrections: number;
  name: string;
  gate: GateParameters;
  /** Corrections in the hook. */
  active: number;
  refused: number;
  /** One per edited block, ascending. */
  thresholds: number[];
  ordinary: OrdinaryOpenings;
}

/** Shorter for a model whose context is short: half of it at most. */
const ORDINARY = { sequences: 24, tokensPerSequence: 120, seed: 1 };
const EARLIEST_MAX = 200;

export async function runGates(options: GatesOptions): Promise<void> {
  const { marks, unmeasured, batch: batchSize } = options;
  await runStudy('gates', options, async (run, all) => {
    const records = all.slice(0, Math.max(...marks));
    const configured = run.parametersWith({}).gate;
    const chosen: Record<string, Partial<GateParameters>> = options.gates ?? {
      ...Object.fromEntries(GATE_KINDS.map((kind) => [kind, { kind }])),
      'subject, one map for all': { kind: 'subject', map: 'joint' },
    };
    const gates = Object.entries(chosen).map(([name, gate]): NamedGate => ({
      name,
      gate: run.parametersWith({ gate }).gate,
    }));
    const engine = await run.openEngine();
    try {
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
      const points: GatePoint[] = [];
      const found = async (point: GatePoint) => {
        points.push(point);
        const title = `# Gates on the same weights

${model.name}, blocks ${parameters.layers.join(', ')}, edited behind the gate "${configured.kind}" \
in batches of ${batchSize}.
Shares in %; ordinary tokens opened: at the block with most of them, of \
${point.ordinary.tokens} tokens.

`;
        await run.writeTable(title, GATE_COLUMNS, points, { ...circumstances, software });
      };
      await run.step<GatePoint, unknown>(
        `editing in batches of ${batchSize}`,
        records.length,
        found,
        (keeping) => compareGates(engine, question, keeping),
      );
    } finally {
      await engine.close();
    }
  });
}

/**
 * Edits the stream and measures every gate at every mark. The `sequence` gate keeps its first alpha
 * for pairs that were made behind another gate.
 */
export async function compareGates(
  engine: GatedEngine,
  question: GatesQuestion,
  keeping: Keeping<GatePoint>,
): Promise<GatePoint[]> {
  const { records, batchSize, unmeasured, gates, asking, ordinary, circumstances } = question;
  const marks = [...new Set(question.marks.map((mark) => Math.min(mark, records.length)))].sort(
    (a, b) => a - b,
  );
  const about = { study: 'gates', records: idsOf(records), batchSize, ends: marks, circumstances };
  const stream = await EditedStream.open(
    streamFolder(keeping.folder, about),
    engine,
    records.map(withoutProbes),
    batchEnds(records.length, batchSize, marks),
  );
  const { answer: texts } = await keeping.points.once(
    { study: 'ordinary-text', ...ordinary, circumstances },
    () => ordinaryTexts(engine, ordinary),
  );
  const points: GatePoint[] = [];
  for (const mark of marks) {
    await stream.advanceTo(mark, keeping.edited);
    keeping.edited(mark);
    const rows = await stream.rowsAt(mark);
    const pairs = await readPairs(stream.versions.log(STUDY_LINEAGE), rows);
    const measurable = records.slice(0, mark).filter(({ index }) => !inRanges(index, unmeasured));
    for (const { name, gate } of gates) {
      const measuredWith = {
        ...about,
        mark,
        gate: { ...gate },
        asking: { ...asking },
        ordinary: { ...ordinary },
        unmeasured: unmeasured.map((range) => ({ ...range })),
      };
      const { answer } = await keeping.points.once(measuredWith, async () => {
        const hookId = pairs === null ? null : `gate:${nameOf({ ...gate })}:${hookIdOf(rows)}`;
        const report = hookId === null ? null : await engine.holdHook(hookId, pairs!, gate);
        return {
          ...(await measureStream(engine, hookId, measurable, asking)),
          active: rows.length,
          thresholds: report?.layers.map(({ threshold }) => threshold) ?? [],
          ordinary: await openingsOn(engine, hookId, texts),
        };
      });
      const refused = refusedIn(stream.done.filter(({ end }) => end <= mark));
      const point = { ...answer, corrections: mark, name, gate, refused };
      points.push(point);
      await keeping.found(point);
    }
  }
  return points;
}

const GATE_COLUMNS: Column<GatePoint>[] = [
  { name: 'corrections', of: (point) => point.corrections },
  { name: 'gate', of: (point) => point.name },
  { name: 'measured', of: (point) => point.sample },
  ...measureColumns<GatePoint>('paraphrase', 'paraphraseArgmax', 'neighboursUnchanged'),
  {
    name: 'ordinary tokens opened',
    of: (point) => point.ordinary.openShare,
    as: (share) => (100 * share).toFixed(2),
  },
  { name: 'earliest greedy', of: (point) => point.earliest.efficacyGreedy, as: percent },
  {
    name: 'threshold',
    of: ({ thresholds }) =>
      thresholds.length === 0
        ? null
        : `${Math.min(...thresholds).toFixed(2)}-${Math.max(...thresholds).toFixed(2)}`,
  },
];
