/** Submits corrections and retractions to their lineages' topics. */
import { faultsOf } from '../../schemas/correction-faults.ts';
import { factKeyOf, type FactCorrection, type KafkaPosition } from '../../schemas/correction.ts';
import { UnencodableRecord } from '../../schemas/failures.ts';
import type { RecordEncoder } from '../../schemas/records/avro.ts';
import type { RecordFormat } from './record-format.ts';
import type { OutgoingRecord, RecordSender } from './records.ts';
import { topicsOf } from './topics.ts';

export interface Submitted {
  id: string;
  factKey: string;
  position: KafkaPosition;
}

interface Batch {
  encoder: RecordEncoder<FactCorrection>;
  submitted: Submitted[];
  records: OutgoingRecord[];
}

/**
 * Sends corrections, each to its lineage's topic under its fact's key; resolves when Kafka has them
 * permanently. Sends nothing and throws `UnencodableRecord` if one is not sound (`faultsOf`),
 * unless `unsound` allows it: then it ends in the dead-letter topic. Also throws `SchemaRefused`
 * and `SchemaRegistryUnavailable` before anything is sent.
 */
export async function submitCorrections(
  sender: RecordSender,
  format: RecordFormat,
  corrections: readonly FactCorrection[],
  { unsound = 'refuse' }: { unsound?: 'refuse' | 'send' } = {},
): Promise<Submitted[]> {
  const batches = new Map<string, Batch>();
  const all: Submitted[] = [];
  for (const correction of corrections) {
    const { id, lineage } = correction;
    const faults = unsound === 'send' ? [] : faultsOf(correction);
    if (faults.length > 0) throw new UnencodableRecord(`sound correction "${id}"`, faults);
    const topic = topicsOf(lineage).corrections;
    const batch = batches.get(topic) ?? {
      encoder: await format.encoder('fact-correction', topic),
      submitted: [],
      records: [],
    };
    batches.set(topic, batch);
    const factKey = factKeyOf(correction);
    const submitted = { id, factKey, position: { topic, partition: -1, offset: '-1' } };
    batch.records.push({ key: factKey, value: batch.encoder.encode(correction) });
    batch.submitted.push(submitted);
    all.push(submitted);
  }
  for (const [topic, { records, submitted }] of batches) {
    const positions = await sender.send(topic, records);
    submitted.forEach((one, i) => (one.position = positions[i]!));
  }
  return all;
}

/** Sends a retraction of each fact, which restores the base model's answer. */
export async function submitRetractions(
  sender: RecordSender,
  lineage: string,
  factKeys: readonly string[],
): Promise<KafkaPosition[]> {
  const records = factKeys.map((factKey) => ({ key: factKey, value: null }));
  return await sender.send(topicsOf(lineage).corrections, records);
}
