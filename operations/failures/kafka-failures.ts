/**
 * What Kafka tells: records that could not be taken, corrections that nobody reads, a topic that
 * was made anew.
 */
import { UndecodableRecord } from '../../schemas/failures.ts';
import type { RecordDecoder } from '../../schemas/records/avro.ts';
import { revisionId, type FactCorrection } from '../../schemas/correction.ts';
import { replayedRecord } from '../../schemas/replay.ts';
import { earlierOrigins, originOf } from '../../pipelines/kafka/dead-letter.ts';
import { readRecord } from '../../pipelines/ingest/ingest-record.ts';
import type { ConsumedRecord, KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import { partitionKey, type LineageStatus } from '../../pipelines/workflows/contract.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import { nothingFound, type Failure, type Findings } from './failure.ts';
import { replayedIn } from './log-failures.ts';

/** Dead letters of one partition that are looked at, the newest. */
const LETTERS_MAX = 200;
/** Records behind which ingest is far. */
const FAR_BEHIND_MIN = 10_000;

export interface KafkaSource {
  cluster: KafkaCluster;
  format: RecordFormat;
  log: VersionLog;
  /** Null where the lineage's workflow does not answer. */
  status: LineageStatus | null;
}

/** Throws the client's errors where Kafka does not answer. */
export async function kafkaFailures(source: KafkaSource): Promise<Findings> {
  const findings = nothingFound();
  const { lineage } = source.log;
  const found = (failure: Omit<Failure, 'lineage'>): void =>
    void findings.failures.push({ lineage, ...failure });
  const topic = topicsOf(lineage).corrections;
  if ((await source.cluster.extents(topic)) !== null) {
    const lags = await source.cluster.lagOf(INGEST_GROUP, [topic]);
    madeAnew(source, topic, lags, found);
    await behind(source, topic, lags, found);
  }
  await deadLetters(source, findings, found);
  return findings;
}

type Found = (failure: Omit<Failure, 'lineage'>) => void;
type Lags = Awaited<ReturnType<KafkaCluster['lagOf']>>;

function madeAnew({ status, log }: KafkaSource, topic: string, lags: Lags, found: Found): void {
  for (const { partition, end } of lags) {
    const taken = status?.highWater[partitionKey({ topic, partition })];
    if (taken === undefined || BigInt(taken) < BigInt(end)) continue;
    found({
      kind: 'topic made anew',
      subject: `${topic}-${partition}`,
      since: null,
      cause: `offset ${taken} was taken, and the partition ends at ${end}: the topic was deleted and made anew, and its new records are refused`,
      heal: `errata replay forget-positions --lineage ${log.lineage}`,
    });
  }
}

async function behind(
  { cluster, status }: KafkaSource,
  topic: string,
  lags: Lags,
  found: Found,
): Promise<void> {
  const lag = lags.reduce((sum, one) => sum + one.lag, 0);
  if (lag === 0) return;
  const members = await cluster.membersOf(INGEST_GROUP);
  if (members === 0)
    found({
      kind: 'ingest',
      subject: topic,
      since: null,
      cause: `${lag} records wait, and no ingest reads them`,
      heal: 'errata up',
    });
  // A frozen lineage lets them wait, and is told of by itself.
  else if (lag >= FAR_BEHIND_MIN && !status?.frozen)
    found({
      kind: 'ingest',
      subject: topic,
      since: null,
      cause: `${lag} records wait: more come than are edited, or batches fail`,
      heal: 'errata status',
    });
}

async function deadLetters(
  { cluster, format, log }: KafkaSource,
  findings: Findings,
  found: Found,
): Promise<void> {
  const topic = topicsOf(log.lineage).deadLetters;
  const extents = await cluster.extents(topic);
  if (extents === null) return;
  const letters: ConsumedRecord[] = [];
  const spans = [...extents].map(([partition, { beginning, end }]) => {
    const newest = BigInt(end) - BigInt(LETTERS_MAX);
    const from = newest > BigInt(beginning) ? newest : BigInt(beginning);
    if (from > BigInt(beginning))
      findings.unseen.push(
        `lineage ${log.lineage}: dead letters of partition ${partition} before offset ${from}`,
      );
    return { partition, from: String(from), through: String(BigInt(end) - 1n) };
  });
  await cluster.readSpans(
    topic,
    spans.filter(({ from, through }) => BigInt(from) <= BigInt(through)),
    (records) => void letters.push(...records),
  );
  if (letters.length === 0) return;
  const replayed = await replayedIn(log);
  const read = await readAgain(letters, format, log.lineage);
  const decided = await log.registered.outcomesOf(
    letters.flatMap((letter) => read.get(letter)!.ids),
  );
  // One that was sent as it was and came back is told of as the letter that it is now.
  const cameBack = new Set(letters.flatMap(earlierOrigins).map(replayedRecord));
  for (const letter of letters.sort((a, b) => b.timestamp - a.timestamp)) {
    const origin = originOf(letter);
    const { ids, repair } = read.get(letter)!;
    const record = origin === null ? null : replayedRecord(origin);
    if (
      (record !== null && (replayed.has(record) || cameBack.has(record))) ||
      ids.some((id) => decided.has(id))
    )
      findings.healed++;
    else {
      found({
        kind: 'dead letter',
        subject: `${letter.partition}@${letter.offset}`,
        since: letter.timestamp,
        cause:
          origin === null
            ? 'its headers do not say why'
            : `record ${origin.topic}-${origin.partition}@${origin.offset}: ${origin.className}: ${origin.message}`,
        heal: `errata replay dead-letters ${letter.partition}@${letter.offset} --lineage ${log.lineage}${repair}`,
      });
    }
  }
}

interface ReadAgain {
  /**
   * Under which its record may have been decided since: its own id, or the one that its place gives
   * a repaired one.
   */
  ids: string[];
  /**
   * What a replay needs: nothing where the cause is gone, members where a correction can be read,
   * else a whole correction.
   */
  repair: string;
}

async function readAgain(
  letters: readonly ConsumedRecord[],
  format: RecordFormat,
  lineage: string,
): Promise<Map<ConsumedRecord, ReadAgain>> {
  const decoder = await format.decoder(
    'fact-correction',
    letters.map(({ value }) => value),
  );
  return new Map(
    letters.map((letter) => {
      const origin = originOf(letter) ?? letter;
      const ids = [`letter-${origin.topic}-${origin.partition}-${origin.offset}`];
      const record = readRecord(
        { ...letter, topic: origin.topic, partition: origin.partition, offset: origin.offset },
        lineage,
        decoder,
      );
      if (record.kind === 'revision')
        return [letter, { ids: [revisionId(record.revision), ...ids], repair: '' }];
      const id = idIn(letter.value, decoder);
      return [
        letter,
        id === null
          ? { ids, repair: ' --file repaired.ndjson' }
          : { ids: [id, ...ids], repair: ' --set target=...' },
      ];
    }),
  );
}

/** The id in a correction that can be decoded, sound or not. */
function idIn(value: Buffer | null, decoder: RecordDecoder<FactCorrection>): string | null {
  try {
    return value === null ? null : decoder.decode(value).id;
  } catch (error) {
    if (error instanceof UndecodableRecord) return null;
    throw error;
  }
}
