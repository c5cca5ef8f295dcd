/**
 * What Kafka's records say, beside what the log says they said. Every position that the entries and
 * their searches name is read once; what is kept in memory is a hash per record, and the words of
 * those records that say something else.
 */
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { KafkaCluster, RecordSpan } from '../../pipelines/kafka/kafka.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { StoredEntry } from '../../versions/log/history.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { addedRevisions, placeOf, retractionsOf, searchesOf, wordsOf } from './source-words.ts';

export interface RecordDifference {
  id: string;
  /** `<topic>-<partition>@<offset>`. */
  record: string;
  what: string;
}

export interface CheckedWords {
  /** Records that the log names. */
  records: number;
  same: number;
  /** No longer in Kafka: their words are taken from the log. */
  gone: number;
  /** The first of those that are gone. */
  goneExamples: string[];
  differences: RecordDifference[];
  /** The revision as Kafka has it, where it says something else. */
  reword: <Revision extends CorrectionRevision>(revision: Revision) => Revision;
}

/**
 * Records that say something else are kept, so many at most; a log with more is of other records.
 */
const DIFFERENCES_MAX = 10_000;
const EXAMPLES_MAX = 10;
/** Records read in vain between two that are asked for, rather than looked up anew. */
const GAP_MAX = 500n;

interface Named {
  id: string;
  words: string;
}

/**
 * Reads what the versions up to `last` name. Throws where the log names too many records that say
 * something else.
 */
export async function checkWords(
  cluster: KafkaCluster,
  format: RecordFormat,
  source: VersionLog,
  entries: AsyncIterable<StoredEntry>,
  last: number,
): Promise<CheckedWords> {
  const { named, differences } = await namedRecords(source, entries, last);
  const other = new Map<string, CorrectionRevision>();
  let same = 0;
  const left = new Map(named);
  for (const [topic, spans] of spansOf(named.keys())) {
    await cluster.readSpans(topic, spans, async (records) => {
      const wanted = records.filter((record) => left.has(placeOf(record)));
      const decoder = await format.decoder(
        'fact-correction',
        wanted.map(({ value }) => value),
      );
      for (const record of wanted) {
        const place = placeOf(record);
        const { id, words } = left.get(place)!;
        left.delete(place);
        const read = readRecord(record, lineageOf(topic), decoder);
        if (read.kind === 'dead')
          differences.push({
            id,
            record: place,
            what: `Kafka's record cannot be taken: ${read.problem.message}`,
          });
        else if (wordsOf(read.revision) === words) same += 1;
        else {
          differences.push({ id, record: place, what: differenceOf(id, read.revision) });
          if (read.revision.kind === 'correction') other.set(place, read.revision);
        }
        if (differences.length > DIFFERENCES_MAX)
          throw new Error(
            `more than ${DIFFERENCES_MAX} records of ${topic} say something else than the version log: the topic was made anew, or is another lineage's`,
          );
      }
    });
  }
  return {
    records: named.size,
    same,
    gone: left.size,
    goneExamples: [...left.keys()].slice(0, EXAMPLES_MAX),
    differences,
    // Of another id it would be another correction, in whose place nothing in the log stands.
    reword: (revision) => {
      const read = other.get(placeOf(revision.position));
      return read === undefined || revisionId(read) !== revisionId(revision)
        ? revision
        : { ...revision, factKey: read.factKey, correction: read.correction };
    },
  };
}

async function namedRecords(
  source: VersionLog,
  entries: AsyncIterable<StoredEntry>,
  last: number,
): Promise<{ named: Map<string, Named>; differences: RecordDifference[] }> {
  const named = new Map<string, Named>();
  const differences: RecordDifference[] = [];
  const name = (revision: FactRevision): void => {
    const place = placeOf(revision.position);
    const [id, words] = [revisionId(revision), wordsOf(revision)];
    const known = named.get(place);
    if (known === undefined) named.set(place, { id, words });
    else if (known.words !== words)
      differences.push({
        id,
        record: place,
        what: 'the log itself has it twice, with different words',
      });
  };
  for await (const { entry } of entries) {
    if (entry.version > last) break;
    for (const revision of [...addedRevisions(entry), ...retractionsOf(entry)]) name(revision);
    for (const { search } of (await searchesOf(source, entry)) ?? [])
      for (const edit of search.edits) name(edit);
  }
  return { named, differences };
}

/** The places by topic, in spans. */
export function spansOf(places: Iterable<string>): Map<string, RecordSpan[]> {
  const offsets = new Map<string, Map<number, bigint[]>>();
  for (const place of places) {
    const [, topic, partition, offset] = /^(.*)-(\d+)@(\d+)$/.exec(place)!;
    const partitions = offsets.get(topic!) ?? new Map<number, bigint[]>();
    const known = partitions.get(Number(partition)) ?? [];
    known.push(BigInt(offset!));
    offsets.set(topic!, partitions.set(Number(partition), known));
  }
  return new Map(
    [...offsets].map(([topic, partitions]) => [
      topic,
      [...partitions].flatMap(([partition, some]) => spansIn(partition, some)),
    ]),
  );
}

function spansIn(partition: number, offsets: bigint[]): RecordSpan[] {
  const spans: { from: bigint; through: bigint }[] = [];
  for (const offset of offsets.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))) {
    const last = spans.at(-1);
    if (last !== undefined && offset - last.through <= GAP_MAX) last.through = offset;
    else spans.push({ from: offset, through: offset });
  }
  return spans.map(({ from, through }) => ({
    partition,
    from: String(from),
    through: String(through),
  }));
}

/** Of `errata.<lineage>.corrections`. */
export function lineageOf(topic: string): string {
  return topic.split('.')[1] ?? '';
}

function differenceOf(id: string, read: FactRevision): string {
  const [readId, target] = [
    revisionId(read),
    read.kind === 'correction' ? read.correction.target : null,
  ];
  if (readId !== id) return `Kafka's record has the id "${readId}"`;
  return target === null
    ? 'Kafka says another fact or another time'
    : `Kafka's record says something else (its target is "${target}")`;
}
