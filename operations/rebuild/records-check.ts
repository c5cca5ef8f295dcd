/**
 * Compares Kafka's records with the log. Every position that the entries and their searches name is
 * read once. Memory holds a hash per record, and the revisions of the records that differ.
 */
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import {
  revisionId,
  type CorrectionRevision,
  type FactRevision,
} from '../../schemas/correction.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { lineageOf, placeOf, spansOf } from '../record-places.ts';
import type { CheckedRecords, RebuildRun, RecordDifference } from './rebuild-run.ts';
import { addedRevisions, contentHash, retractionsOf, searchesOf } from './source-revisions.ts';

/** Differences after which the check ends: the log belongs to other records. */
const DIFFERENCES_MAX = 10_000;
const EXAMPLES_MAX = 10;

interface NamedRecord {
  id: string;
  hash: string;
}

/** Reads the records named by versions up to `last`. Throws where too many records differ. */
export async function checkRecords(
  { cluster, format }: { cluster: KafkaCluster; format: RecordFormat },
  source: VersionLog,
  last: number,
): Promise<{ checked: CheckedRecords; revised: RebuildRun['revised'] }> {
  const { named, differences } = await namedRecords(source, last);
  const left = new Map(named);
  const differing = new Map<string, CorrectionRevision>();
  for (const [topic, spans] of spansOf(named.keys())) {
    await cluster.readSpans(topic, spans, async (records) => {
      const wanted = records.filter((record) => left.has(placeOf(record)));
      const values = wanted.map(({ value }) => value);
      const decoder = await format.decoder('fact-correction', values);
      for (const record of wanted) {
        const place = placeOf(record);
        const { id, hash } = left.get(place)!;
        left.delete(place);
        const read = readRecord(record, lineageOf(topic), decoder);
        if (read.kind === 'revision' && contentHash(read.revision) === hash) continue;
        differences.push({ id, record: place, what: differenceOf(id, read) });
        if (read.kind === 'revision' && read.revision.kind === 'correction')
          differing.set(place, read.revision);
      }
      if (differences.length > DIFFERENCES_MAX)
        throw new Error(
          `more than ${DIFFERENCES_MAX} records of ${topic} differ from the version log: ` +
            `the topic was created again, or is another lineage's`,
        );
    });
  }
  const unlike = new Set(differences.map(({ record }) => record));
  return {
    checked: {
      records: named.size,
      same: [...named.keys()].filter((place) => !left.has(place) && !unlike.has(place)).length,
      gone: left.size,
      goneExamples: [...left.keys()].slice(0, EXAMPLES_MAX),
      differences,
    },
    revised: (revision) => {
      const read = differing.get(placeOf(revision.position));
      // A different id means another correction, to which nothing in the log refers.
      return read === undefined || revisionId(read) !== revisionId(revision)
        ? revision
        : { ...revision, factKey: read.factKey, correction: read.correction };
    },
  };
}

async function namedRecords(
  source: VersionLog,
  last: number,
): Promise<{ named: Map<string, NamedRecord>; differences: RecordDifference[] }> {
  const named = new Map<string, NamedRecord>();
  const differences: RecordDifference[] = [];
  const note = (revision: FactRevision): void => {
    const record = placeOf(revision.position);
    const [id, hash] = [revisionId(revision), contentHash(revision)];
    const known = named.get(record);
    if (known === undefined) named.set(record, { id, hash });
    else if (known.hash !== hash)
      differences.push({ id, record, what: 'the log itself has it twice, with different texts' });
  };
  for await (const { entry } of source.walk()) {
    if (entry.version > last) break;
    [...addedRevisions(entry), ...retractionsOf(entry)].forEach(note);
    for (const { search } of await searchesOf(source, entry)) search.edits.forEach(note);
  }
  return { named, differences };
}

function differenceOf(id: string, read: ReturnType<typeof readRecord>): string {
  if (read.kind === 'dead') return `Kafka's record cannot be taken: ${read.problem.message}`;
  const { revision } = read;
  if (revisionId(revision) !== id) return `Kafka's record has the id "${revisionId(revision)}"`;
  return revision.kind === 'retraction'
    ? "Kafka's record retracts another fact, or at another time"
    : `Kafka's record differs (its target is "${revision.correction.target}")`;
}
