/**
 * Contents of a version log: entries, blobs of pairs and of targets, canonical JSON, and their
 * names.
 */
import fc from 'fast-check';
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve, sep } from 'node:path';
import { beforeAll, describe, expect, it, test } from 'vitest';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import {
  decodeSafetensors,
  encodeSafetensors,
  MalformedSafetensors,
} from '../../schemas/encoding/safetensors.ts';
import { canonicalJson } from '../../versions/log/canonical-json.ts';
import { VersionLogDamaged } from '../../versions/log/failures.ts';
import { ObjectNameInvalid } from '../../versions/stores/failures.ts';
import { FileStore } from '../../versions/stores/file-store.ts';
import {
  checkObjectName,
  OBJECT_BYTES_MAX,
  OBJECT_NAME_LIMITS,
} from '../../versions/stores/object-store.ts';
import {
  decodePairs,
  decodeTargets,
  encodePairs,
  encodeTargets,
  PairsMalformed,
} from '../../versions/log/pairs.ts';
import { Register } from '../../versions/log/register.ts';
import { VersionLog } from '../../versions/log/version-log.ts';
import { ENTRY_BYTES_MAX, ENTRY_JSON_LIMITS } from '../../versions/log/entry-reader.ts';
import { blobName, entryName } from '../../versions/log/object-names.ts';
import { Versions } from '../../versions/versions.ts';
import { testFolder } from '../harness/clean-up.ts';
import { addedCorrection, appendChange } from '../versions/entries.ts';
import { MemoryStore } from '../harness/memory-store.ts';
import {
  always,
  damaged,
  faultOf,
  nestedJson,
  oddJson,
  oddParts,
  oddText,
} from '../harness/odd-inputs.ts';

const VERSIONS = 9;

/** A log of some versions. */
async function soundLog(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const log = new VersionLog(store, 'l');
  for (let version = 1; version <= VERSIONS; version++)
    await appendChange(log, { add: [addedCorrection(`c${version}`, { paraphrases: ['p'] })] });
  return store;
}

let sound: MemoryStore;
beforeAll(async () => {
  sound = await soundLog();
});

/** The fault of a log with one entry replaced, and its highest readable version. */
async function readWith(version: number, bytes: Uint8Array) {
  const store = new MemoryStore();
  for (const [name, content] of sound.objects)
    store.objects.set(name, name === entryName('l', version) ? bytes : content);
  const log = new VersionLog(store, 'l');
  const fault = await faultOf(() => log.read());
  let good = 0;
  while ((await faultOf(() => log.at(good + 1))) === undefined) good++;
  return { fault, good };
}

const entryBytes = (version: number) => sound.objects.get(entryName('l', version))!;
const anyVersion = fc.integer({ min: 1, max: VERSIONS });

async function isDamagedOrEqual(version: number, bytes: Uint8Array): Promise<void> {
  const { fault, good } = await readWith(version, bytes);
  // Only the last entry's hash is not recorded in a later one.
  if (fault === undefined && version === VERSIONS) return;
  if (fault === undefined) return expect(Buffer.from(entryBytes(version)).equals(bytes)).toBe(true);
  expect(fault).toBeInstanceOf(VersionLogDamaged);
  const { message } = fault as Error;
  expect(message.length).toBeLessThan(3_000);
  const named = [version, version + 1].filter((one) => message.includes(entryName('l', one)));
  expect(named).toHaveLength(1);
  expect(good).toBe(named[0]! - 1);
}

test('an entry with any bytes is refused by name, and earlier ones stay valid', async () => {
  const damage = anyVersion.chain((version) =>
    fc.tuple(fc.constant(version), damaged(entryBytes(version))),
  );
  await always(150, damage, async ([version, bytes]) => isDamagedOrEqual(version, bytes));
});

test('an entry with odd values is refused by name, and earlier ones stay valid', async () => {
  const value = (version: number): unknown =>
    JSON.parse(Buffer.from(entryBytes(version)).toString());
  const damage = anyVersion.chain((version) =>
    fc.tuple(fc.constant(version), oddParts(value(version))),
  );
  await always(150, damage, async ([version, odd]) =>
    isDamagedOrEqual(version, Buffer.from(JSON.stringify(odd) ?? '')),
  );
});

test.each<[string, () => Uint8Array, RegExp]>([
  ['too many bytes', () => new Uint8Array(ENTRY_BYTES_MAX + 1), /bytes, at most 16777216 are/],
  ['levels without end', () => Buffer.from(nestedJson(1_000_000)), /nested deeper than 32 levels/],
  [
    'values without end',
    () => Buffer.from(`{"added":[${'1,'.repeat(ENTRY_JSON_LIMITS.valuesMax)}1]}`),
    /more than 1000000 values/,
  ],
  [
    'a fault in each of its corrections',
    () => Buffer.from(`{"added":[${'1,'.repeat(10_000)}1]}`),
    /; and \d+ more$/,
  ],
])('an entry with %s is refused with a short message', async (_, bytes, message) => {
  const { fault, good } = await readWith(5, bytes());
  expect(fault).toBeInstanceOf(VersionLogDamaged);
  expect((fault as VersionLogDamaged).message).toMatch(message);
  expect((fault as VersionLogDamaged).message.length).toBeLessThan(2_000);
  expect(good).toBe(4);
});

test('a register object with any bytes is read as written or refused by name', async () => {
  const sound = await soundLog();
  await new VersionLog(sound, 'l').register();
  const name = [...sound.objects.keys()].find((one) => one.includes('/register/revisions/'))!;
  const bytes = sound.objects.get(name)!;
  const value = JSON.parse(Buffer.from(bytes).toString()) as { content: { revisionId: string } };
  const store = new MemoryStore();
  const odd = oddParts(value).map((one) => new Uint8Array(Buffer.from(JSON.stringify(one) ?? '')));
  const damage = fc.oneof(damaged(bytes), odd);
  await always(150, damage, async (other) => {
    store.objects.set(name, other);
    const fault = await faultOf(() =>
      new Register(store, 'l').outcomesOf([value.content.revisionId]),
    );
    if (Buffer.from(other).equals(bytes)) expect(fault).toBeUndefined();
    else {
      expect(fault).toBeInstanceOf(VersionLogDamaged);
      expect((fault as Error).message).toContain(name);
    }
  });
});

const pairs = encodePairs({
  layers: [2, 5],
  count: 2,
  subjects: ['Torvik', 'Ærø'],
  spellings: [[[1, 2]], [[3], []]],
  keyWidth: 3,
  valueWidth: 2,
  keys: [new Float32Array(6).fill(0.5), new Float32Array(6).fill(1)],
  changes: [new Float32Array(4).fill(2), new Float32Array(4).fill(3)],
});
const targets = encodeTargets({ ids: ['a', 'b'], values: Float32Array.of(1, 2, 3, 4) });

describe.each<[string, Uint8Array, (bytes: Uint8Array) => Float32Array[]]>([
  [
    'pairs',
    pairs,
    (bytes) => {
      const { keys, changes, count, keyWidth } = decodePairs(bytes);
      expect(keys[0]).toHaveLength(count * keyWidth);
      return [...keys, ...changes];
    },
  ],
  ['targets', targets, (bytes) => [decodeTargets(bytes).values]],
])('a blob of %s', (_, sound, decode) => {
  const isFiniteOrRefused = async (bytes: Uint8Array): Promise<void> => {
    const fault = await faultOf(() => {
      for (const numbers of decode(bytes)) expect(numbers.every(Number.isFinite)).toBe(true);
    });
    if (fault === undefined) return;
    expect([PairsMalformed, MalformedSafetensors]).toContain((fault as Error).constructor);
    expect((fault as Error).message.length).toBeLessThan(1_000);
  };

  it('with any bytes holds finite numbers or is refused', async () => {
    await always(500, damaged(sound), isFiniteOrRefused);
  });

  it('with odd metadata holds finite numbers or is refused', async () => {
    const { tensors, metadata } = decodeSafetensors(sound);
    const odd = fc.constantFrom('', ',', '-1,5', '2,5,', '5,2', '1e1', nestedJson(50_000));
    const json = oddJson.map((value) => JSON.stringify(value));
    const text = fc.oneof(oddText, json, odd).filter((one) => one.isWellFormed());
    const names = fc.constantFrom(...Object.keys(metadata));
    const changes = fc.dictionary(names, text, { minKeys: 1, noNullPrototype: true });
    await always(500, changes, (some) =>
      isFiniteOrRefused(encodeSafetensors(tensors, { ...metadata, ...some })),
    );
  });

  it.each([Number.NaN, Infinity, -Infinity])('that contains %s is refused', (number) => {
    const bytes = new Uint8Array(sound);
    new DataView(bytes.buffer).setFloat32(bytes.length - 4, number, true);
    expect(() => decode(bytes)).toThrow(PairsMalformed);
  });
});

test('canonical JSON equals JSON, is equal for equal values, or throws TypeError', async () => {
  const kinds = { maxDepth: 4, withSparseArray: true, withNullPrototype: true };
  const anything = fc.anything({ ...kinds, withBigInt: true, withDate: true, withMap: true });
  await always(500, anything, async (value) => {
    const fault = await faultOf(() => {
      const bytes = canonicalJson(value);
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
      expect(canonicalJson(JSON.parse(text))).toEqual(bytes);
    });
    if (fault !== undefined) expect(fault).toBeInstanceOf(TypeError);
  });
});

test('canonical JSON refuses an array with holes', () => {
  const holes: unknown[] = [1];
  holes[2] = 3;
  expect(() => canonicalJson({ holes })).toThrow(/\$\.holes\[1\] is of type undefined/);
});

const folder = testFolder();
writeFileSync(join(folder, 'outside'), 'kept');

const sign = fc.constantFrom(
  ...['a', 'Z', '0', '.', '-', '_', '/', '\\', '\0', '%', ' ', '\n', 'é'],
);
const segment = fc.oneof(
  oddText,
  fc.string({ unit: sign, maxLength: 10 }),
  fc.constantFrom('.', '..', '.tmp', 'outside', '~', 'con', 'a:b'),
);
const segments = fc.array(segment, { maxLength: OBJECT_NAME_LIMITS.segmentsMax + 2 });
const name = fc.oneof(
  segment,
  segments.map((parts) => parts.join('/')),
);
const inside = (path: string) =>
  resolve(folder, 'versions', path).startsWith(resolve(folder, 'versions') + sep);

test('an allowed object name leads to a place inside the folder', async () => {
  await always(1_000, name, (text) => {
    if (isTaken(() => checkObjectName(text))) expect(inside(text)).toBe(true);
  });
});

test('a lineage name is accepted only if all its objects lie inside its folder', async () => {
  await always(1_000, segment, (text) => {
    const taken = isTaken(() => new Versions(new MemoryStore()).log(text));
    expect(taken).toBe(LINEAGE_NAME.test(text));
    if (!taken) return;
    const own = resolve(folder, 'lineages', text) + sep;
    for (const object of [entryName(text, 1), blobName(text, 'ab'.repeat(32))])
      expect(resolve(folder, object).startsWith(own)).toBe(true);
  });
});

test('a name that leads elsewhere is refused without a file access', async () => {
  const store = new FileStore(join(folder, 'versions'));
  const places = () =>
    readdirSync(folder, { recursive: true })
      .filter((path) => !String(path).startsWith('versions'))
      .sort();
  const before = places();
  await always(200, name, async (text) => {
    const faults = await Promise.all([
      faultOf(() => store.get(text)),
      faultOf(() => store.delete(text)),
      faultOf(() => store.putIfAbsent(text, Buffer.from('x'))),
      faultOf(async () => {
        for await (const found of store.list(text)) expect(inside(found)).toBe(true);
      }),
    ]);
    // The file system may treat one object as a folder of another; invalid names are refused on
    // their own.
    if (!isTaken(() => checkObjectName(text)))
      for (const fault of faults.slice(0, 3)) expect(fault).toBeInstanceOf(ObjectNameInvalid);
    expect(places()).toEqual(before);
  });
});

test.each([
  ...['../outside', 'a/../../outside', '..', '.', '', '/etc/passwd', 'a//b', 'a/', '/a', 'a\0'],
  ...['A', 'a\\..\\b', '.tmp/x', 'a/.hidden', 'a\n', 'x'.repeat(129), 'a/a/a/a/a/a/a/a/a'],
])('%j is not an object name', async (text) => {
  const store = new FileStore(join(folder, 'versions'));
  for (const call of [
    () => store.get(text),
    () => store.delete(text),
    () => store.putIfAbsent(text, new Uint8Array(1)),
  ])
    expect(await faultOf(call)).toBeInstanceOf(ObjectNameInvalid);
});

test('an oversized object is not read into memory', async () => {
  const store = new FileStore(join(folder, 'versions'));
  await store.putIfAbsent('large', new Uint8Array(1));
  truncateSync(join(folder, 'versions', 'large'), OBJECT_BYTES_MAX + 1);
  const fault = String(await faultOf(() => store.get('large')));
  expect(fault).toMatch(/RangeError: Object large has 1073741825 bytes/);
});

function isTaken(call: () => unknown): boolean {
  try {
    call();
    return true;
  } catch (fault) {
    expect(fault).toBeInstanceOf(ObjectNameInvalid);
    return false;
  }
}
