/**
 * Encodes records as Avro bodies behind a header that names the writer's schema.
 *
 * The header is a `Framing`. The default is Avro's single-object encoding (0xC3 0x01, then the
 * CRC-64-AVRO fingerprint of the writer's schema, little-endian), which needs no registry.
 * `confluent-framing.ts` has the one with registry ids. A record written with another known schema,
 * released or registered, is resolved to the current schema by Avro's rules.
 */
import avsc from 'avsc';
import { walkAvro } from './avro-shape.ts';
import type { FactCorrection } from '../correction.ts';
import type { Outcome } from '../outcome.ts';
import { messageOf, UndecodableRecord, UnencodableRecord } from '../failures.ts';
import type { HookVersion } from '../hook-version.ts';
import {
  RECORD_NAMES,
  releasedSchemasOf,
  schemaOf,
  type AvroSchema,
  type RecordName,
} from './released-schemas.ts';

export interface RecordTypes extends Record<RecordName, unknown> {
  'fact-correction': FactCorrection;
  'correction-outcome': Outcome;
  'hook-version': HookVersion;
}

export interface RecordEncoder<T> {
  /** Throws `UnencodableRecord` if the schema does not allow the value. */
  encode(value: T): Buffer;
}

export interface RecordDecoder<T> {
  /** Throws `UndecodableRecord` with the fault and its location. */
  decode(bytes: Uint8Array): T;
}

export interface RecordCodec<T> extends RecordEncoder<T>, RecordDecoder<T> {}

/** Finds the schema that wrote a record. */
export interface Opening {
  /** Returns the writer's schema and the start of the body. Throws `UndecodableRecord`. */
  open(record: RecordName, bytes: Uint8Array): { writer: AvroSchema; bodyAt: number };
}

/** The header before an Avro body. */
export interface Framing extends Opening {
  headOf(record: RecordName, schema: AvroSchema): Uint8Array;
}

/** Creates the codec for one kind of record, by default in single-object encoding. */
export function recordCodec<Name extends RecordName>(
  record: Name,
  framing: Framing = SINGLE_OBJECT,
): RecordCodec<RecordTypes[Name]> {
  return {
    ...recordEncoder(record, framing.headOf(record, schemaOf(record))),
    ...recordDecoder(record, framing),
  };
}

/** Creates a writer of one kind of record: the header, then the body in the current schema. */
export function recordEncoder<Name extends RecordName>(
  record: Name,
  head: Uint8Array,
): RecordEncoder<RecordTypes[Name]> {
  const type = typeOf(schemaOf(record));
  return {
    encode(value) {
      const faults: string[] = [];
      const errorHook = (path: string[], found: unknown, expected: avsc.Type) =>
        void faults.push(`${path.join('.')} is ${describe(found)}, not ${expected.toString()}`);
      if (!type.isValid(value, { errorHook })) throw new UnencodableRecord(record, faults);
      return Buffer.concat([head, type.toBuffer(value)]);
    },
  };
}

/** Creates a reader of one kind of record, resolved to the current schema. */
export function recordDecoder<Name extends RecordName>(
  record: Name,
  opening: Opening,
): RecordDecoder<RecordTypes[Name]> {
  const schema = schemaOf(record);
  const reader = typeOf(schema);
  return {
    decode(bytes) {
      if (bytes.length === 0) throw new UndecodableRecord('empty', 'the record has no bytes');
      const { writer, bodyAt } = opening.open(record, bytes);
      const { type, resolver } = sourceOf(schema, writer);
      const end = walkAvro(type, bytes, bodyAt);
      if (end < bytes.length)
        throw new UndecodableRecord(
          'trailing-bytes',
          `${bytes.length - end} bytes follow the record`,
          { bytes: bytes.length - end },
        );
      const body = Buffer.from(bytes.buffer, bytes.byteOffset + bodyAt, bytes.length - bodyAt);
      try {
        const decoded: unknown = reader.fromBuffer(body, resolver);
        const value = plain(decoded) as Record<string, unknown>;
        for (const name of OPTIONAL[record] ?? []) if (value[name] === null) delete value[name];
        return value as unknown as RecordTypes[Name];
      } catch (cause) {
        throw new UndecodableRecord('bad-value', `the record cannot be read: ${messageOf(cause)}`);
      }
    },
  };
}

/** Creates a single-object framing over all released schemas and the given ones. */
export function singleObjectFraming(
  further: Partial<Record<RecordName, readonly AvroSchema[]>> = {},
): Framing {
  const writers = new Map(
    RECORD_NAMES.flatMap((name) =>
      [...(further[name] ?? []), ...releasedSchemasOf(name)].map(
        (schema) => [fingerprintOf(schema), { name, schema }] as const,
      ),
    ),
  );
  return {
    headOf(_record, schema) {
      const head = Buffer.alloc(HEAD_BYTES);
      head.set(MAGIC);
      head.writeBigUInt64LE(fingerprintOf(schema), MAGIC.length);
      return head;
    },
    open(record, bytes) {
      const fingerprint = fingerprintIn(bytes);
      const writer = writers.get(fingerprint);
      if (writer?.name === record) return { writer: writer.schema, bodyAt: HEAD_BYTES };
      const facts = { fingerprint: fingerprint.toString(16).padStart(16, '0'), record };
      throw writer === undefined
        ? new UndecodableRecord(
            'unknown-schema',
            `the writer's schema ${facts.fingerprint} is not known`,
            facts,
          )
        : new UndecodableRecord(
            'wrong-record',
            `the record is a ${writer.name}, not a ${record}`,
            facts,
          );
    },
  };
}

function fingerprintIn(bytes: Uint8Array): bigint {
  const head = Buffer.from(bytes.subarray(0, HEAD_BYTES));
  const facts = { head: head.toString('hex') };
  if (head[0] === 0)
    throw new UndecodableRecord(
      'not-framed',
      "the record begins with 0x00, as with a schema registry's id, but no registry is " +
        'configured (ERRATA_SCHEMA_REGISTRY_URL)',
      facts,
    );
  if (head.length < HEAD_BYTES || head[0] !== MAGIC[0] || head[1] !== MAGIC[1])
    throw new UndecodableRecord(
      'not-framed',
      'the record does not begin with the single-object head 0xC3 0x01 and a fingerprint',
      facts,
    );
  return head.readBigUInt64LE(MAGIC.length);
}

/**
 * CRC-64-AVRO of the schema's Parsing Canonical Form (Avro specification, "Schema Fingerprints").
 */
export function fingerprintOf(schema: AvroSchema): bigint {
  let fingerprint = CRC64_EMPTY;
  for (const byte of Buffer.from(canonicalFormOf(schema), 'utf8')) {
    fingerprint = (fingerprint >> 8n) ^ CRC64_TABLE[Number((fingerprint ^ BigInt(byte)) & 0xffn)]!;
  }
  return fingerprint;
}

/** The Parsing Canonical Form: full names, fixed order, only the attributes that readers use. */
export function canonicalFormOf(schema: AvroSchema): string {
  return JSON.stringify(typeOf(schema).schema());
}

const MAGIC = Uint8Array.of(0xc3, 0x01);
const HEAD_BYTES = MAGIC.length + 8;

const CRC64_EMPTY = 0xc15d213aa4d7a795n;
const CRC64_TABLE: readonly bigint[] = Array.from({ length: 256 }, (_, i) => {
  let entry = BigInt(i);
  for (let bit = 0; bit < 8; bit++) entry = (entry >> 1n) ^ (CRC64_EMPTY & -(entry & 1n));
  return entry;
});

/** The type of a record's bytes, and the conversion of its values to the reader's type. */
interface Source {
  type: avsc.Type;
  resolver: avsc.Resolver | undefined;
}

/** Keyed by the schema object, so that entries are freed together with a registry's schema. */
const types = new WeakMap<object, avsc.Type>();
const sources = new WeakMap<object, Map<AvroSchema, Source | UndecodableRecord>>();

export const SINGLE_OBJECT = singleObjectFraming();

function typeOf(schema: AvroSchema): avsc.Type {
  const known = typeof schema === 'string' ? undefined : types.get(schema);
  if (known !== undefined) return known;
  const type = newType(schema, false);
  if (typeof schema !== 'string') types.set(schema, type);
  return type;
}

function newType(schema: AvroSchema, wrapUnions: boolean): avsc.Type {
  return avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions });
}

function sourceOf(reader: AvroSchema, writer: AvroSchema): Source {
  const known = sources.get(writer as object) ?? new Map<AvroSchema, Source | UndecodableRecord>();
  const source = known.get(reader) ?? newSource(reader, writer);
  known.set(reader, source);
  if (typeof writer === 'object' && writer !== null) sources.set(writer, known);
  if (source instanceof UndecodableRecord) throw source;
  return source;
}

function newSource(reader: AvroSchema, writer: AvroSchema): Source | UndecodableRecord {
  if (reader === writer) return { type: typeOf(reader), resolver: undefined };
  try {
    // A foreign union may have branches that look alike as plain values. The writer's own values
    // are never built.
    const type = newType(writer, true);
    return { type, resolver: typeOf(reader).createResolver(type) };
  } catch (cause) {
    return new UndecodableRecord(
      'unknown-schema',
      `the writer's schema cannot be resolved to the reader's: ${messageOf(cause)}`,
    );
  }
}

/** Members that are omitted where the record has null. */
const OPTIONAL: Partial<Record<RecordName, readonly string[]>> = {
  'fact-correction': ['replayOf'],
};

/** avsc's records are instances of generated classes; ours are plain objects. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plain(part)]));
}

function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  return JSON.stringify(value)?.slice(0, 80) ?? typeof value;
}
