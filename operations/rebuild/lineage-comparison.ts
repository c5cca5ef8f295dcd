/**
 * Two lineages on the same probes: every correction that holds in either is asked of both, each
 * measured against its own base model. Whatever they were made with, a fork and what it was forked
 * from can so be told apart in one table.
 */
import type { Engine, Probe, ProbeAnswer } from '../../model/engine.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

export interface ComparedCorrection {
  id: string;
  holds: boolean;
  /** Greedy continuation of its own prompt. */
  answer: string;
  effective: boolean;
  greedy: boolean;
  /** Of `paraphrasesAsked`: prefer the target to what the base model says. */
  paraphrases: number;
  paraphrasesAsked: number;
  /** Of `neighboursAsked`: have the base model's next token. */
  neighbours: number;
  neighboursAsked: number;
}

/** One side of the comparison. Shares are fractions in [0, 1]; null where nothing was asked. */
export interface MeasuredLineage {
  lineage: string;
  version: number;
  base: { name: string; sha256: string };
  corrections: number;
  /** Of those that hold here. */
  efficacy: number | null;
  efficacyGreedy: number | null;
  /** Of all that hold in either. */
  efficacyOfAll: number | null;
  paraphrases: number | null;
  neighbours: number | null;
  perplexityRatio: number;
  editNorm: number;
  /** Building the hook and asking. */
  seconds: number;
}

export interface LineageComparison {
  sides: [MeasuredLineage, MeasuredLineage];
  asked: { corrections: number; paraphrases: number; neighbours: number };
  /** Hold in the first and not in the second, and the other way round. */
  onlyFirst: string[];
  onlySecond: string[];
  /** Whose answers differ between the two; the first `DIFFERING_MAX`. */
  differing: {
    id: string;
    prompt: string;
    target: string;
    answers: [string, string];
    effective: [boolean, boolean];
  }[];
}

/** Named in the comparison. */
const DIFFERING_MAX = 1_000;
/** Corrections asked in one go; between two the command can be stopped. */
const CORRECTIONS_AT_ONCE = 16;
const ANSWER_TOKENS = 4;

/**
 * The corrections that hold in either, those of the first before those that only the second has.
 */
export function probedCorrections(first: History, second: History): ActiveCorrection[] {
  return [
    ...first.active.values(),
    ...[...second.active.values()].filter(({ correctionId }) => !first.active.has(correctionId)),
  ];
}

export interface MeasuredSide {
  measured: MeasuredLineage;
  corrections: ComparedCorrection[];
}

/** Asks one lineage all of it; the engine must be of the lineage's base and hyper-parameters. */
export async function measureLineage(
  engine: Engine,
  log: VersionLog,
  history: History,
  probed: readonly ActiveCorrection[],
  progress: (done: number) => void = () => {},
): Promise<MeasuredSide> {
  const began = performance.now();
  const rows = [...history.active.values()];
  const corrections: ComparedCorrection[] = [];
  for (let from = 0; from < probed.length; from += CORRECTIONS_AT_ONCE) {
    progress(from);
    // Every time, since the base model's questions and another's hooks may have pushed it out.
    const hookId = await ensureHook(engine, log, rows);
    corrections.push(
      ...(await compareCorrections(
        engine,
        hookId,
        history,
        probed.slice(from, from + CORRECTIONS_AT_ONCE),
      )),
    );
  }
  progress(probed.length);
  const hookId = await ensureHook(engine, log, rows);
  const { ratio } = await engine.canary(hookId);
  const { model } = await engine.describe();
  const own = corrections.filter(({ holds }) => holds);
  const sum = (pick: (one: ComparedCorrection) => number): number =>
    corrections.reduce((total, one) => total + pick(one), 0);
  return {
    corrections,
    measured: {
      lineage: log.lineage,
      version: history.head.version,
      base: { name: model.name, sha256: model.sha256 },
      corrections: history.active.size,
      efficacy: share(own.filter(({ effective }) => effective).length, own.length),
      efficacyGreedy: share(own.filter(({ greedy }) => greedy).length, own.length),
      efficacyOfAll: share(
        corrections.filter(({ effective }) => effective).length,
        corrections.length,
      ),
      paraphrases: share(
        sum((one) => one.paraphrases),
        sum((one) => one.paraphrasesAsked),
      ),
      neighbours: share(
        sum((one) => one.neighbours),
        sum((one) => one.neighboursAsked),
      ),
      perplexityRatio: ratio,
      editNorm: Math.max(
        0,
        ...(history.latest?.entry.layers ?? []).map(({ editNorm }) => editNorm),
      ),
      seconds: (performance.now() - began) / 1_000,
    },
  };
}

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
  return {
    sides: [first.measured, second.measured],
    asked: {
      corrections: probed.length,
      paraphrases: probed.reduce((sum, { paraphrases }) => sum + paraphrases.length, 0),
      neighbours: probed.reduce((sum, { neighbourhood }) => sum + neighbourhood.length, 0),
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

async function compareCorrections(
  engine: Engine,
  hookId: string | null,
  history: History,
  corrections: readonly ActiveCorrection[],
): Promise<ComparedCorrection[]> {
  const own = corrections.map(({ prompt, target }): Probe => ({
    prompt,
    target,
    greedyTokensMax: ANSWER_TOKENS,
  }));
  const near = corrections.flatMap(({ neighbourhood }) =>
    neighbourhood.map((prompt): Probe => ({ prompt, greedyTokensMax: 1 })),
  );
  const based = await engine.probe(null, [...own, ...near]);
  const alternatives = corrections.map(({ target }, i) => firstWords(based[i]!.answer, target));
  const paraphrased = corrections.flatMap(({ paraphrases, target }, i) =>
    paraphrases.map((prompt): Probe => ({
      prompt,
      target,
      greedyTokensMax: 1,
      ...(alternatives[i] === '' || alternatives[i] === target.trim()
        ? {}
        : { alternative: alternatives[i]! }),
    })),
  );
  const answers = await engine.probe(hookId, [...own, ...near, ...paraphrased]);
  let [nearAt, paraphraseAt] = [own.length, own.length + near.length];
  return corrections.map(({ correctionId, paraphrases, neighbourhood }, i): ComparedCorrection => {
    const answer = answers[i]!;
    const unchanged = neighbourhood.filter(
      (_, n) => answers[nearAt + n]!.nextToken === based[nearAt + n]!.nextToken,
    ).length;
    const preferring = paraphrases.filter((_, n) =>
      prefersTarget(answers[paraphraseAt + n]!),
    ).length;
    nearAt += neighbourhood.length;
    paraphraseAt += paraphrases.length;
    return {
      id: correctionId,
      holds: history.active.has(correctionId),
      answer: answer.answer,
      effective: answer.targetIsArgmax === true,
      greedy: answer.targetIsGreedy === true,
      paraphrases: preferring,
      paraphrasesAsked: paraphrases.length,
      neighbours: unchanged,
      neighboursAsked: neighbourhood.length,
    };
  });
}

/**
 * As the verdict sees it: where there is nothing to prefer it to, it must be the model's own
 * answer.
 */
function prefersTarget(answer: ProbeAnswer): boolean {
  if (answer.alternativeLogProbability === null) return answer.targetIsArgmax === true;
  return answer.targetLogProbability! > answer.alternativeLogProbability;
}

function firstWords(answer: string, target: string): string {
  return answer.trim().split(/\s+/u).slice(0, target.trim().split(/\s+/u).length).join(' ');
}

function share(good: number, of: number): number | null {
  return of === 0 ? null : good / of;
}
