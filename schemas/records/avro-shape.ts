/**
 * Checks that bytes have the shape of an Avro type before anything is built from them.
 *
 * A decoder that trusts lengths is unsafe: an array block may claim 2^50 items in eight bytes, and
 * the decoder builds them all before it notices the end of the bytes. This walk builds nothing,
 * reads each byte once, bounds every length by the bytes left, and names the faulty field. Because
 * the schema may be foreign, it also bounds nesting and the number of values that take no bytes.
 *
 * Binary form: Avro 1.12 specification, "Binary Encoding".
 */
import type { Type, types } from 'avsc';
import { UndecodableRecord } from '../failures.ts';

/** Largest depth of a value: far more than our records need, far less than the stack allows. */
const DEPTH_MAX = 64;
/** Only nulls and values made of nulls take no bytes. More of them are an attack. */
const VALUES_PER_BYTE_MAX = 16;
const VALUES_WITHOUT_BYTES_MAX = 10_000;
const LONG_BYTES_MAX = 10;
const INT_MAX = 2n ** 31n - 1n;
const LONG_MAX = BigInt(Number.MAX_SAFE_INTEGER);
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Returns the end of the value of `type` that begins at `start`. Throws `UndecodableRecord` with
 * the first field that does not match the type.
 */
export function walkAvro(type: Type, bytes: Uint8Array, start: number): number {
  const walker = new Walker(bytes, start);
  walker.value(type, '');
  return walker.at;
}

class Walker {
  readonly #bytes: Uint8Array;
  readonly #valuesMax: number;
  #depth = 0;
  #values = 0;
  at: number;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#valuesMax = VALUES_PER_BYTE_MAX * bytes.length + VALUES_WITHOUT_BYTES_MAX;
    this.at = start;
  }

  value(type: Type, path: string): void {
    if (++this.#depth > DEPTH_MAX) throw bad(path, `values nest deeper than ${DEPTH_MAX}`);
    if (++this.#values > this.#valuesMax) throw bad(path, `more than ${this.#valuesMax} values`);
    this.#value(type, path);
    this.#depth--;
  }

  #value(type: Type, path: string): unknown {
    switch (type.typeName) {
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
        if (value > LONG_MAX || value < -LONG_MAX) throw bad(path, `${value} is beyond 2^53`);
        return;
      }
      case 'float':
        return this.#skip(4, path);
      case 'double':
        return this.#skip(8, path);
      case 'bytes':
        return this.#skip(this.#length(path), path);
      case 'string':
        return this.#text(path);
      case 'fixed':
        return this.#skip((type as types.FixedType).size, path);
      case 'enum':
        return this.#index((type as types.EnumType).symbols.length, path, 'symbols');
      case 'array': {
        const { itemsType } = type as types.ArrayType;
        return this.#blocks(path, (i) => this.value(itemsType, `${path}[${i}]`));
      }
      case 'map': {
        const { valuesType } = type as { valuesType?: Type } & Type;
        return this.#blocks(path, () => {
          const key = this.#text(`${path}{}`);
          this.value(valuesType!, `${path}{${key.slice(0, 40)}}`);
        });
      }
      case 'union:wrapped':
      case 'union:unwrapped': {
        const { types: branches } = type as types.WrappedUnionType;
        return this.value(branches[this.#index(branches.length, path, 'branches')]!, path);
      }
      default:
        for (const field of (type as types.RecordType).fields)
          this.value(field.type, path === '' ? field.name : `${path}.${field.name}`);
    }
  }

  /** Reads blocks of items. A negative count is followed by the block's size in bytes. */
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

  /** Reads a zig-zag variable-length integer of up to 64 bits. */
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

function truncated(at: string, what: string): UndecodableRecord {
  const message = `the record is cut short${placeOf(at)}: ${what}`;
  return new UndecodableRecord('truncated', message, { at });
}

function bad(at: string, what: string): UndecodableRecord {
  const message = `the record is not as its schema says${placeOf(at)}: ${what}`;
  return new UndecodableRecord('bad-value', message, { at });
}

function placeOf(path: string): string {
  return path === '' ? '' : ` at ${path}`;
}
