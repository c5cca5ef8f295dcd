/**
 * Where versions are kept, as little of it as they need: whole objects under names, written once.
 * An implementation is one file beside this one (`file-store.ts`, `s3-store.ts`) and passes the
 * conformance suite in test/versions/stores/object-store-conformance.ts.
 */
import { ObjectNameInvalid } from '../log/failures.ts';

export interface ObjectStore {
  /** The object's bytes, or null where there is none. */
  get(name: string): Promise<Uint8Array | null>;
  /**
   * Names that begin with the prefix, ascending by code unit. What is put or deleted meanwhile may
   * be in it or not.
   */
  list(prefix: string): AsyncIterable<string>;
  /**
   * Writes the object if there is none of the name: of any number of concurrent calls exactly one
   * gets 'stored'. The object is seen whole or not at all, and when the call returns, either way,
   * it outlives a power cut.
   */
  putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'>;
  /** Deleting what is not there is no fault. */
  delete(name: string): Promise<void>;
}

export const OBJECT_NAME_LIMITS = {
  charactersMax: 512,
  segmentsMax: 8,
  segmentCharactersMax: 128,
} as const;

/** Largest object, in bytes. A store neither writes nor reads more (a RangeError). */
export const OBJECT_BYTES_MAX = 2 ** 30;

const SEGMENT = /^[a-z0-9][a-z0-9._-]*$/;

/**
 * Throws `ObjectNameInvalid` unless the name is one that every store can hold and that no path can
 * be smuggled into.
 */
export function checkObjectName(name: string): void {
  const segments = name.split('/');
  const sound =
    name.length <= OBJECT_NAME_LIMITS.charactersMax &&
    segments.length <= OBJECT_NAME_LIMITS.segmentsMax &&
    segments.every(
      (segment) =>
        segment.length <= OBJECT_NAME_LIMITS.segmentCharactersMax && SEGMENT.test(segment),
    );
  if (!sound) throw new ObjectNameInvalid(name);
}

/**
 * A prefix is whole segments, each followed by "/", and perhaps the beginning of one more; or
 * empty.
 */
export function checkObjectPrefix(prefix: string): void {
  if (prefix === '') return;
  checkObjectName(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix);
}

/** Throws a RangeError where an object is too large to be put or to be read. */
export function checkObjectBytes(name: string, bytes: number): void {
  if (bytes > OBJECT_BYTES_MAX)
    throw new RangeError(
      `Object ${name} has ${bytes} bytes, at most ${OBJECT_BYTES_MAX} are allowed`,
    );
}
