/** What a process does about the schemas of its topics before it is ready. */
import type { Logger } from '../../pipelines/logger.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { RecordName } from '../../schemas/records/avro.ts';
import { SchemaRegistryUnavailable } from '../../schemas/failures.ts';

/**
 * Has the schemas registered, so that a program whose records the others could not read does not
 * start: throws `SchemaRefused`. A registry that is away is asked again with the first record.
 */
export async function registerSchemas(
  format: RecordFormat,
  topics: Iterable<readonly [RecordName, string]>,
  log: Logger,
): Promise<void> {
  for (const [record, topic] of topics) {
    try {
      await format.encoder(record, topic);
    } catch (fault) {
      if (!(fault instanceof SchemaRegistryUnavailable)) throw fault;
      log.warn({ reason: fault.message }, 'Schemas are not registered yet');
      return;
    }
  }
}
