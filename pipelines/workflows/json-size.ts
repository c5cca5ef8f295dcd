/** Bytes of a value as JSON in UTF-8, which is what Temporal stores and bounds. */
export function jsonBytes(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).length;
}
