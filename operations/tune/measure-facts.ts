/** Measures the effect of a hook on facts, against the base model. */
import type { Probe, ProbeAnswer } from '../../model/engine-types.ts';
import type { Engine } from '../../model/engine/engine.ts';
import type { FactRecord } from './fact-records.ts';

/** Number of first facts in a stream that are measured separately. */
const EARLIEST_MAX = 200;

export type FactMeasures = Awaited<ReturnType<typeof measureFacts>>;

/** Shares are fractions in [0, 1]; null without any probes. */
export async function measureFacts(
  engine: Engine,
  hookId: string | null,
  records: readonly FactRecord[],
) {
  const scored = (prompt: string, { target, old: alternative }: FactRecord): Probe => ({
    prompt,
    target,
    alternative,
    greedyTokensMax: 0,
  });
  const own = records.map((record) => scored(record.prompt, record));
  const paraphrases = records.flatMap((record) =>
    record.paraphrases.map((prompt) => scored(prompt, record)),
  );
  const neighbours = [...new Set(records.flatMap((record) => record.neighbours))].map(
    (prompt): Probe => ({ prompt, greedyTokensMax: 0 }),
  );
  const ask = async (id: string | null) => ({
    own: await engine.probe(id, own),
    paraphrases: await engine.probe(id, paraphrases),
    neighbours: await engine.probe(id, neighbours),
  });
  const before = await ask(null);
  const after = await ask(hookId);
  const canary = await engine.canary(hookId);
  const earliest = after.own.slice(0, EARLIEST_MAX);
  return {
    efficacy: share(after.own, isArgmax) ?? 0,
    efficacyGreedy: share(after.own, isGreedy) ?? 0,
    /** p(new) > p(old) on the own prompts. */
    preference: share(after.own, prefersTarget) ?? 0,
    paraphrase: share(after.paraphrases, prefersTarget),
    paraphraseArgmax: share(after.paraphrases, isArgmax),
    neighboursUnchanged: share(
      after.neighbours,
      ({ nextToken }, i) => nextToken === before.neighbours[i]!.nextToken,
    ),
    perplexityRatio: canary.ratio,
    /** Share of tokens of ordinary text on which a gate opens. */
    ordinaryOpenShare: canary.openShare,
    /** The first corrections of the stream, measured at its end. */
    earliest: {
      asked: earliest.length,
      efficacy: share(earliest, isArgmax) ?? 0,
      efficacyGreedy: share(earliest, isGreedy) ?? 0,
    },
    before: {
      efficacy: share(before.own, isArgmax) ?? 0,
      preference: share(before.own, prefersTarget) ?? 0,
      paraphrase: share(before.paraphrases, prefersTarget),
    },
  };
}

function isArgmax({ targetIsArgmax }: ProbeAnswer): boolean {
  return targetIsArgmax === true;
}

function isGreedy({ targetIsGreedy }: ProbeAnswer): boolean {
  return targetIsGreedy === true;
}

function prefersTarget(answer: ProbeAnswer): boolean {
  return answer.targetLogProbability! > answer.alternativeLogProbability!;
}

function share<Item>(
  items: readonly Item[],
  holds: (item: Item, index: number) => boolean,
): number | null {
  return items.length === 0 ? null : items.filter(holds).length / items.length;
}
