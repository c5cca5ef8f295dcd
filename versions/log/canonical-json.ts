/**
 * Writes a value as canonical JSON (RFC 8785, JSON Canonicalization Scheme), so that equal values
 * have equal bytes: members sorted by UTF-16 code unit, no white space, ECMAScript's numbers,
 * UTF-8. Throws a TypeError at values that JSON lacks (undefined, NaN, a lone surrogate, a
 * function).
 */
export function canonicalJson(value: unknown): Uint8Array {
  return new TextEncoder().encode(written(value, '$'));
}

function written(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value))
      throw new TypeError(`${path} is ${value}, which JSON cannot write`);
    return JSON.stringify(value);
  }
  if (typeof value === 'string') {
    if (!value.isWellFormed())
      throw new TypeError(`${path} has a lone surrogate, which UTF-8 cannot write`);
    return JSON.stringify(value);
  }
  // Array.from, since map skips the holes of an array.
  if (Array.isArray(value))
    return `[${Array.from(value, (item: unknown, i) => written(item, `${path}[${i}]`)).join(',')}]`;
  const prototype: unknown = typeof value === 'object' ? Object.getPrototypeOf(value) : undefined;
  if (prototype !== Object.prototype && prototype !== null)
    throw new TypeError(`${path} is of type ${typeof value}, which JSON cannot write`);
  const members = Object.entries(value as object)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([name, item]) => `${written(name, path)}:${written(item, `${path}.${name}`)}`);
  return `{${members.join(',')}}`;
}
