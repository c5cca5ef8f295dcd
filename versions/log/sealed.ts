/**
 * Objects that nothing names by their hash hold their own, so that a changed byte shows all the
 * same.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from './canonical-json.ts';

/** The content with the hash of its own canonical JSON. */
export function sealed(content: unknown): Uint8Array {
  return canonicalJson({
    content,
    sha256: createHash('sha256').update(canonicalJson(content)).digest('hex'),
  });
}

/** The content; throws where the bytes are not exactly those that it is sealed to. */
export function unsealed(bytes: Uint8Array): unknown {
  const { content } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as {
    content?: unknown;
  };
  if (content === undefined || !Buffer.from(sealed(content)).equals(bytes))
    throw new TypeError('it is not what it was sealed as');
  return content;
}

/**
 * A segment of an object's name for any text: its hexadecimal SHA-256, behind the first two digits
 * and `/`.
 */
export function hashed(key: string): string {
  const hash = createHash('sha256').update(key).digest('hex');
  return `${hash.slice(0, 2)}/${hash}`;
}
