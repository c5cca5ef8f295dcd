/**
 * The table of gates: one stream is edited, and at each mark the same pairs are held behind every
 * gate and measured. So all gates stand before the same weights, made behind the gate that the
 * configuration names.
 */
import path from 'node:path';
import type { GateKind, GateParameters } from '../../schemas/editing.ts';
import { hookIdOf, readPairs } from '../../versions/log/hook-pairs.ts';
import { EditedStream, STUDY_LINEAGE, batchEnds } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { nameOf, type KeptPoints } from './kept-points.ts';
import { openingsOn, ordinaryTexts, type OrdinaryOpenings } from './ordinary-text.ts';
import { measureStream, type Asking, type MarkMeasures } from './stream-measures.ts';
import { inRanges, withoutProbes, type Range, type StudyRecord } from './study-records.ts';
import { digits, percent, type Column } from './tables.ts';

export const GATE_KINDS: readonly GateKind[] = ['sequence', 'subject', 'always'];

/** A gate under the name that the table has for it. */
export interface NamedGate {
  name: string;
  gate: GateParameters;
}

export interface GatesQuestion {
  records: readonly StudyRecord[];
  /** Indices in the file of records that are edited, but not measured. */
  unmeasured: readonly Range[];
  batchSize: number;
  /** Corrections behind which the gates are compared. */
  marks: readonly number[];
  gates: readonly NamedGate[];
  asking: Asking;
  ordinary: { sequences: number; tokensPerSequence: number; seed: number };
  circumstances: Record<string, unknown>;
}

export interface GatePoint extends MarkMeasures {
  corrections: number;
  name: string;
  gate: GateParameters;
  /** Corrections in the hook. */
  active: number;
  refused: number;
  /** Of each edited block, ascending. */
  thresholds: number[];
  ordinary: OrdinaryOpenings;
}

export interface GatesKeeping {
  folder: string;
  points: KeptPoints;
  edited: (corrections: number) => void;
  measured(point: GatePoint): Promise<void> | void;
}

/** The `sequence` gate keeps its first alpha before pairs that were written behind another gate. */
export async function compareGates(
  engine: GatedEngine,
  question: GatesQuestion,
  keeping: GatesKeeping,
): Promise<GatePoint[]> {
  const { records, batchSize, unmeasured, gates, asking, ordinary, circumstances } = question;
  const marks = [...new Set(question.marks.map((mark) => Math.min(mark, records.length)))].sort(
    (a, b) => a - b,
  );
  const about = {
    study: 'gates',
    records: records.map(({ revision }) => revision.correction.id),
    batchSize,
    ends: marks,
    circumstances,
  };
  const stream = await EditedStream.open(
    path.join(keeping.folder, 'streams', nameOf(about).slice(0, 16)),
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
    const refused = stream.done
      .filter(({ end }) => end <= mark)
      .reduce((sum, batch) => sum + batch.refused, 0);
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
        const measures = await measureStream(
          engine,
          hookId,
          records.slice(0, mark).filter(({ index }) => !inRanges(index, unmeasured)),
          asking,
        );
        return {
          ...measures,
          active: rows.length,
          thresholds: report?.layers.map(({ threshold }) => threshold) ?? [],
          ordinary: await openingsOn(engine, hookId, texts),
        };
      });
      const point = { ...answer, corrections: mark, name, gate, refused };
      points.push(point);
      await keeping.measured(point);
    }
  }
  return points;
}

export const GATE_COLUMNS: Column<GatePoint>[] = [
  { name: 'corrections', of: (point) => point.corrections },
  { name: 'gate', of: (point) => point.name },
  { name: 'measured', of: (point) => point.sample },
  { name: 'efficacy', of: (point) => point.efficacy, as: percent },
  { name: 'greedy', of: (point) => point.efficacyGreedy, as: percent },
  { name: 'paraphrase p(new) > p(old)', of: (point) => point.paraphrase, as: percent },
  { name: 'paraphrase argmax', of: (point) => point.paraphraseArgmax, as: percent },
  { name: 'neighbours unchanged', of: (point) => point.neighboursUnchanged, as: percent },
  { name: 'perplexity ratio', of: (point) => point.perplexityRatio, as: digits(4) },
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
