/**
 * The interface of a store of whole objects under names, written once. Each implementation
 * (`file-store.ts`, `s3-store.ts`) passes test/versions/stores/object-store-conformance.ts.
 */
import PQueue from 'p-queue';
import { ObjectNameInvalid } from './failures.ts';

export interface ObjectStore {
  get(name: string): Promise<Uint8Array | null>;
  /**
   * Lists names that begin with the prefix, ascending by code unit. Objects put or deleted during
   * the listing may appear or not.
   */
  list(prefix: string): AsyncIterable<string>;
  /**
   * Writes the object unless the name is taken: of any number of concurrent calls exactly one gets
   * 'stored'. Readers see the object as a whole. When the call returns, with either result, the
   * object survives a loss of power.
   */
  putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'>;
  /** Succeeds even if the object does not exist. */
  delete(name: string): Promise<void>;
}

export const OBJECT_NAME_LIMITS = {
  charactersMax: 512,
  segmentsMax: 8,
  segmentCharactersMax: 128,
} as const;

/** Largest object, in bytes. A store throws a RangeError at a larger one. */
export const OBJECT_BYTES_MAX = 2 ** 30;

const SEGMENT = /^[a-z0-9][a-z0-9._-]*$/;

/** Throws `ObjectNameInvalid` unless every store can hold the name and it is safe as a path. */
export function checkObjectName(name: string): void {
  const { charactersMax, segmentsMax, segmentCharactersMax } = OBJECT_NAME_LIMITS;
  const segments = name.split('/');
  const valid =
    name.length <= charactersMax &&
    segments.length <= segmentsMax &&
    segments.every((segment) => segment.length <= segmentCharactersMax && SEGMENT.test(segment));
  if (!valid) throw new ObjectNameInvalid(name);
}

/** Throws `ObjectNameInvalid` unless the prefix is empty, a name, or a name followed by "/". */
export function checkObjectPrefix(prefix: string): void {
  if (prefix !== '') checkObjectName(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** Throws a RangeError where an object is too large to be written or read. */
export function checkObjectBytes(name: string, bytes: number): void {
  if (bytes > OBJECT_BYTES_MAX)
    throw new RangeError(
      `Object ${name} has ${bytes} bytes, at most ${OBJECT_BYTES_MAX} are allowed`,
    );
}

export async function namesUnder(store: ObjectStore, prefix: string): Promise<string[]> {
  const names: string[] = [];
  for await (const name of store.list(prefix)) names.push(name);
  return names;
}

const OBJECTS_AT_ONCE_MAX = 16;

/** Calls the work for every item, with bounded concurrency; returns the results in order. */
export async function forEachObject<Item, Result>(
  items: Iterable<Item>,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const queue = new PQueue({ concurrency: OBJECTS_AT_ONCE_MAX });
  return await queue.addAll(Array.from(items, (item) => () => work(item)));
}

/**
 * Reads the objects numbered from `first` through `last`, up to the first that is missing. Pieces
 * grow, so that following a sequence costs little and reading a long one is quick.
 */
export async function* readAhead(
  store: ObjectStore,
  nameOf: (number: number) => string,
  first: number,
  last = Infinity,
): AsyncGenerator<Uint8Array[]> {
  let ahead = 1;
  for (let next = first; next <= last; ahead = Math.min(2 * ahead, OBJECTS_AT_ONCE_MAX)) {
    const length = Math.min(ahead, last - next + 1);
    const from = next;
    const found = await Promise.all(Array.from({ length }, (_, i) => store.get(nameOf(from + i))));
    const end = found.indexOf(null);
    const piece = (end === -1 ? found : found.slice(0, end)) as Uint8Array[];
    if (piece.length > 0) yield piece;
    if (end !== -1) return;
    next += length;
  }
}
