/**
 * Checks that bytes have the shape of an Avro schema before anything is built from them.
 *
 * A decoder that trusts lengths is not enough: an array block may claim 2^50 items in eight bytes,
 * and a decoder that notices the end of the bytes afterwards has built them all. This walk builds
 * nothing, reads each byte once, bounds every length by the bytes left, and names the field that is
 * wrong. As the schema may be foreign, it also bounds nesting and the values that take no bytes.
 *
 * Binary form: Avro 1.12 specification, "Binary Encoding".
 */
import { UndecodableRecord } from '../failures.ts';

export type AvroSchema = string | AvroSchema[] | AvroComplexSchema;

export interface AvroComplexSchema {
  type: AvroSchema;
  name?: string;
  namespace?: string;
  fields?: { name: string; type: AvroSchema }[];
  symbols?: string[];
  items?: AvroSchema;
  values?: AvroSchema;
  size?: number;
  [attribute: string]: unknown;
}

/**
 * Returns the end of the value of `schema` that begins at `start`. Throws `UndecodableRecord` with
 * the field where the bytes depart from the schema.
 */
export function walkAvro(schema: AvroSchema, bytes: Uint8Array, start: number): number {
  const walker = new Walker(bytes, start, definitionsOf(schema));
  walker.value(schema, '', '');
  return walker.at;
}

/** The named types that a schema defines at any depth to `DEPTH_MAX`; throws beyond it. */
function definitionsOf(schema: AvroSchema): Definitions {
  const known = typeof schema === 'string' ? undefined : definitions.get(schema);
  if (known !== undefined) return known;
  const found: Definitions = new Map();
  const collect = (part: AvroSchema | undefined, namespace: string, depth: number): void => {
    if (depth > DEPTH_MAX)
      throw new UndecodableRecord(
        'unknown-schema',
        `the writer's schema nests deeper than ${DEPTH_MAX}`,
      );
    if (Array.isArray(part)) for (const branch of part) collect(branch, namespace, depth + 1);
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return;
    const name = nameOf(part, namespace);
    if (name !== null) found.set(name.full, { schema: part, namespace: name.namespace });
    const inner = name?.namespace ?? namespace;
    for (const { type } of part.fields ?? []) collect(type, inner, depth + 1);
    for (const inside of [part.items, part.values, part.type])
      if (typeof inside === 'object') collect(inside, inner, depth + 1);
  };
  collect(schema, '', 0);
  if (typeof schema !== 'string') definitions.set(schema, found);
  return found;
}

type Definitions = Map<string, { schema: AvroComplexSchema; namespace: string }>;
const definitions = new WeakMap<object, Definitions>();

/** Depth of a schema or value: far more than our records have, far less than the stack takes. */
const DEPTH_MAX = 64;
/** Only nulls, and what consists of nulls, take no bytes; more of them are an attack. */
const VALUES_PER_BYTE_MAX = 16;
const VALUES_WITHOUT_BYTES_MAX = 10_000;
const LONG_BYTES_MAX = 10;
const INT_MAX = 2n ** 31n - 1n;
const utf8 = new TextDecoder('utf-8', { fatal: true });

class Walker {
  readonly #bytes: Uint8Array;
  readonly #named: Definitions;
  #depth = 0;
  readonly #valuesMax: number;
  #values = 0;
  at: number;

  constructor(bytes: Uint8Array, start: number, named: Definitions) {
    this.#bytes = bytes;
    this.#named = named;
    this.#valuesMax = VALUES_PER_BYTE_MAX * bytes.length + VALUES_WITHOUT_BYTES_MAX;
    this.at = start;
  }

  value(schema: AvroSchema, path: string, namespace: string): void {
    if (++this.#depth > DEPTH_MAX) throw bad(path, `values nest deeper than ${DEPTH_MAX}`);
    if (++this.#values > this.#valuesMax) throw bad(path, `more than ${this.#valuesMax} values`);
    this.#value(schema, path, namespace);
    this.#depth--;
  }

  #value(schema: AvroSchema, path: string, namespace: string): void {
    if (Array.isArray(schema)) return this.#union(schema, path, namespace);
    if (typeof schema === 'string') return this.#primitive(schema, path, namespace);
    switch (schema.type) {
      case 'record': {
        const inner = nameOf(schema, namespace)?.namespace ?? namespace;
        for (const field of schema.fields ?? [])
          this.value(field.type, path === '' ? field.name : `${path}.${field.name}`, inner);
        return;
      }
      case 'enum':
        this.#index(schema.symbols?.length ?? 0, path, 'symbols');
        return;
      case 'fixed':
        return this.#skip(schema.size ?? 0, path);
      case 'array':
        return this.#blocks(path, (i) => this.value(schema.items!, `${path}[${i}]`, namespace));
      case 'map':
        return this.#blocks(path, () => {
          const key = this.#text(`${path}{}`);
          this.value(schema.values!, `${path}{${key.slice(0, 40)}}`, namespace);
        });
      default:
        return this.value(schema.type, path, namespace);
    }
  }

  #primitive(type: string, path: string, namespace: string): void {
    switch (type) {
      case 'null':
        return;
      case 'boolean': {
        const byte = this.#bytes[this.at];
        this.#skip(1, path);
        if (byte! > 1) throw bad(path, `a boolean is 0 or 1, not ${byte}`);
        return;
      }
      case 'int': {
        const value = this.#long(path);
        if (value > INT_MAX || value < -INT_MAX - 1n)
          throw bad(path, `${value} does not fit 32 bits`);
        return;
      }
      case 'long': {
        const value = this.#long(path);
        if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < -BigInt(Number.MAX_SAFE_INTEGER))
          throw bad(path, `${value} is beyond 2^53`);
        return;
      }
      case 'float':
        return this.#skip(4, path);
      case 'double':
        return this.#skip(8, path);
      case 'bytes':
        return this.#skip(this.#length(path), path);
      case 'string':
        this.#text(path);
        return;
      default: {
        const named =
          this.#named.get(type.includes('.') ? type : qualified(type, namespace)) ??
          this.#named.get(type);
        if (named === undefined)
          throw new UndecodableRecord(
            'unknown-schema',
            `the schema names a type "${type}" that it does not define`,
            { at: path },
          );
        return this.value(named.schema, path, named.namespace);
      }
    }
  }

  #union(branches: AvroSchema[], path: string, namespace: string): void {
    this.value(branches[this.#index(branches.length, path, 'branches')]!, path, namespace);
  }

  /** Blocks of items; a negative count is followed by the block's size in bytes. */
  #blocks(path: string, item: (index: number) => void): void {
    let index = 0;
    for (;;) {
      let count = this.#long(path);
      if (count === 0n) return;
      if (count < 0n) {
        count = -count;
        this.#long(path);
      }
      if (count > BigInt(this.#left))
        throw truncated(path, `${count} items are announced and ${this.#left} bytes are left`);
      for (let n = Number(count); n > 0; n--) item(index++);
    }
  }

  #index(count: number, path: string, of: string): number {
    const index = this.#long(path);
    if (index < 0n || index >= BigInt(count)) throw bad(path, `index ${index} of ${count} ${of}`);
    return Number(index);
  }

  #text(path: string): string {
    const length = this.#length(path);
    const from = this.at;
    this.#skip(length, path);
    try {
      return utf8.decode(this.#bytes.subarray(from, this.at));
    } catch {
      throw bad(path, 'the string is not UTF-8');
    }
  }

  #length(path: string): number {
    const length = this.#long(path);
    if (length < 0n) throw bad(path, `a length of ${length}`);
    if (length > BigInt(this.#left))
      throw truncated(path, `${length} bytes are announced and ${this.#left} are left`);
    return Number(length);
  }

  #skip(count: number, path: string): void {
    if (count > this.#left)
      throw truncated(path, `${count} bytes are needed and ${this.#left} are left`);
    this.at += count;
  }

  /** A zig-zag variable-length integer of up to 64 bits. */
  #long(path: string): bigint {
    let value = 0n;
    for (let i = 0; i < LONG_BYTES_MAX; i++) {
      const byte = this.#bytes[this.at];
      if (byte === undefined) throw truncated(path, 'the bytes end inside a number');
      this.at++;
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return (value >> 1n) ^ -(value & 1n);
    }
    throw bad(path, `a number of more than ${LONG_BYTES_MAX} bytes`);
  }

  get #left(): number {
    return this.#bytes.length - this.at;
  }
}

/** The full name and namespace of a named type, else null. */
function nameOf(
  schema: AvroComplexSchema,
  namespace: string,
): { full: string; namespace: string } | null {
  if (schema.name === undefined) return null;
  const full = schema.name.includes('.')
    ? schema.name
    : qualified(schema.name, schema.namespace ?? namespace);
  return { full, namespace: full.includes('.') ? full.slice(0, full.lastIndexOf('.')) : '' };
}

function qualified(name: string, namespace: string): string {
  return namespace === '' ? name : `${namespace}.${name}`;
}

function truncated(path: string, what: string): UndecodableRecord {
  return new UndecodableRecord('truncated', `the record is cut short${at(path)}: ${what}`, {
    at: path,
  });
}

function bad(path: string, what: string): UndecodableRecord {
  return new UndecodableRecord(
    'bad-value',
    `the record is not as its schema says${at(path)}: ${what}`,
    { at: path },
  );
}

function at(path: string): string {
  return path === '' ? '' : ` at ${path}`;
}
