/**
 * Compares two lineages on the same probes: every correction that is active in either is asked of
 * both, each measured against its own base model. One model is loaded after the other.
 */
import type { EngineOptions } from '../../model/engine/loaded-model.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import { excerpt } from '../../schemas/encoding/excerpt.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { OperationRefused } from '../operation-refused.ts';
import {
  measureLineage,
  probedCorrections,
  type MeasuredLineage,
  type MeasuredSide,
} from './measured-lineage.ts';

export interface ComparedLineage {
  log: VersionLog;
  /** Null: HEAD. */
  version: number | null;
  /** The model that the lineage was made with; its hyper-parameters are read from the log. */
  model: EngineOptions;
}

export interface LineageComparison {
  sides: [MeasuredLineage, MeasuredLineage];
  asked: { corrections: number; paraphrases: number; neighbours: number };
  /** Active in the first and not in the second. */
  onlyFirst: string[];
  /** Active in the second and not in the first. */
  onlySecond: string[];
  /** Corrections that the two answer differently; the first `DIFFERING_MAX`. */
  differing: {
    id: string;
    prompt: string;
    target: string;
    answers: [string, string];
    effective: [boolean, boolean];
  }[];
}

const DIFFERING_MAX = 1_000;

/**
 * Measures both and compares them, and reports how much of each step is done. Throws
 * `OperationRefused` where a version does not exist, a model is not the one that its lineage was
 * made with, or neither lineage has an active correction.
 */
export async function compareLineages(
  first: ComparedLineage,
  second: ComparedLineage,
  report: (step: string, done: number, of: number) => void,
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
  report: (step: string, done: number, of: number) => void,
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

/** Compares what was measured of two lineages, correction by correction. */
export function comparisonOf(
  first: MeasuredSide,
  second: MeasuredSide,
  probed: readonly ActiveCorrection[],
): LineageComparison {
  const pairs = first.corrections.map((one, i) => ({
    one,
    other: second.corrections[i]!,
    correction: probed[i]!,
  }));
  const count = (of: (correction: ActiveCorrection) => readonly string[]): number =>
    probed.reduce((sum, correction) => sum + of(correction).length, 0);
  return {
    sides: [first.measured, second.measured],
    asked: {
      corrections: probed.length,
      paraphrases: count(({ paraphrases }) => paraphrases),
      neighbours: count(({ neighbourhood }) => neighbourhood),
    },
    onlyFirst: pairs.filter(({ one, other }) => one.holds && !other.holds).map(({ one }) => one.id),
    onlySecond: pairs
      .filter(({ one, other }) => !one.holds && other.holds)
      .map(({ one }) => one.id),
    differing: pairs
      .filter(({ one, other }) => one.answer !== other.answer || one.effective !== other.effective)
      .slice(0, DIFFERING_MAX)
      .map(({ one, other, correction }) => ({
        id: one.id,
        prompt: correction.prompt,
        target: correction.target,
        answers: [one.answer, other.answer],
        effective: [one.effective, other.effective],
      })),
  };
}
