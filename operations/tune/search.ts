/**
 * Searches for layers and lambda in three rounds, each on more facts than the one before. Clearly
 * worse candidates stop early (successive halving, arXiv 1502.07943). First, all windows at lambda
 * = F on half of the tuning facts. Second, the best windows with every lambda on all of them.
 * Third, the winner and the model's present set on the validation facts, which no choice used.
 */
import { createHash } from 'node:crypto';
import type { ModelConfig } from '../../model/checkpoint/checkpoint.ts';
import { parametersFor } from '../../model/engine/parameters.ts';
import { DEFAULT_LINEAGE_SETTINGS } from '../../schemas/settings.ts';
import type { FactRecord } from './fact-records.ts';
import { candidate, nameOf, type Candidate } from './grid.ts';
import type { Measures, TrialLog } from './trial-log.ts';

export type Round = 'windows' | 'lambda' | 'validation';

export interface Trial {
  round: Round;
  candidate: Candidate;
  facts: number;
  measures: Measures;
  score: number;
}

export interface TuneResult {
  trials: Trial[];
  /** The winner's trial on the validation facts. */
  best: Trial;
  /** The model's present set on the validation facts; null if it is the best. */
  present: Trial | null;
}

export interface Search {
  config: ModelConfig;
  windows: readonly (readonly number[])[];
  lambdaFactors: readonly number[];
  facts: { tuning: readonly FactRecord[]; validation: readonly FactRecord[] };
  /** A hash of everything else that a trial depends on: model, parameters, batch size. */
  identity: string;
  log: TrialLog;
  /** Edits the facts with the candidate and measures the result. */
  tryOut: (candidate: Candidate, facts: readonly FactRecord[]) => Promise<Measures>;
  /** Called with each trial; `known` if an earlier run finished it. */
  report: (trial: Trial, known: boolean) => void;
}

/** Throws RangeError when there are too few facts to halve. */
export async function searchParameters(search: Search): Promise<TuneResult> {
  const { config, windows, lambdaFactors, facts } = search;
  if (facts.tuning.length < 2 || facts.validation.length === 0)
    throw new RangeError('tuning needs at least 3 facts of different subjects');
  const trials: Trial[] = [];
  const run = async (round: Round, tried: Candidate, on: readonly FactRecord[]): Promise<Trial> => {
    const trial = await runTrial(search, round, tried, on);
    trials.push(trial);
    return trial;
  };

  const rough = facts.tuning.slice(0, Math.max(2, Math.ceil(facts.tuning.length / 2)));
  const first: Trial[] = [];
  for (const layers of windows)
    first.push(await run('windows', candidate(config, layers, 1), rough));
  const second: Trial[] = [];
  for (const { candidate: window } of survivors(first)) {
    for (const factor of lambdaFactors)
      second.push(await run('lambda', candidate(config, window.layers, factor), facts.tuning));
  }
  const winner = ranked(second)[0]!.candidate;
  const best = await run('validation', winner, facts.validation);
  const own = parametersFor(config);
  const present = {
    layers: own.layers,
    lambda: own.lambda,
    lambdaFactor: Number((own.lambda / config.mlpWidth).toPrecision(3)),
  };
  const same = nameOf(winner) === nameOf(present);
  return {
    trials,
    best,
    present: same ? null : await run('validation', present, facts.validation),
  };
}

async function runTrial(
  { identity, log, tryOut, report }: Search,
  round: Round,
  tried: Candidate,
  on: readonly FactRecord[],
): Promise<Trial> {
  const key = keyOf(identity, tried, on);
  const known = log.get(key);
  const measures = known ?? (await tryOut(tried, on));
  if (known === undefined) await log.put(key, measures);
  const score = scoreOf(measures);
  const trial = { round, candidate: tried, facts: on.length, measures, score };
  report(trial, known !== undefined);
  return trial;
}

/**
 * Returns the harmonic mean of efficacy, paraphrase and neighbours, which is CounterFact's own
 * score. Below 0 if ordinary text suffers more than a verdict allows by default, so that any less
 * harmful candidate is better.
 */
export function scoreOf({
  efficacy,
  paraphrase,
  neighboursUnchanged,
  perplexityRatio,
}: Measures): number {
  const shares = [efficacy, paraphrase, neighboursUnchanged].filter((share) => share !== null);
  const mean = shares.some((share) => share === 0)
    ? 0
    : shares.length / shares.reduce((sum, share) => sum + 1 / share, 0);
  return perplexityRatio <= DEFAULT_LINEAGE_SETTINGS.verdict.canaryRatioMax
    ? mean
    : 1 - perplexityRatio;
}

/** Halves the facts. Facts of one subject stay together, so that validation facts are unseen. */
export function halves(records: readonly FactRecord[]): {
  tuning: FactRecord[];
  validation: FactRecord[];
} {
  const subjects = [...new Set(records.map(subjectOf))];
  const half = new Map(subjects.map((subject, i) => [subject, i % 2]));
  return {
    tuning: records.filter((record) => half.get(subjectOf(record)) === 0),
    validation: records.filter((record) => half.get(subjectOf(record)) === 1),
  };
}

/** Windows that reach the second round, at most. */
const SURVIVORS_MAX = 2;
/** Largest distance of a window's score from the best one; windows further behind are dropped. */
const BEHIND_MAX = 0.15;

function survivors(trials: readonly Trial[]): Trial[] {
  const order = ranked(trials);
  return order.filter(({ score }) => score >= order[0]!.score - BEHIND_MAX).slice(0, SURVIVORS_MAX);
}

/** Ranks the best first; among equals, the one whose lambda is nearer to F. */
function ranked(trials: readonly Trial[]): Trial[] {
  const strangeness = ({ candidate: { lambdaFactor } }: Trial): number =>
    Math.abs(Math.log(lambdaFactor));
  return [...trials].sort((a, b) => b.score - a.score || strangeness(a) - strangeness(b));
}

function subjectOf({ revision }: FactRecord): string {
  return revision.correction.subject;
}

function keyOf(identity: string, tried: Candidate, facts: readonly FactRecord[]): string {
  const texts = facts.map((one) => [
    one.prompt,
    one.target,
    one.old,
    one.paraphrases,
    one.neighbours,
  ]);
  const trial = JSON.stringify([identity, tried.layers, tried.lambda, texts]);
  return createHash('sha256').update(trial).digest('hex');
}
