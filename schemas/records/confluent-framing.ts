/**
 * The header of records whose schemas are in a registry, in Confluent's wire format: 0x00, the
 * schema's id as a 4-byte big-endian number, then the Avro body (Confluent, "Wire format"). The
 * caller fetches schemas from the registry.
 */
import { SINGLE_OBJECT, type Opening } from './avro.ts';
import type { AvroSchema } from './released-schemas.ts';
import { UndecodableRecord } from '../failures.ts';

const MAGIC = 0;
const HEAD_BYTES = 5;
export const SCHEMA_ID_MAX = 0xffff_ffff;

/** Returns the header for a schema id from 0 to 2^32 - 1. */
export function confluentHead(id: number): Uint8Array {
  const head = Buffer.alloc(HEAD_BYTES);
  head[0] = MAGIC;
  head.writeUInt32BE(id, 1);
  return head;
}

/** Returns the id of the schema that wrote these bytes, or null if there is no such header. */
export function schemaIdOf(bytes: Uint8Array): number | null {
  if (bytes.length < HEAD_BYTES || bytes[0] !== MAGIC) return null;
  return new DataView(bytes.buffer, bytes.byteOffset, HEAD_BYTES).getUint32(1);
}

/**
 * Opens records with a known schema id, and single-object records. For a schema that is not
 * available, the map holds the reason.
 */
export function confluentOpening(
  writers: ReadonlyMap<number, AvroSchema | UndecodableRecord>,
): Opening {
  return {
    open(record, bytes) {
      if (bytes[0] !== MAGIC) return SINGLE_OBJECT.open(record, bytes);
      const id = schemaIdOf(bytes);
      if (id === null)
        throw new UndecodableRecord(
          'not-framed',
          `the record begins with 0x00 but ends in the schema's id, after ${bytes.length} bytes`,
        );
      const writer =
        writers.get(id) ??
        new UndecodableRecord('unknown-schema', `the schema ${id} was not fetched`, {
          schemaId: id,
        });
      if (writer instanceof UndecodableRecord) throw writer;
      return { writer, bodyAt: HEAD_BYTES };
    },
  };
}
