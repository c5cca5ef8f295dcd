/** Measures one lineage on a list of corrections: what it answers, and what it leaves unchanged. */
import { firstWords, holds } from '../../activities/batch/run-probes.ts';
import type { Probe } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

export interface MeasuredCorrection {
  id: string;
  holds: boolean;
  /** Greedy continuation of its own prompt. */
  answer: string;
  effective: boolean;
  greedy: boolean;
  /** How many of `paraphrasesAsked` prefer the target to the base model's answer. */
  paraphrases: number;
  paraphrasesAsked: number;
  /** How many of `neighboursAsked` have the base model's next token. */
  neighbours: number;
  neighboursAsked: number;
}

/** What one lineage scores. Shares are fractions in [0, 1]; null where nothing was asked. */
export interface MeasuredLineage {
  lineage: string;
  version: number;
  base: { name: string; sha256: string };
  corrections: number;
  /** Share of the lineage's own corrections. */
  efficacy: number | null;
  efficacyGreedy: number | null;
  /** Share of all that are probed. */
  efficacyOfAll: number | null;
  paraphrases: number | null;
  neighbours: number | null;
  perplexityRatio: number;
  editNorm: number;
  /** Spent on building the hook and asking. */
  seconds: number;
}

/** Corrections in one call of the engine; between two calls a command can be stopped. */
const CORRECTIONS_AT_ONCE = 16;
const ANSWER_TOKENS = 4;

/** The corrections that are active in either: those of the first, then those only of the second. */
export function probedCorrections(first: History, second: History): ActiveCorrection[] {
  return [
    ...first.active.values(),
    ...[...second.active.values()].filter(({ correctionId }) => !first.active.has(correctionId)),
  ];
}

export interface MeasuredSide {
  measured: MeasuredLineage;
  corrections: MeasuredCorrection[];
}

/** Measures a lineage; the engine must have the lineage's base model and hyper-parameters. */
export async function measureLineage(
  { engine, log, history }: { engine: Engine; log: VersionLog; history: History },
  probed: readonly ActiveCorrection[],
  progress: (done: number) => void = () => {},
): Promise<MeasuredSide> {
  const began = performance.now();
  const rows = [...history.active.values()];
  const corrections: MeasuredCorrection[] = [];
  for (let from = 0; from < probed.length; from += CORRECTIONS_AT_ONCE) {
    progress(from);
    // Each time, since other hooks may have pushed it out of the engine's memory.
    const hookId = await ensureHook(engine, log, rows);
    corrections.push(
      ...(await measureCorrections(
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
  const sum = (pick: (one: MeasuredCorrection) => number): number =>
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

async function measureCorrections(
  engine: Engine,
  hookId: string | null,
  history: History,
  corrections: readonly ActiveCorrection[],
): Promise<MeasuredCorrection[]> {
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
  return corrections.map(({ correctionId, paraphrases, neighbourhood }, i): MeasuredCorrection => {
    const answer = answers[i]!;
    const unchanged = neighbourhood.filter(
      (_, n) => answers[nearAt + n]!.nextToken === based[nearAt + n]!.nextToken,
    ).length;
    const preferring = paraphrases.filter((_, n) => holds(answers[paraphraseAt + n]!)).length;
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

function share(good: number, of: number): number | null {
  return of === 0 ? null : good / of;
}
