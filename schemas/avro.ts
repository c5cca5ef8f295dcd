/**
 * Records as bytes: Avro bodies behind a head that names the writer's schema. The one file that knows avsc.
 *
 * The head is a `Framing`: by default Avro's single-object encoding (0xC3 0x01, then the CRC-64-AVRO fingerprint of
 * the writer's schema, little-endian), which needs no registry. A framing with ids from a registry replaces it without
 * touching the rest. A record written with an older schema is resolved to the current one by Avro's rules, as long as
 * the older schema is listed.
 */
import { readFileSync } from 'node:fs';
import avsc from 'avsc';
import { walkAvro, type AvroSchema } from './avro-shape.ts';
import type { FactCorrection } from './correction.ts';
import type { Outcome } from './editing.ts';
import { UndecodableRecord, UnencodableRecord } from './failures.ts';
import type { HookVersion } from './hook-version.ts';

export interface RecordTypes {
  'fact-correction': FactCorrection;
  'correction-outcome': Outcome;
  'hook-version': HookVersion;
}

export type RecordName = keyof RecordTypes;

export interface RecordCodec<T> {
  /** Throws `UnencodableRecord` that lists what the schema does not allow. */
  encode(value: T): Buffer;
  /** Throws `UndecodableRecord` that says what is wrong and where. */
  decode(bytes: Uint8Array): T;
}

/** What stands before an Avro body. */
export interface Framing {
  /** The head of a record written with `schema`. */
  headOf(record: RecordName, schema: AvroSchema): Uint8Array;
  /** The schema that wrote these bytes and where the body starts. Throws `UndecodableRecord`. */
  open(record: RecordName, bytes: Uint8Array): { writer: AvroSchema; bodyAt: number };
}

/** The codec of one kind of record; without a framing, single-object encoding over the schemas of this folder. */
export function recordCodec<Name extends RecordName>(record: Name, framing: Framing = SINGLE_OBJECT): RecordCodec<RecordTypes[Name]> {
  const schema = schemaOf(record);
  const type = typeOf(schema);
  const head = framing.headOf(record, schema);
  return {
    encode(value) {
      const faults: string[] = [];
      if (!type.isValid(value, { errorHook: (path, found, expected) => void faults.push(`${path.join('.')} is ${describe(found)}, not ${expected.toString()}`) })) {
        throw new UnencodableRecord(record, faults);
      }
      return Buffer.concat([head, type.toBuffer(value)]);
    },
    decode(bytes) {
      if (bytes.length === 0) throw new UndecodableRecord('empty', 'the record has no bytes');
      const { writer, bodyAt } = framing.open(record, bytes);
      const end = walkAvro(writer, bytes, bodyAt);
      if (end < bytes.length) throw new UndecodableRecord('trailing-bytes', `${bytes.length - end} bytes stand after the record`, { bytes: bytes.length - end });
      const body = Buffer.from(bytes.buffer, bytes.byteOffset + bodyAt, bytes.length - bodyAt);
      const resolver = resolverOf(type, typeOf(writer));
      try {
        const decoded: unknown = type.fromBuffer(body, resolver);
        return plain(decoded) as RecordTypes[Name];
      } catch (cause) {
        throw new UndecodableRecord('bad-value', `the record cannot be read: ${messageOf(cause)}`);
      }
    },
  };
}

/** Single-object framing over the current schema and, per record, older writers' schemas. */
export function singleObjectFraming(older: Partial<Record<RecordName, readonly AvroSchema[]>> = {}): Framing {
  const writers = new Map<RecordName, Map<bigint, AvroSchema>>();
  const writersOf = (record: RecordName): Map<bigint, AvroSchema> => {
    let known = writers.get(record);
    if (known === undefined) {
      known = new Map([...(older[record] ?? []), schemaOf(record)].map((schema) => [fingerprintOf(schema), schema]));
      writers.set(record, known);
    }
    return known;
  };
  return {
    headOf(_record, schema) {
      const head = Buffer.alloc(HEAD_BYTES);
      head.set(MAGIC);
      head.writeBigUInt64LE(fingerprintOf(schema), MAGIC.length);
      return head;
    },
    open(record, bytes) {
      if (bytes.length < HEAD_BYTES || bytes[0] !== MAGIC[0] || bytes[1] !== MAGIC[1]) {
        throw new UndecodableRecord('not-framed', 'the record does not begin with the single-object head 0xC3 0x01 and a fingerprint', { head: hex(bytes.subarray(0, HEAD_BYTES)) });
      }
      const fingerprint = new DataView(bytes.buffer, bytes.byteOffset, HEAD_BYTES).getBigUint64(MAGIC.length, true);
      const writer = writersOf(record).get(fingerprint);
      if (writer !== undefined) return { writer, bodyAt: HEAD_BYTES };
      const facts = { fingerprint: fingerprint.toString(16).padStart(16, '0'), record };
      const other = RECORD_NAMES.find((name) => writersOf(name).has(fingerprint));
      if (other !== undefined) throw new UndecodableRecord('wrong-record', `the record is a ${other}, not a ${record}`, facts);
      throw new UndecodableRecord('unknown-schema', `the writer's schema ${facts.fingerprint} is not known`, facts);
    },
  };
}

/** The current schema of a record, as in its file. */
export function schemaOf(record: RecordName): AvroSchema {
  let schema = schemas.get(record);
  if (schema === undefined) {
    schema = JSON.parse(readFileSync(new URL(`./${record}.avsc`, import.meta.url), 'utf8')) as AvroSchema;
    schemas.set(record, schema);
  }
  return schema;
}

/** CRC-64-AVRO of the schema's Parsing Canonical Form (Avro specification, "Schema Fingerprints"). */
export function fingerprintOf(schema: AvroSchema): bigint {
  let fingerprint = CRC64_EMPTY;
  for (const byte of Buffer.from(canonicalFormOf(schema), 'utf8')) {
    fingerprint = (fingerprint >> 8n) ^ CRC64_TABLE[Number((fingerprint ^ BigInt(byte)) & 0xffn)]!;
  }
  return fingerprint;
}

/** The Parsing Canonical Form: names in full, attributes that do not matter to a reader left out, in a fixed order. */
export function canonicalFormOf(schema: AvroSchema): string {
  return JSON.stringify(typeOf(schema).schema());
}

const RECORD_NAMES: readonly RecordName[] = ['fact-correction', 'correction-outcome', 'hook-version'];
const MAGIC = Uint8Array.of(0xc3, 0x01);
const HEAD_BYTES = MAGIC.length + 8;

const CRC64_EMPTY = 0xc15d213aa4d7a795n;
const CRC64_TABLE: readonly bigint[] = Array.from({ length: 256 }, (_, i) => {
  let entry = BigInt(i);
  for (let bit = 0; bit < 8; bit++) entry = (entry >> 1n) ^ (CRC64_EMPTY & -(entry & 1n));
  return entry;
});

const schemas = new Map<RecordName, AvroSchema>();
const types = new Map<AvroSchema, avsc.Type>();
const resolvers = new Map<avsc.Type, Map<avsc.Type, object>>();
const SINGLE_OBJECT = singleObjectFraming();

function typeOf(schema: AvroSchema): avsc.Type {
  let type = types.get(schema);
  if (type === undefined) {
    type = avsc.Type.forSchema(structuredClone(schema) as avsc.Schema, { wrapUnions: false });
    types.set(schema, type);
  }
  return type;
}

function resolverOf(reader: avsc.Type, writer: avsc.Type): avsc.Resolver | undefined {
  if (reader === writer) return undefined;
  const known = resolvers.get(reader) ?? new Map<avsc.Type, object>();
  resolvers.set(reader, known);
  let resolver = known.get(writer);
  if (resolver === undefined) {
    try {
      resolver = reader.createResolver(writer);
    } catch (cause) {
      throw new UndecodableRecord('unknown-schema', `the writer's schema cannot be resolved to the reader's: ${messageOf(cause)}`);
    }
    known.set(writer, resolver);
  }
  return resolver;
}

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

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
