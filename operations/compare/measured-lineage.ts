/** Measures one lineage on a list of corrections: its answers, and the answers left unchanged. */
import { firstWords, holds } from '../../activities/batch/run-probes.ts';
import type { Probe } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import type { ActiveCorrection, History } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';

/** Corrections in one call of the engine; a command can be stopped between two calls. */
const CORRECTIONS_AT_ONCE = 16;
const ANSWER_TOKENS = 4;

/** Returns the corrections active in either: those of the first, then those only of the second. */
export function probedCorrections(first: History, second: History): ActiveCorrection[] {
  return [
    ...first.active.values(),
    ...[...second.active.values()].filter(({ correctionId }) => !first.active.has(correctionId)),
  ];
}

export type MeasuredSide = Awaited<ReturnType<typeof measureLineage>>;

/** Measures a lineage; the engine must have the lineage's base model and hyper-parameters. */
export async function measureLineage(
  { engine, log, history }: { engine: Engine; log: VersionLog; history: History },
  probed: readonly ActiveCorrection[],
  progress: (done: number) => void = () => {},
) {
  const began = performance.now();
  const rows = [...history.active.values()];
  const corrections: Awaited<ReturnType<typeof measureCorrections>> = [];
  for (let from = 0; from < probed.length; from += CORRECTIONS_AT_ONCE) {
    progress(from);
    // Ensured each time, since other hooks may have displaced it from the engine's memory.
    const hookId = await ensureHook(engine, log, rows);
    const some = probed.slice(from, from + CORRECTIONS_AT_ONCE);
    corrections.push(...(await measureCorrections(engine, hookId, history, some)));
  }
  progress(probed.length);
  const hookId = await ensureHook(engine, log, rows);
  const { ratio } = await engine.canary(hookId);
  const { model } = await engine.describe();
  const own = corrections.filter(({ holds }) => holds);
  const editNorms = (history.latest?.entry.layers ?? []).map(({ editNorm }) => editNorm);
  return {
    corrections,
    /** The lineage's scores. Shares are fractions in [0, 1]; null without any probes. */
    measured: {
      lineage: log.lineage,
      version: history.head.version,
      base: { name: model.name, sha256: model.sha256 },
      corrections: history.active.size,
      /** Share of the lineage's own corrections that are effective. */
      efficacy: share(own.map(({ effective }) => effective)),
      efficacyGreedy: share(own.map(({ greedy }) => greedy)),
      /** Share of all probed corrections that are effective. */
      efficacyOfAll: share(corrections.map(({ effective }) => effective)),
      paraphrases: share(corrections.flatMap(({ paraphrases }) => paraphrases)),
      neighbours: share(corrections.flatMap(({ neighbours }) => neighbours)),
      perplexityRatio: ratio,
      editNorm: Math.max(0, ...editNorms),
      /** Time for building the hook and probing. */
      seconds: (performance.now() - began) / 1_000,
    },
  };
}

async function measureCorrections(
  engine: Engine,
  hookId: string | null,
  history: History,
  corrections: readonly ActiveCorrection[],
) {
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
      ...(!['', target.trim()].includes(alternatives[i]!) && { alternative: alternatives[i]! }),
    })),
  );
  const answers = await engine.probe(hookId, [...own, ...near, ...paraphrased]);
  let [nearAt, paraphraseAt] = [own.length, own.length + near.length];
  return corrections.map(({ correctionId: id, paraphrases, neighbourhood }, i) => {
    const { answer, targetIsArgmax, targetIsGreedy } = answers[i]!;
    const neighbourAt = nearAt;
    const preferringAt = paraphraseAt;
    nearAt += neighbourhood.length;
    paraphraseAt += paraphrases.length;
    return {
      id,
      holds: history.active.has(id),
      /** Greedy continuation of its own prompt. */
      answer,
      effective: targetIsArgmax === true,
      greedy: targetIsGreedy === true,
      /** Whether each paraphrase prefers the target to the base model's answer. */
      paraphrases: paraphrases.map((_, n) => holds(answers[preferringAt + n]!)),
      /** Whether each neighbour has the base model's next token. */
      neighbours: neighbourhood.map(
        (_, n) => answers[neighbourAt + n]!.nextToken === based[neighbourAt + n]!.nextToken,
      ),
    };
  });
}

function share(found: readonly boolean[]): number | null {
  return found.length === 0 ? null : found.filter(Boolean).length / found.length;
}
