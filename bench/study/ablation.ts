/**
 * What each part of the editor contributes: the same records edited by named variants of its
 * parameters, and measured at the end.
 */
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/editing.ts';
import { digits, percent, type Column } from '../tables.ts';
import { batchEnds, EditedStream } from './edited-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { streamFolder } from './kept-points.ts';
import {
  hookAt,
  measureColumns,
  measureStream,
  refusedIn,
  secondsPerCorrection,
  type MarkMeasures,
  type SampleSizes,
} from './stream-measures.ts';
import { idsOf, withoutProbes, type StudyRecord } from './study-records.ts';
import { runStudy, type Keeping, type StudyOptions } from './study-run.ts';

export interface AblationOptions extends StudyOptions {
  batch: number;
  variants?: Record<string, HyperParameterOverrides>;
  only?: string[];
  sample: number;
}

export interface Variant {
  name: string;
  parameters: HyperParameterOverrides;
}

export interface AblationQuestion {
  records: readonly StudyRecord[];
  batchSize: number;
  asking: SampleSizes;
  circumstancesOf: (variant: Variant) => Record<string, unknown>;
  /** Called for a variant that is not kept already; the engine is closed afterwards. */
  openEngine: (variant: Variant) => Promise<GatedEngine>;
}

export interface AblationPoint extends MarkMeasures {
  name: string;
  parameters: HyperParameterOverrides;
  corrections: number;
  refused: number;
  /** Null if no batch was timed from start to end. */
  secondsPerCorrection: number | null;
}

export async function runAblation(options: AblationOptions): Promise<void> {
  await runStudy('ablation', options, async (run, records) => {
    const { batch: batchSize, only } = options;
    const given = Object.entries(options.variants ?? {});
    const variants = [
      ...defaultVariants(run.parametersWith({})),
      ...given.map(([name, parameters]): Variant => ({ name, parameters })),
    ].filter(({ name }) => only === undefined || only.some((word) => name.includes(word)));
    if (variants.length === 0) throw new Error(`no variant has a name like ${only?.join(' or ')}`);
    const question: AblationQuestion = {
      records,
      batchSize,
      asking: { sampleMax: options.sample, earliestMax: batchSize },
      circumstancesOf: ({ parameters }) => run.circumstances(parameters),
      openEngine: ({ parameters }) => run.openEngine(parameters),
    };
    const title = `# What each part contributes

${records.length} corrections in batches of ${batchSize}; each row is one change against the \
first. Shares in %.

`;
    const points: AblationPoint[] = [];
    const found = async (point: AblationPoint) => {
      points.push(point);
      await run.writeTable(title, ABLATION_COLUMNS, points, run.circumstances());
    };
    for (const variant of variants)
      await run.step<AblationPoint, unknown>(variant.name, records.length, found, (keeping) =>
        ablate([variant], question, keeping),
      );
  });
}

/** One change each against the parameters in force; those that change nothing are left out. */
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

/** Edits the records with each variant on an engine of its own, and measures. */
export async function ablate(
  variants: readonly Variant[],
  question: AblationQuestion,
  keeping: Keeping<AblationPoint>,
): Promise<AblationPoint[]> {
  const { records, batchSize, asking } = question;
  const points: AblationPoint[] = [];
  for (const variant of variants) {
    const about = {
      study: 'ablation',
      records: idsOf(records),
      batchSize,
      asking: { ...asking },
      circumstances: question.circumstancesOf(variant),
    };
    const { answer } = await keeping.points.once(about, async () => {
      const engine = await question.openEngine(variant);
      try {
        return await measured(engine, question, {
          folder: streamFolder(keeping.folder, about),
          edited: keeping.edited,
        });
      } finally {
        await engine.close();
      }
    });
    const point = { ...variant, ...answer };
    points.push(point);
    await keeping.found(point);
  }
  return points;
}

async function measured(
  engine: GatedEngine,
  { records, batchSize, asking }: AblationQuestion,
  { folder, edited }: Pick<Keeping<never>, 'folder' | 'edited'>,
): Promise<Omit<AblationPoint, keyof Variant>> {
  const { length: corrections } = records;
  const ends = batchEnds(corrections, batchSize);
  const stream = await EditedStream.open(folder, engine, records.map(withoutProbes), ends);
  await stream.advanceTo(corrections, edited);
  const hookId = await hookAt(stream, corrections, engine);
  return {
    ...(await measureStream(engine, hookId, records, asking)),
    corrections,
    refused: refusedIn(stream.done),
    secondsPerCorrection: secondsPerCorrection(stream.done, ({ seconds }) => seconds!),
  };
}

export const ABLATION_COLUMNS: Column<AblationPoint>[] = [
  { name: 'variant', of: (point) => point.name },
  { name: 'refused', of: (point) => point.refused },
  ...measureColumns<AblationPoint>(
    'preference',
    'paraphrase',
    'paraphraseArgmax',
    'neighboursUnchanged',
  ),
  { name: 'earliest greedy', of: (point) => point.earliest.efficacyGreedy, as: percent },
  { name: 's / correction', of: (point) => point.secondsPerCorrection, as: digits(2) },
];
