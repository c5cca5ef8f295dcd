/** Records at their positions, those that Kafka still has. */
import type { ConsumedRecord, KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { KafkaPosition } from '../../schemas/correction.ts';
import { spansOf } from '../rebuild/kafka-words.ts';
import { placeOf } from '../rebuild/source-words.ts';

/** By `<topic>-<partition>@<offset>`. */
export async function recordsAt(
  cluster: KafkaCluster,
  positions: readonly KafkaPosition[],
): Promise<Map<string, ConsumedRecord>> {
  const wanted = new Set(positions.map(placeOf));
  const found = new Map<string, ConsumedRecord>();
  for (const [topic, spans] of spansOf(wanted)) {
    await cluster.readSpans(topic, spans, (records) => {
      for (const record of records)
        if (wanted.has(placeOf(record))) found.set(placeOf(record), record);
    });
  }
  return found;
}
