/** Finds failures in Kafka: dead letters, records that no ingest reads, a recreated topic. */
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import { earlierOrigins, originOf } from '../../pipelines/kafka/dead-letter.ts';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord } from '../../pipelines/kafka/records.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { partitionKey, type LineageStatus } from '../../pipelines/workflows/contract.ts';
import { revisionId } from '../../schemas/correction.ts';
import { letterId, recordReference } from '../../schemas/resubmit.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { decoded, resubmittedIn } from '../resubmit/dead-letters.ts';
import { failure, nothingFound, type Failure, type Findings } from './failure.ts';

/** Dead letters read from one partition, the newest. */
const LETTERS_MAX = 200;
/** Lag from which ingest counts as far behind, in records. */
const FAR_BEHIND_MIN = 10_000;

interface KafkaSource {
  cluster: KafkaCluster;
  format: RecordFormat;
  log: VersionLog;
  /** Null where the lineage's workflow does not answer. */
  status: LineageStatus | null;
}

/** Finds the open failures. Throws the client's errors where Kafka does not answer. */
export async function kafkaFailures(source: KafkaSource): Promise<Findings> {
  const { cluster, log } = source;
  const findings = nothingFound();
  const topic = topicsOf(log.lineage).corrections;
  if ((await cluster.extents(topic)) !== null) {
    const lags = await cluster.lagOf(INGEST_GROUP, [topic]);
    findings.failures.push(
      ...recreated(source, topic, lags),
      ...(await waiting(source, topic, lags)),
    );
  }
  await addDeadLetters(source, findings);
  return findings;
}

type Lags = Awaited<ReturnType<KafkaCluster['lagOf']>>;

function recreated({ status, log: { lineage } }: KafkaSource, topic: string, lags: Lags) {
  return lags.flatMap(({ partition, end }): Failure[] => {
    const taken = status?.highWater[partitionKey({ topic, partition })];
    if (taken === undefined || BigInt(taken) < BigInt(end)) return [];
    const about = { lineage, subject: `${topic}-${partition}`, since: null };
    return [failure(about, 'topic made anew', { taken, end })];
  });
}

async function waiting(
  { cluster, status, log: { lineage } }: KafkaSource,
  topic: string,
  lags: Lags,
): Promise<Failure[]> {
  const lag = lags.reduce((sum, one) => sum + one.lag, 0);
  if (lag === 0) return [];
  const isRead = (await cluster.membersOf(INGEST_GROUP)) > 0;
  // A frozen lineage lets records wait, which is reported separately.
  if (isRead && (lag < FAR_BEHIND_MIN || status?.frozen)) return [];
  return [failure({ lineage, subject: topic, since: null }, 'ingest', { lag, isRead })];
}

async function addDeadLetters(
  { cluster, format, log }: KafkaSource,
  findings: Findings,
): Promise<void> {
  const { lineage } = log;
  const letters = await newestLetters(cluster, lineage, findings.unseen);
  if (letters.length === 0) return;
  const resubmitted = await resubmittedIn(log);
  const read = await readAgain(letters, format, lineage);
  const decided = await log.registered.outcomesOf(
    letters.flatMap((letter) => read.get(letter)!.ids),
  );
  // A letter that was resubmitted unchanged and returned is now the later letter.
  const returned = new Set(letters.flatMap(earlierOrigins).map(recordReference));
  for (const letter of letters.sort((a, b) => b.timestamp - a.timestamp)) {
    const origin = originOf(letter);
    const { ids, repair } = read.get(letter)!;
    const record = origin === null ? null : recordReference(origin);
    if (
      (record !== null && (resubmitted.has(record) || returned.has(record))) ||
      ids.some((id) => decided.has(id))
    ) {
      findings.healed++;
      continue;
    }
    const subject = `${letter.partition}@${letter.offset}`;
    const problem =
      origin === null
        ? 'its headers do not say why'
        : `record ${origin.topic}-${origin.partition}@${origin.offset}: ` +
          `${origin.className}: ${origin.message}`;
    const about = { lineage, subject, since: letter.timestamp };
    findings.failures.push(failure(about, 'dead letter', { letter: subject, problem, repair }));
  }
}

async function newestLetters(
  cluster: KafkaCluster,
  lineage: string,
  unseen: string[],
): Promise<ConsumedRecord[]> {
  const topic = topicsOf(lineage).deadLetters;
  const letters: ConsumedRecord[] = [];
  const spans = [...((await cluster.extents(topic)) ?? [])].map(
    ([partition, { beginning, end }]) => {
      const newest = BigInt(end) - BigInt(LETTERS_MAX);
      const from = newest > BigInt(beginning) ? newest : BigInt(beginning);
      if (from > BigInt(beginning))
        unseen.push(
          `lineage ${lineage}: dead letters of partition ${partition} before offset ${from}`,
        );
      return { partition, from: String(from), through: String(BigInt(end) - 1n) };
    },
  );
  const filled = spans.filter(({ from, through }) => BigInt(from) <= BigInt(through));
  if (filled.length > 0)
    await cluster.readSpans(topic, filled, (records) => void letters.push(...records));
  return letters;
}

interface ReadAgain {
  /** Ids under which it may have been decided since: its own, and that of a repaired one. */
  ids: string[];
  /** The flags for resubmitting it. */
  repair: string;
}

async function readAgain(
  letters: readonly ConsumedRecord[],
  format: RecordFormat,
  lineage: string,
): Promise<Map<ConsumedRecord, ReadAgain>> {
  const values = letters.map(({ value }) => value);
  const decoder = await format.decoder('fact-correction', values);
  const read = (letter: ConsumedRecord): ReadAgain => {
    const { topic, partition, offset } = originOf(letter) ?? letter;
    const ids = [letterId({ topic, partition, offset })];
    const record = readRecord({ ...letter, topic, partition, offset }, lineage, decoder);
    // The cause no longer exists.
    if (record.kind === 'revision')
      return { ids: [revisionId(record.revision), ...ids], repair: '' };
    const id = decoded(letter, decoder)?.id;
    return id === undefined
      ? { ids, repair: ' --file repaired.ndjson' }
      : { ids: [id, ...ids], repair: ' --set target=...' };
  };
  return new Map(letters.map((letter) => [letter, read(letter)]));
}
