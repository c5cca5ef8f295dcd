/**
 * The records of a study: several ranges of a file as one stream, and samples of them that do not
 * depend on chance.
 */
import { sha256 } from '../../versions/log/object-names.ts';
import { readRecords, type BenchRecord } from '../records.ts';

/** Half-open. */
export interface Range {
  from: number;
  to: number;
}

/** A record and its place in the file. */
export interface StudyRecord extends BenchRecord {
  index: number;
}

/**
 * The ranges one behind the other; each record counts as issued after those before it in the
 * stream. Throws BadRecords.
 */
export async function readStream(file: string, ranges: readonly Range[]): Promise<StudyRecord[]> {
  const parts = await Promise.all(
    ranges.map(async ({ from, to }) =>
      (await readRecords(file, from, to)).map((record, i) => ({ ...record, index: from + i })),
    ),
  );
  return parts.flat().map((record, place) => {
    const { revision } = record;
    return {
      ...record,
      revision: { ...revision, correction: { ...revision.correction, issuedAt: place } },
    };
  });
}

/**
 * Without what a batch is probed with beyond the corrections' own prompts; what is measured keeps
 * it.
 */
export function withoutProbes(record: StudyRecord): StudyRecord['revision'] {
  const { revision } = record;
  return {
    ...revision,
    correction: { ...revision.correction, paraphrases: [], neighbourhood: [] },
  };
}

/** The last record of each fact: the others are superseded by the end. */
export function latestOfEachFact(records: readonly StudyRecord[]): StudyRecord[] {
  return [...new Map(records.map((record) => [record.revision.factKey, record])).values()];
}

/**
 * At most `most` records, in their order; a longer stream's sample holds as many of a shorter one's
 * as have room.
 */
export function sampleOf(records: readonly StudyRecord[], most: number): StudyRecord[] {
  const lots = new Map(records.map((record) => [record, sha256(record.revision.correction.id)]));
  const chosen = new Set(
    [...records].sort((a, b) => (lots.get(a)! < lots.get(b)! ? -1 : 1)).slice(0, most),
  );
  return records.filter((record) => chosen.has(record));
}

export function inRanges(index: number, ranges: readonly Range[]): boolean {
  return ranges.some(({ from, to }) => index >= from && index < to);
}
