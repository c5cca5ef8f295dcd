/** Bad input: random bytes, and sound inputs damaged as by a disk, a network or an attacker. */
import fc from 'fast-check';

const RUNS_FACTOR = Number(process.env['ERRATA_FUZZ_RUNS'] ?? '1');

/** Tries a property `count` times, or ERRATA_FUZZ_RUNS as often. */
export async function always<Ts extends [unknown, ...unknown[]]>(
  count: number,
  ...property: [...{ [K in keyof Ts]: fc.Arbitrary<Ts[K]> }, (...values: Ts) => unknown]
): Promise<void> {
  const check = property.at(-1) as (...values: unknown[]) => unknown;
  const given = fc.tuple(...(property.slice(0, -1) as fc.Arbitrary<unknown>[]));
  await fc.assert(
    fc.asyncProperty(given, async (values) => void (await check(...values))),
    { numRuns: Math.max(1, Math.round(count * RUNS_FACTOR)) },
  );
}

/** Lengths and counts, in several encodings, that no sound input holds. */
const ABSURD_NUMBERS: readonly Uint8Array[] = [
  ...[2n ** 31n, 2n ** 53n, 2n ** 60n, 2n ** 63n, 2n ** 64n - 1n].map(littleEndian),
  ...[2n ** 31n, 2n ** 53n, 2n ** 60n, 2n ** 63n - 1n, -1n, -(2n ** 63n)].map(avroLong),
  new Uint8Array(4).fill(0xff),
  new Uint8Array(12).fill(0x80),
  new Uint8Array(1),
];

type Edit =
  | { kind: 'set'; at: number; byte: number }
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'cut'; at: number; bytes: number }
  | { kind: 'end'; at: number }
  | { kind: 'repeat'; at: number; bytes: number }
  | { kind: 'insert' | 'overwrite'; at: number; what: Uint8Array };

const place = fc.double({ min: 0, max: 1, noNaN: true });
const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: place, byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('flip' as const), at: place, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('cut' as const), at: place, bytes: fc.nat(40) }),
  fc.record({ kind: fc.constant('end' as const), at: place }),
  fc.record({ kind: fc.constant('repeat' as const), at: place, bytes: fc.nat(40) }),
  fc.record({
    kind: fc.constantFrom('insert' as const, 'overwrite' as const),
    at: place,
    what: fc.oneof(fc.constantFrom(...ABSURD_NUMBERS), fc.uint8Array({ maxLength: 12 })),
  }),
);

/**
 * Sound bytes with one to four edits, and sometimes fully random bytes. `span` is the share of the
 * input, from its beginning, that is edited: headers are worth more than the numbers behind them.
 */
export function damaged(
  sound: fc.Arbitrary<Uint8Array> | Uint8Array | string,
  span = 1,
): fc.Arbitrary<Uint8Array> {
  const whole =
    sound instanceof fc.Arbitrary ? sound : fc.constant(new Uint8Array(Buffer.from(sound)));
  return fc.oneof(
    {
      weight: 8,
      arbitrary: fc
        .tuple(whole, fc.array(edit, { minLength: 1, maxLength: 4 }))
        .map(([bytes, edits]) => edits.reduce((all, one) => applied(all, one, span), bytes)),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
  );
}

function applied(bytes: Uint8Array, change: Edit, span: number): Uint8Array {
  const at = Math.floor(change.at * span * bytes.length);
  switch (change.kind) {
    case 'set':
      return bytes.map((byte, i) => (i === at ? change.byte : byte));
    case 'flip':
      return bytes.map((byte, i) => (i === at ? byte ^ (1 << change.bit) : byte));
    case 'cut':
      return joined(bytes.subarray(0, at), bytes.subarray(at + change.bytes));
    case 'end':
      return bytes.slice(0, at);
    case 'repeat':
      return joined(bytes.subarray(0, at + change.bytes), bytes.subarray(at));
    case 'insert':
      return joined(bytes.subarray(0, at), change.what, bytes.subarray(at));
    case 'overwrite':
      return joined(bytes.subarray(0, at), change.what, bytes.subarray(at + change.what.length));
  }
}

/**
 * Texts that break programs: control characters, lone surrogates, inherited names, paths, long
 * texts.
 */
export const oddText: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom(
    ...['', ' ', '\0', '\uFEFF', '\uD800', 'a\uDFFFb', '__proto__', 'constructor', 'toString'],
    ...['..', '../..', 'a/../b', '%2e%2e%2f', '\r\n', '"', "'", '$&', '1e999', '-0', 'NaN'],
    'x'.repeat(5_000),
  ),
);

/** Any JSON value, including deep ones and ones with inherited names. */
export const oddJson: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 4, stringUnit: 'binary' }),
  fc.dictionary(oddText, fc.oneof(oddText, fc.double(), fc.boolean(), fc.constant(null)), {
    maxKeys: 6,
    noNullPrototype: true,
  }),
  fc.constantFrom(9_007_199_254_740_993, 1e308, -1, 0.5),
);

/** A sound JSON value with one to three parts, at any depth, replaced by odd ones or removed. */
export function oddParts(sound: unknown): fc.Arbitrary<unknown> {
  const way = fc.array(place, { minLength: 1, maxLength: 5 });
  return fc
    .array(fc.tuple(way, fc.option(oddJson)), { minLength: 1, maxLength: 3 })
    .map((changes) => changes.reduce((all, [at, part]) => replaced(all, at, part), sound));
}

function replaced(value: unknown, [first, ...rest]: readonly number[], part: unknown): unknown {
  if (first === undefined || typeof value !== 'object' || value === null) return part;
  const parts = Object.entries(value);
  const at = Math.floor(first * parts.length);
  const changed = parts.map(([name, item], i): [string, unknown] =>
    i === at ? [name, replaced(item, rest, part)] : [name, item],
  );
  if (rest.length === 0 && part === null) changed.splice(at, 1);
  return Array.isArray(value) ? changed.map(([, item]) => item) : Object.fromEntries(changed);
}

/** JSON nested so deeply that a recursive function runs out of stack. */
export function nestedJson(levels: number, of: 'array' | 'object' = 'array'): string {
  return of === 'array'
    ? '['.repeat(levels) + ']'.repeat(levels)
    : `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;
}

/** An Avro long: zig-zag, seven bits a byte. */
export function avroLong(value: bigint): Uint8Array {
  let rest = BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
  const bytes: number[] = [];
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Uint8Array.from([...bytes, Number(rest)]);
}

/** 64 bits, the least significant byte first. */
export function littleEndian(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Resolves to the error that a call throws, or undefined. */
export async function faultOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (fault) {
    return fault;
  }
}
