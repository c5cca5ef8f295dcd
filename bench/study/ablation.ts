/**
 * What each part of the editor brings: the same records edited by named variants of its parameters,
 * measured at the end.
 */
import path from 'node:path';
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/editing.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { EditedStream, STUDY_LINEAGE, batchEnds } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { nameOf, type KeptPoints } from './kept-points.ts';
import { measureStream, type Asking, type MarkMeasures } from './stream-measures.ts';
import { withoutProbes, type StudyRecord } from './study-records.ts';
import { digits, percent, type Column } from './tables.ts';

export interface Variant {
  name: string;
  parameters: HyperParameterOverrides;
}

/**
 * One change each against the parameters in force. Lambda is in units of those in force, and the
 * others absolute.
 */
export function defaultVariants(base: HyperParameters): Variant[] {
  const gate = (kind: HyperParameters['gate']['kind']): Variant => ({
    name: `gate ${kind}`,
    parameters: { gate: { kind } },
  });
  const variants: Variant[] = [
    { name: 'as configured', parameters: {} },
    ...(['subject', 'sequence', 'always'] as const).map(gate),
    { name: 'one map for all', parameters: { gate: { map: 'joint' } } },
    { name: 'no contexts', parameters: { contexts: 0, contextsPerStep: 0 } },
    ...[...new Set([1, base.contexts])]
      .filter((count) => count > 0)
      .map((count): Variant => ({
        name: `contexts per step ${count}`,
        parameters: { contextsPerStep: count },
      })),
    { name: 'lambda x 0.25', parameters: { lambda: base.lambda * 0.25 } },
    { name: 'lambda x 4', parameters: { lambda: base.lambda * 4 } },
    ...[0, 0.1].map((ridge): Variant => ({ name: `ridge ${ridge}`, parameters: { ridge } })),
    ...[0.75, 2].map((clamp): Variant => ({ name: `clamp ${clamp}`, parameters: { clamp } })),
    { name: 'no KL term', parameters: { klFactor: 0 } },
    { name: 'no weight decay', parameters: { weightDecay: 0 } },
    { name: 'steps x 2.5', parameters: { stepsMax: Math.round(base.stepsMax * 2.5) } },
    { name: 'loss target 0.2', parameters: { lossTarget: 0.2 } },
    ...(base.layers.length < 3
      ? []
      : [
          {
            name: `block ${base.layers.at(-1)} alone`,
            parameters: { layers: [base.layers.at(-1)!] },
          },
        ]),
  ];
  const [configured, ...others] = variants;
  return [
    configured!,
    ...others.filter(({ parameters: { gate: asked, ...rest } }) =>
      differs(
        { ...base, gate: { ...base.gate } },
        { ...rest, ...(asked === undefined ? {} : { gate: { ...base.gate, ...asked } }) },
      ),
    ),
  ];
}

function differs(base: Record<string, unknown>, changes: Record<string, unknown>): boolean {
  return Object.entries(changes).some(
    ([name, value]) => JSON.stringify(base[name]) !== JSON.stringify(value),
  );
}

export interface AblationQuestion {
  records: readonly StudyRecord[];
  batchSize: number;
  asking: Asking;
  circumstancesOf: (variant: Variant) => Record<string, unknown>;
}

export interface AblationPoint extends MarkMeasures {
  name: string;
  parameters: HyperParameterOverrides;
  corrections: number;
  refused: number;
  /** Null where no batch was timed from start to end. */
  secondsPerCorrection: number | null;
}

export interface AblationKeeping {
  folder: string;
  points: KeptPoints;
  /** Called for variants that are not kept already; the study closes what it gives. */
  openEngine(variant: Variant): Promise<GatedEngine>;
  edited: (variant: Variant, corrections: number) => void;
  measured(point: AblationPoint): Promise<void> | void;
}

export async function ablate(
  variants: readonly Variant[],
  question: AblationQuestion,
  keeping: AblationKeeping,
): Promise<AblationPoint[]> {
  const points: AblationPoint[] = [];
  for (const variant of variants) {
    const { answer } = await keeping.points.once(aboutVariant(variant, question), () =>
      measureVariant(variant, question, keeping),
    );
    const point = { name: variant.name, parameters: variant.parameters, ...answer };
    points.push(point);
    await keeping.measured(point);
  }
  return points;
}

function aboutVariant(
  variant: Variant,
  { records, batchSize, asking, circumstancesOf }: AblationQuestion,
): Record<string, unknown> {
  return {
    study: 'ablation',
    records: records.map(({ revision }) => revision.correction.id),
    batchSize,
    asking: { ...asking },
    circumstances: circumstancesOf(variant),
  };
}

async function measureVariant(
  variant: Variant,
  question: AblationQuestion,
  keeping: AblationKeeping,
): Promise<Omit<AblationPoint, 'name' | 'parameters'>> {
  const { records, batchSize, asking } = question;
  const engine = await keeping.openEngine(variant);
  try {
    const folder = path.join(
      keeping.folder,
      'streams',
      nameOf(aboutVariant(variant, question)).slice(0, 16),
    );
    const stream = await EditedStream.open(
      folder,
      engine,
      records.map(withoutProbes),
      batchEnds(records.length, batchSize),
    );
    await stream.advanceTo(records.length, (corrections) => keeping.edited(variant, corrections));
    const hookId = await ensureHook(
      engine,
      stream.versions.log(STUDY_LINEAGE),
      await stream.rowsAt(records.length),
    );
    const measures = await measureStream(engine, hookId, records, asking);
    const timed = stream.done.filter((batch) => batch.seconds !== null && !batch.resumed);
    const corrections = timed.reduce((sum, { begin, end }) => sum + end - begin, 0);
    return {
      ...measures,
      corrections: records.length,
      refused: stream.done.reduce((sum, batch) => sum + batch.refused, 0),
      secondsPerCorrection:
        corrections === 0
          ? null
          : timed.reduce((sum, { seconds }) => sum + seconds!, 0) / corrections,
    };
  } finally {
    await engine.close();
  }
}

export const ABLATION_COLUMNS: Column<AblationPoint>[] = [
  { name: 'variant', of: (point) => point.name },
  { name: 'refused', of: (point) => point.refused },
  { name: 'efficacy', of: (point) => point.efficacy, as: percent },
  { name: 'greedy', of: (point) => point.efficacyGreedy, as: percent },
  { name: 'p(new) > p(old)', of: (point) => point.preference, as: percent },
  { name: 'paraphrase', of: (point) => point.paraphrase, as: percent },
  { name: 'paraphrase argmax', of: (point) => point.paraphraseArgmax, as: percent },
  { name: 'neighbours', of: (point) => point.neighboursUnchanged, as: percent },
  { name: 'perplexity ratio', of: (point) => point.perplexityRatio, as: digits(4) },
  { name: 'earliest greedy', of: (point) => point.earliest.efficacyGreedy, as: percent },
  { name: 's / correction', of: (point) => point.secondsPerCorrection, as: digits(2) },
];
