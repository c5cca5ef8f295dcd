/**
 * What a stream's hook is measured by at a mark: the benchmark's measures on a sample, and how the
 * earliest batch fares.
 */
import { measure, type StreamMeasures } from '../edit-stream.ts';
import type { GatedEngine } from './gated-engine.ts';
import { latestOfEachFact, sampleOf, type StudyRecord } from './study-records.ts';

export interface MarkMeasures extends StreamMeasures {
  /** Records measured. */
  sample: number;
  /** The earliest corrections that are asked again. */
  earliest: { asked: number; efficacy: number; efficacyGreedy: number };
}

export interface Asking {
  /** Records measured at most. */
  sampleMax: number;
  /** Of the stream's first corrections, how many are asked again. */
  earliestMax: number;
}

/**
 * `records` are those of the stream so far that may be measured. The earliest are those among the
 * first `earliestMax` of them that nothing later has superseded. Numbers that are not finite come
 * as the largest that JSON can write.
 */
export async function measureStream(
  engine: GatedEngine,
  hookId: string | null,
  records: readonly StudyRecord[],
  { sampleMax, earliestMax }: Asking,
): Promise<MarkMeasures> {
  const latest = latestOfEachFact(records);
  const sample = sampleOf(latest, sampleMax);
  const measured = await measure(engine, hookId, sample);
  const first = new Set(records.slice(0, earliestMax));
  const earliest = latest.filter((record) => first.has(record));
  const answers = await engine.probe(
    hookId,
    earliest.map(({ prompt, target, old }) => ({
      prompt,
      target,
      alternative: old,
      greedyTokensMax: 0,
    })),
  );
  const share = (holds: (answer: (typeof answers)[number]) => boolean) =>
    answers.length === 0 ? 0 : answers.filter(holds).length / answers.length;
  return {
    ...measured,
    perplexityRatio: Number.isFinite(measured.perplexityRatio)
      ? measured.perplexityRatio
      : Number.MAX_VALUE,
    sample: sample.length,
    earliest: {
      asked: answers.length,
      efficacy: share((answer) => answer.targetIsArgmax === true),
      efficacyGreedy: share((answer) => answer.targetIsGreedy === true),
    },
  };
}
