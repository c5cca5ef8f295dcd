/** Names the places of records in Kafka, and reads their names. */
import type { RecordSpan } from '../pipelines/kafka/records.ts';
import type { KafkaPosition } from '../schemas/correction.ts';

/** Unneeded records that are read between two needed ones, rather than seeking anew. */
const GAP_MAX = 500n;

/** Returns `<topic>-<partition>@<offset>`. */
export function placeOf({ topic, partition, offset }: KafkaPosition): string {
  return `${topic}-${partition}@${offset}`;
}

/** Returns the places by topic, in spans. */
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

/** Returns the lineage in `errata.<lineage>.corrections`. */
export function lineageOf(topic: string): string {
  return topic.split('.')[1] ?? '';
}
