import type { RecordSender } from '../../pipelines/kafka/records.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import type { KafkaPosition } from '../../schemas/correction.ts';
import type { ResubmitSent } from './resubmission.ts';

/** Sends planned items and returns the position of each. */
export async function sendItems(
  { sender, format }: { sender: RecordSender; format: RecordFormat },
  lineage: string,
  items: readonly ResubmitSent[],
): Promise<KafkaPosition[]> {
  const corrections = items.flatMap(({ correction }) => correction ?? []);
  const submitted = (await submitCorrections(sender, format, corrections)).values();
  const records = items.flatMap(({ record }) => record ?? []);
  const sent = (await sender.send(topicsOf(lineage).corrections, records)).values();
  return items.map(({ correction }) =>
    correction === null ? sent.next().value! : submitted.next().value!.position,
  );
}
