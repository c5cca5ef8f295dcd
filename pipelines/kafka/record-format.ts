/**
 * Encoders and decoders for the topics. Without a schema registry they use Avro's single-object
 * encoding; with one, its wire format, and they still read single-object records.
 */
import {
  schemaOf,
  type RecordName,
  type AvroSchema,
} from '../../schemas/records/released-schemas.ts';
import {
  recordCodec,
  recordDecoder,
  recordEncoder,
  type RecordDecoder,
  type RecordEncoder,
  type RecordTypes,
} from '../../schemas/records/avro.ts';
import {
  confluentHead,
  confluentOpening,
  schemaIdOf,
} from '../../schemas/records/confluent-framing.ts';
import type { UndecodableRecord } from '../../schemas/failures.ts';
import type { SchemaRegistry } from './schema-registry.ts';

export interface RecordFormat {
  /**
   * Returns a topic's encoder, after registering the schema once per topic and process. Throws
   * `SchemaRefused` (incompatible with the topic's schema) and `SchemaRegistryUnavailable`.
   */
  encoder<Name extends RecordName>(
    record: Name,
    topic: string,
  ): Promise<RecordEncoder<RecordTypes[Name]>>;
  /**
   * Returns a decoder for these values alone, after loading their writers' schemas. An unusable
   * schema is thrown when its record is decoded. Throws `SchemaRegistryUnavailable`.
   */
  decoder<Name extends RecordName>(
    record: Name,
    values: Iterable<Uint8Array | null>,
  ): Promise<RecordDecoder<RecordTypes[Name]>>;
}

export const SINGLE_OBJECT_FORMAT: RecordFormat = {
  encoder: async (record) => recordCodec(record),
  decoder: async (record) => recordCodec(record),
};

export function registryFormat(
  registry: Pick<SchemaRegistry, 'register' | 'schemaOf'>,
): RecordFormat {
  const ids = new Map<string, Promise<number>>();
  const idOf = (record: RecordName, topic: string): Promise<number> => {
    const subject = subjectOf(topic);
    const id = ids.get(subject) ?? registry.register(subject, schemaOf(record));
    ids.set(subject, id);
    // A failed registration is tried again the next time.
    id.catch(() => ids.delete(subject));
    return id;
  };
  return {
    encoder: async (record, topic) =>
      recordEncoder(record, confluentHead(await idOf(record, topic))),
    async decoder(record, values) {
      const named = new Set<number>();
      for (const value of values) {
        const id = value === null ? null : schemaIdOf(value);
        if (id !== null) named.add(id);
      }
      const writers = new Map<number, AvroSchema | UndecodableRecord>();
      await Promise.all([...named].map(async (id) => writers.set(id, await registry.schemaOf(id))));
      return recordDecoder(record, confluentOpening(writers));
    },
  };
}

/** Names the subject of a topic's values (Confluent's TopicNameStrategy). */
export function subjectOf(topic: string): string {
  return `${topic}-value`;
}
