/**
 * Measures the contribution of each part of the editor: the same records are edited with named
 * variants of its parameters, and measured at the end.
 */
import type { HyperParameterOverrides, HyperParameters } from '../../schemas/hyper-parameters.ts';
import { batchEnds, EditedStream, refusedIn, secondsPerCorrection } from '../edited-stream.ts';
import { digits, type Column } from '../tables.ts';
import type { GatedEngine } from '../wrapped-engine.ts';
import {
  EARLIEST_GREEDY,
  measureColumns,
  measureStream,
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
  /** Called for a variant without stored measures. */
  withEngine: <Result>(
    work: (engine: GatedEngine) => Promise<Result>,
    parameters: HyperParameterOverrides,
  ) => Promise<Result>;
}

export interface AblationPoint extends MarkMeasures, Variant {
  corrections: number;
  refused: number;
  /** Null if no batch was fully timed. */
  secondsPerCorrection: number | null;
}

export async function runAblation(options: AblationOptions): Promise<void> {
  await runStudy('ablation', options, async (run, records) => {
    const { batch: batchSize, only } = options;
    const variants = [
      ...defaultVariants(run.parametersWith({})),
      ...Object.entries(options.variants ?? {}).map(([name, parameters]) => ({ name, parameters })),
    ].filter(({ name }) => only === undefined || only.some((word) => name.includes(word)));
    if (variants.length === 0) throw new Error(`no variant has a name like ${only?.join(' or ')}`);
    const question: AblationQuestion = {
      records,
      batchSize,
      asking: { sampleMax: options.sample, earliestMax: batchSize },
      circumstancesOf: ({ parameters }) => run.circumstances(parameters),
      withEngine: (work, parameters) => run.withEngine(work, parameters),
    };
    const title = `# What each part contributes

${records.length} corrections in batches of ${batchSize}; each row is one change against the \
first. Shares in %.

`;
    const found = run.table(ABLATION_COLUMNS, run.circumstances(), () => title);
    for (const variant of variants) {
      const points = (keeping: Keeping) => ablate([variant], question, keeping);
      await run.measure(variant.name, records.length, points, found);
    }
  });
}

/** Returns variants that each change one current parameter. Changes without effect are omitted. */
export function defaultVariants(base: HyperParameters): Variant[] {
  const lastBlock = base.layers.at(-1)!;
  const contexts = Math.max(1, base.contexts);
  const changes: Record<string, HyperParameterOverrides> = {
    'gate subject': { gate: { kind: 'subject' } },
    'gate sequence': { gate: { kind: 'sequence' } },
    'gate always': { gate: { kind: 'always' } },
    'one map for all': { gate: { map: 'joint' } },
    'no contexts': { contexts: 0, contextsPerStep: 0 },
    'contexts per step 1': { contextsPerStep: 1 },
    [`contexts per step ${contexts}`]: { contextsPerStep: contexts },
    'lambda x 0.25': { lambda: base.lambda * 0.25 },
    'lambda x 4': { lambda: base.lambda * 4 },
    'ridge 0': { ridge: 0 },
    'ridge 0.1': { ridge: 0.1 },
    'clamp 0.75': { clamp: 0.75 },
    'clamp 2': { clamp: 2 },
    'no KL term': { klFactor: 0 },
    'no weight decay': { weightDecay: 0 },
    'steps x 2.5': { stepsMax: Math.round(base.stepsMax * 2.5) },
    'loss target 0.2': { lossTarget: 0.2 },
    ...(base.layers.length < 3 ? {} : { [`block ${lastBlock} alone`]: { layers: [lastBlock] } }),
  };
  const effective = Object.entries(changes).filter(([, parameters]) =>
    changesAny(base, { ...parameters, gate: { ...base.gate, ...parameters.gate } }),
  );
  return [
    { name: 'as configured', parameters: {} },
    ...effective.map(([name, parameters]) => ({ name, parameters })),
  ];
}

function changesAny(base: HyperParameters, changes: HyperParameterOverrides): boolean {
  return (Object.keys(changes) as (keyof HyperParameters)[]).some(
    (name) => JSON.stringify({ ...base }[name]) !== JSON.stringify(changes[name]),
  );
}

/** Edits the records with each variant on its own engine, and measures. */
export async function* ablate(
  variants: readonly Variant[],
  { records, batchSize, asking, circumstancesOf, withEngine }: AblationQuestion,
  { points, edited }: Keeping,
): AsyncGenerator<AblationPoint> {
  const { length: corrections } = records;
  for (const variant of variants) {
    const circumstances = circumstancesOf(variant);
    const measuredWith = { study: 'ablation', records: idsOf(records), batchSize, circumstances };
    const about = { ...measuredWith, asking: { ...asking } };
    const measured = async (engine: GatedEngine) => {
      const ends = batchEnds(corrections, batchSize);
      const revisions = records.map(withoutProbes);
      const stream = new EditedStream(points.streamFolder(about), engine, revisions, ends);
      await stream.advanceTo(corrections, edited);
      return {
        ...(await measureStream(engine, await stream.hookAt(corrections), records, asking)),
        corrections,
        refused: refusedIn(stream.done),
        secondsPerCorrection: secondsPerCorrection(stream.done),
      };
    };
    const answer = await points.once(about, () => withEngine(measured, variant.parameters));
    yield { ...variant, ...answer };
  }
}

export const ABLATION_COLUMNS: Column<AblationPoint>[] = [
  ['variant', 'name'],
  ['refused', 'refused'],
  ...measureColumns('preference', 'paraphrase', 'paraphraseArgmax', 'neighboursUnchanged'),
  EARLIEST_GREEDY,
  ['s / correction', 'secondsPerCorrection', digits(2)],
];
