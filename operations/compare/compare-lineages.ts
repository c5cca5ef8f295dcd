/**
 * Compares two lineages on the same probes. Both are probed with every correction that is active in
 * either, each measured against its own base model. One model is loaded after the other.
 */
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { OperationRefused } from '../operation-refused.ts';
import { measureLineage, probedCorrections, type MeasuredSide } from './measured-lineage.ts';

export interface ComparedLineage {
  log: VersionLog;
  /** Null: HEAD. */
  version: number | null;
  /** The lineage's base model; its hyper-parameters are read from the log. */
  model: EngineOptions;
}

type Report = (step: string, done: number, of: number) => void;

export type LineageComparison = ReturnType<typeof comparisonOf>;

/** Differently answered corrections that a comparison lists. */
const DIFFERING_MAX = 1_000;

/**
 * Measures and compares both lineages, and reports the progress of each step. Throws
 * `OperationRefused` if a version does not exist, a model is not the lineage's own, or neither
 * lineage has an active correction.
 */
export async function compareLineages(
  first: ComparedLineage,
  second: ComparedLineage,
  report: Report,
): Promise<LineageComparison> {
  const histories = [await historyOf(first), await historyOf(second)] as const;
  const probed = probedCorrections(...histories);
  if (probed.length === 0)
    throw new OperationRefused('neither lineage has a correction', '`errata log` lists versions.');
  return comparisonOf(
    await measured(first, histories[0], probed, report),
    await measured(second, histories[1], probed, report),
    probed,
  );
}

async function historyOf({ log, version }: ComparedLineage): Promise<History> {
  const { head } = await log.read();
  if (version !== null && version > head.version)
    throw new OperationRefused(
      `lineage ${log.lineage} has versions up to ${head.version}`,
      '`errata log` lists them.',
    );
  return await log.at(version ?? head.version);
}

async function measured(
  { log, model }: ComparedLineage,
  history: History,
  probed: readonly ActiveCorrection[],
  report: Report,
): Promise<MeasuredSide> {
  const { lineage } = log;
  // The base model is measured with the configured hyper-parameters.
  const parameters = history.latest?.entry.parameters ?? model.parameters;
  const engine = await ThreadEngine.open({ ...model, parameters }, (label, share) =>
    report(`${label} for ${lineage}`, Math.round(100 * share), 100),
  );
  try {
    await requireItsModel(engine, history);
    return await measureLineage({ engine, log, history }, probed, (done) =>
      report(`asking ${lineage}`, done, probed.length),
    );
  } finally {
    await engine.close();
  }
}

async function requireItsModel(engine: ThreadEngine, { lineage, latest }: History): Promise<void> {
  const { model } = await engine.describe();
  if (latest === null || latest.entry.base.sha256 === model.sha256) return;
  const { base } = latest.entry;
  throw new OperationRefused(
    `lineage ${lineage} was made with ${base.name} (${base.sha256.slice(0, 12)}), ` +
      `the model given is ${excerpt(model.name)} (${model.sha256.slice(0, 12)})`,
    'Name its model: --model-a for the first lineage, --model-b for the second.',
  );
}

/** Compares the measurements of two lineages, correction by correction. */
export function comparisonOf(
  first: MeasuredSide,
  second: MeasuredSide,
  probed: readonly ActiveCorrection[],
) {
  const pairs = first.corrections.map((one, i) => ({ one, other: second.corrections[i]!, i }));
  const differing = pairs.filter(
    ({ one, other }) => one.answer !== other.answer || one.effective !== other.effective,
  );
  const heldOnlyBy = (side: MeasuredSide, rival: MeasuredSide): string[] =>
    side.corrections
      .filter(({ holds }, i) => holds && !rival.corrections[i]!.holds)
      .map(({ id }) => id);
  return {
    sides: [first.measured, second.measured] as const,
    asked: {
      corrections: probed.length,
      paraphrases: probed.flatMap(({ paraphrases }) => paraphrases).length,
      neighbours: probed.flatMap(({ neighbourhood }) => neighbourhood).length,
    },
    /** Active only in the first. */
    onlyFirst: heldOnlyBy(first, second),
    /** Active only in the second. */
    onlySecond: heldOnlyBy(second, first),
    differing: differing.slice(0, DIFFERING_MAX).map(({ one, other, i }) => ({
      id: one.id,
      prompt: probed[i]!.prompt,
      target: probed[i]!.target,
      answers: [one.answer, other.answer] as const,
      effective: [one.effective, other.effective] as const,
    })),
  };
}
