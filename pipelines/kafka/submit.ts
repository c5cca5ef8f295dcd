/** Corrections and retractions onto a lineage's topic. */
import { factKeyOf, type FactCorrection, type KafkaPosition } from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { UnencodableRecord } from '../../schemas/failures.ts';
import type { RecordSender } from './records.ts';
import type { RecordFormat } from './record-format.ts';
import { topicsOf } from './topics.ts';

export interface Submitted {
  id: string;
  factKey: string;
  position: KafkaPosition;
}

/**
 * Sends corrections, each to its own lineage's topic, under its fact's key; resolves when Kafka has
 * them for good. Throws `UnencodableRecord` and sends nothing when one is not sound (`faultsOf`),
 * unless `unsound` allows it: then it will come out of the dead-letter topic. Nothing is sent
 * either where the schema registry refuses the schema or gives no answer (`SchemaRefused`,
 * `SchemaRegistryUnavailable`).
 */
export async function submitCorrections(
  sender: RecordSender,
  format: RecordFormat,
  corrections: readonly FactCorrection[],
  options: { unsound?: 'refuse' | 'send' } = {},
): Promise<Submitted[]> {
  const lineages = [...new Set(corrections.map((correction) => correction.lineage))];
  const encoders = new Map(
    await Promise.all(
      lineages.map(
        async (lineage) =>
          [
            lineage,
            await format.encoder('fact-correction', topicsOf(lineage).corrections),
          ] as const,
      ),
    ),
  );
  const encoded = corrections.map((correction) => {
    const faults = options.unsound === 'send' ? [] : faultsOf(correction);
    if (faults.length > 0)
      throw new UnencodableRecord(`sound correction "${correction.id}"`, faults);
    return {
      correction,
      factKey: factKeyOf(correction),
      value: encoders.get(correction.lineage)!.encode(correction),
    };
  });
  const submitted = new Map<FactCorrection, Submitted>();
  for (const lineage of lineages) {
    const ofLineage = encoded.filter(({ correction }) => correction.lineage === lineage);
    const positions = await sender.send(
      topicsOf(lineage).corrections,
      ofLineage.map(({ factKey, value }) => ({ key: factKey, value })),
    );
    ofLineage.forEach(({ correction, factKey }, i) =>
      submitted.set(correction, { id: correction.id, factKey, position: positions[i]! }),
    );
  }
  return corrections.map((correction) => submitted.get(correction)!);
}

/** Sends a retraction of each fact: from then on the base model's answer holds. */
export async function submitRetractions(
  sender: RecordSender,
  lineage: string,
  factKeys: readonly string[],
): Promise<KafkaPosition[]> {
  return await sender.send(
    topicsOf(lineage).corrections,
    factKeys.map((factKey) => ({ key: factKey, value: null })),
  );
}
