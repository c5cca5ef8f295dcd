/**
 * Reads all records of a topic in the order of their times, for a lineage whose log is lost. They
 * are written to a file as they are read, so memory holds some thirty bytes per record, whatever
 * their size.
 */
import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { ConsumedRecord } from '../../pipelines/kafka/records.ts';

export interface SpooledRecords {
  readonly count: number;
  /** Number of offsets before the first that Kafka still has. */
  readonly gone: bigint;
  /** Yields records by time, then partition, then offset; always in order within a partition. */
  inOrder(): AsyncIterable<ConsumedRecord>;
  close(): Promise<void>;
}

/** Records whose order fits in memory. */
const RECORDS_MAX = 20_000_000;

interface Kept {
  /** The record's timestamp, at least that of the record before it in its partition. */
  at: number;
  partition: number;
  offset: bigint;
  start: number;
  bytes: number;
}

export async function spoolRecords(
  cluster: KafkaCluster,
  topic: string,
  progress: (records: number) => void = () => {},
): Promise<SpooledRecords | null> {
  const extents = await cluster.extents(topic);
  if (extents === null) return null;
  const folder = await mkdtemp(join(tmpdir(), 'errata-rebuild-'));
  const file = await open(join(folder, 'records'), 'w+');
  const kept: Kept[] = [];
  const close = async (): Promise<void> => {
    await file.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    let end = 0;
    const latest = new Map<number, number>();
    const spans = [...extents].map(([partition, extent]) => ({
      partition,
      from: extent.beginning,
      through: String(BigInt(extent.end) - 1n),
    }));
    await cluster.readSpans(topic, spans, async (records) => {
      const packed = records.map(packedRecord);
      // Partitions are read concurrently, so the place is reserved before any wait.
      const start = end;
      records.forEach(({ timestamp, partition, offset }, i) => {
        const at = Math.max(latest.get(partition) ?? 0, timestamp);
        latest.set(partition, at);
        kept.push({ at, partition, offset: BigInt(offset), start: end, bytes: packed[i]!.length });
        end += packed[i]!.length;
      });
      if (kept.length > RECORDS_MAX)
        throw new Error(
          `${topic} has more than ${RECORDS_MAX} records, the most that a lineage is rebuilt from`,
        );
      await file.write(Buffer.concat(packed), 0, undefined, start);
      progress(kept.length);
    });
  } catch (fault) {
    await close();
    throw fault;
  }
  kept.sort((a, b) => a.at - b.at || a.partition - b.partition || (a.offset < b.offset ? -1 : 1));
  const gone = [...extents.values()].reduce((sum, { beginning }) => sum + BigInt(beginning), 0n);
  return { count: kept.length, gone, close, inOrder: () => unspooled(topic, file, kept) };
}

async function* unspooled(
  topic: string,
  file: FileHandle,
  kept: readonly Kept[],
): AsyncIterable<ConsumedRecord> {
  for (const { partition, offset, start, bytes } of kept) {
    const packed = Buffer.alloc(bytes);
    await file.read(packed, 0, bytes, start);
    yield unpackedRecord(packed, { topic, partition, offset: String(offset) });
  }
}

/** Packs timestamp, lengths of key and value (-1 for null), key, value; drops headers. */
function packedRecord({ timestamp, key, value }: ConsumedRecord): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeDoubleLE(timestamp, 0);
  head.writeInt32LE(key === null ? -1 : key.length, 8);
  head.writeInt32LE(value === null ? -1 : value.length, 12);
  return Buffer.concat([head, key ?? Buffer.alloc(0), value ?? Buffer.alloc(0)]);
}

const HEAD_BYTES = 16;

function unpackedRecord(
  packed: Buffer,
  position: Pick<ConsumedRecord, 'topic' | 'partition' | 'offset'>,
): ConsumedRecord {
  const [keyLength, valueLength] = [packed.readInt32LE(8), packed.readInt32LE(12)];
  const valueAt = HEAD_BYTES + Math.max(0, keyLength);
  return {
    ...position,
    timestamp: packed.readDoubleLE(0),
    key: keyLength < 0 ? null : packed.subarray(HEAD_BYTES, valueAt),
    value: valueLength < 0 ? null : packed.subarray(valueAt, valueAt + valueLength),
    headers: {},
  };
}
