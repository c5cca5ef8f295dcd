/** Measures of a stream at a mark: the benchmark's on a sample, and the earliest corrections'. */
import type { Engine } from '../../model/engine/engine.ts';
import { measureFacts, type FactMeasures } from '../../operations/tune/measure-facts.ts';
import { ensureHook } from '../../versions/log/hook-pairs.ts';
import { digits, percent, type Column } from '../tables.ts';
import { STUDY_LINEAGE, type BatchDone, type EditedStream } from './edited-stream.ts';
import { latestOfEachFact, sampleOf, type StudyRecord } from './study-records.ts';

export interface MarkMeasures extends FactMeasures {
  /** Records measured. */
  sample: number;
  /** The earliest corrections that are asked again. */
  earliest: { asked: number; efficacy: number; efficacyGreedy: number };
}

export interface SampleSizes {
  /** Records measured at most. */
  sampleMax: number;
  /** How many of the stream's first corrections are asked again. */
  earliestMax: number;
}

/**
 * Measures on those records of the stream so far that may be measured. The earliest are those of
 * the first `earliestMax` that no later record supersedes. An infinite perplexity ratio becomes the
 * largest number that JSON can write.
 */
export async function measureStream(
  engine: Engine,
  hookId: string | null,
  records: readonly StudyRecord[],
  { sampleMax, earliestMax }: SampleSizes,
): Promise<MarkMeasures> {
  const latest = latestOfEachFact(records);
  const sample = sampleOf(latest, sampleMax);
  const measured = await measureFacts(engine, hookId, sample);
  const first = new Set(records.slice(0, earliestMax));
  const probes = latest
    .filter((record) => first.has(record))
    .map(({ prompt, target, old }) => ({
      prompt,
      target,
      alternative: old,
      greedyTokensMax: 0,
    }));
  const answers = await engine.probe(hookId, probes);
  const share = (holds: (answer: (typeof answers)[number]) => boolean) =>
    answers.length === 0 ? 0 : answers.filter(holds).length / answers.length;
  const { perplexityRatio } = measured;
  return {
    ...measured,
    perplexityRatio: Number.isFinite(perplexityRatio) ? perplexityRatio : Number.MAX_VALUE,
    sample: sample.length,
    earliest: {
      asked: answers.length,
      efficacy: share((answer) => answer.targetIsArgmax === true),
      efficacyGreedy: share((answer) => answer.targetIsGreedy === true),
    },
  };
}

/** Makes the engine hold the hook of the stream at `end`; returns its id. */
export async function hookAt(
  stream: EditedStream,
  end: number,
  engine: Engine,
): Promise<string | null> {
  return await ensureHook(engine, stream.versions.log(STUDY_LINEAGE), await stream.rowsAt(end));
}

export function refusedIn(batches: readonly BatchDone[]): number {
  return batches.reduce((sum, { refused }) => sum + refused, 0);
}

/** Mean over the batches that were timed from start to end; null if there are none. */
export function secondsPerCorrection(
  batches: readonly BatchDone[],
  secondsOf: (batch: BatchDone) => number,
): number | null {
  const timed = batches.filter(({ seconds, resumed }) => seconds !== null && !resumed);
  const corrections = timed.reduce((sum, { begin, end }) => sum + end - begin, 0);
  if (corrections === 0) return null;
  return timed.reduce((sum, batch) => sum + secondsOf(batch), 0) / corrections;
}

const SHARES = {
  preference: 'p(new) > p(old)',
  paraphrase: 'paraphrase',
  paraphraseArgmax: 'paraphrase argmax',
  neighboursUnchanged: 'neighbours',
} as const;

/** Columns of efficacy, of these further measures, and of the perplexity ratio. */
export function measureColumns<Point extends MarkMeasures>(
  ...further: (keyof typeof SHARES)[]
): Column<Point>[] {
  return [
    { name: 'efficacy', of: (point) => point.efficacy, as: percent },
    { name: 'greedy', of: (point) => point.efficacyGreedy, as: percent },
    ...further.map((measure): Column<Point> => ({
      name: SHARES[measure],
      of: (point) => point[measure],
      as: percent,
    })),
    { name: 'perplexity ratio', of: (point) => point.perplexityRatio, as: digits(4) },
  ];
}
