/**
 * Measures a stream at marks: the benchmark's measures on a sample, and on the earliest
 * corrections.
 */
import type { Engine } from '../../model/engine/engine.ts';
import { measureFacts, type FactMeasures } from '../../operations/tune/measure-facts.ts';
import type { Range } from '../command.ts';
import { latestOfEachFact } from '../edit-stream.ts';
import { EditedStream } from '../edited-stream.ts';
import { digits, percent, type Column } from '../tables.ts';
import { idsOf, inRanges, sampleOf, type StudyRecord } from './study-records.ts';
import type { Keeping } from './study-run.ts';

/** A stream that is edited once and measured at its marks. */
export interface StreamQuestion {
  records: readonly StudyRecord[];
  /** File indices of records that are edited but not measured. */
  unmeasured: readonly Range[];
  batchSize: number;
  asking: SampleSizes;
  circumstances: Record<string, unknown>;
}

export interface StreamMark {
  stream: EditedStream;
  /** Number of corrections in the stream so far. */
  end: number;
  /** Records so far that may be measured. */
  measurable: StudyRecord[];
  /** Everything that a measurement at this mark depends on. */
  about: Record<string, unknown>;
}

/** Edits a stream in batches that end at `ends`, and pauses at each of the ascending `marks`. */
export async function* marksOf(
  engine: Engine,
  study: string,
  { records, unmeasured, asking, circumstances }: StreamQuestion,
  {
    ends,
    marks,
    revisionOf,
    points,
    edited,
  }: Keeping & {
    ends: readonly number[];
    marks: readonly number[];
    revisionOf: (record: StudyRecord) => StudyRecord['revision'];
  },
): AsyncGenerator<StreamMark> {
  const about = { study, records: idsOf(records), ends: [...ends], circumstances };
  const revisions = records.map(revisionOf);
  const stream = new EditedStream(points.streamFolder(about), engine, revisions, ends);
  for (const end of marks) {
    await stream.advanceTo(end, edited);
    edited(end);
    const measurable = records.slice(0, end).filter(({ index }) => !inRanges(index, unmeasured));
    const measuredWith = { mark: end, asking: { ...asking }, unmeasured: [...unmeasured] };
    yield { stream, end, measurable, about: { ...about, ...measuredWith } };
  }
}

export interface MarkMeasures extends FactMeasures {
  sample: number;
}

export interface SampleSizes {
  /** Maximum number of measured records. */
  sampleMax: number;
  /** Number of the stream's first corrections that are measured separately. */
  earliestMax: number;
}

/**
 * Measures a sample of the records. The earliest are those of the first `earliestMax` that no later
 * record supersedes. An infinite perplexity ratio becomes the largest number that JSON can
 * represent.
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
    .map(({ prompt, target, old: alternative }) => {
      return { prompt, target, alternative, greedyTokensMax: 0 };
    });
  const answers = await engine.probe(hookId, probes);
  const share = (measure: 'targetIsArgmax' | 'targetIsGreedy') =>
    answers.length === 0 ? 0 : answers.filter((answer) => answer[measure]).length / answers.length;
  return {
    ...measured,
    perplexityRatio: Math.min(measured.perplexityRatio, Number.MAX_VALUE),
    sample: sample.length,
    earliest: {
      asked: answers.length,
      efficacy: share('targetIsArgmax'),
      efficacyGreedy: share('targetIsGreedy'),
    },
  };
}

const SHARES = {
  preference: 'p(new) > p(old)',
  paraphrase: 'paraphrase',
  paraphraseArgmax: 'paraphrase argmax',
  neighboursUnchanged: 'neighbours',
} as const;

/** Columns for efficacy, the named further measures and the perplexity ratio. */
export function measureColumns(...further: (keyof typeof SHARES)[]): Column<MarkMeasures>[] {
  return [
    ['efficacy', 'efficacy', percent],
    ['greedy', 'efficacyGreedy', percent],
    ...further.map((measure): Column<MarkMeasures> => [SHARES[measure], measure, percent]),
    ['perplexity ratio', 'perplexityRatio', digits(4)],
  ];
}

export const EARLIEST_GREEDY: Column<MarkMeasures> = [
  'earliest greedy',
  ({ earliest }) => earliest.efficacyGreedy,
  percent,
];
