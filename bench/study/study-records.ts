/** The records of a study: file ranges joined into one stream, and deterministic samples. */
import { sha256 } from '../../versions/log/object-names.ts';
import { readRecords, type FactRecord } from '../../operations/tune/fact-records.ts';
import type { Range } from '../command.ts';

/** A record with its index in the file. */
export interface StudyRecord extends FactRecord {
  index: number;
}

/** Reads ranges as one stream, with issue times in stream order. Throws BadRecords. */
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

/** Removes the paraphrases and neighbours that a batch would be probed with. */
export function withoutProbes(record: StudyRecord): StudyRecord['revision'] {
  const { revision } = record;
  return {
    ...revision,
    correction: { ...revision.correction, paraphrases: [], neighbourhood: [] },
  };
}

/** Returns at most `most` records, in order. A longer stream's sample contains a shorter one's. */
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

export function idsOf(records: readonly StudyRecord[]): string[] {
  return records.map(({ revision }) => revision.correction.id);
}
