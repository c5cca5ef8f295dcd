/**
 * The one way an entry is written, so that equal entries have equal bytes: RFC 8785 (JSON
 * Canonicalization Scheme). Members sorted by UTF-16 code unit, no white space, numbers as
 * ECMAScript writes them, UTF-8. Throws a TypeError at anything JSON has no value for (undefined,
 * NaN, a lone surrogate, a function), instead of writing something else.
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
  // Not value.map, which passes over what an array has no value for.
  if (Array.isArray(value))
    return `[${Array.from(value, (item: unknown, i) => written(item, `${path}[${i}]`)).join(',')}]`;
  if (
    typeof value === 'object' &&
    (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null)
  ) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${members.map(([name, item]) => `${written(name, path)}:${written(item, `${path}.${name}`)}`).join(',')}}`;
  }
  throw new TypeError(`${path} is of type ${typeof value}, which JSON cannot write`);
}
