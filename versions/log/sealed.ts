/** Sealed objects hold their own hash, since no other object names it: a changed byte shows. */
import { messageOf } from '../../schemas/failures.ts';
import type { ObjectStore } from '../stores/object-store.ts';
import { canonicalJson } from './canonical-json.ts';
import { VersionLogDamaged } from './failures.ts';
import { sha256 } from './object-names.ts';

/** Seals the content with the hash of its own canonical JSON. */
export function sealed(content: unknown): Uint8Array {
  return canonicalJson({ content, sha256: sha256(canonicalJson(content)) });
}

/** Returns the content; throws where the bytes differ from the sealed ones. */
export function unsealed(bytes: Uint8Array): unknown {
  const { content } = jsonOf(bytes) as { content?: unknown };
  if (content === undefined || !Buffer.from(sealed(content)).equals(bytes))
    throw new TypeError('its content does not match its seal');
  return content;
}

/** Reads a sealed object of a lineage; null if it is missing. Throws `VersionLogDamaged`. */
export async function readSealed<Content>(
  store: ObjectStore,
  lineage: string,
  name: string,
  parse: (content: unknown) => Content,
): Promise<Content | null> {
  const bytes = await store.get(name);
  return bytes === null ? null : parsedOf(lineage, name, () => parse(unsealed(bytes)));
}

/** Parses an object of a lineage and turns the parser's errors into `VersionLogDamaged`. */
export function parsedOf<Content>(lineage: string, name: string, parse: () => Content): Content {
  try {
    return parse();
  } catch (fault) {
    throw new VersionLogDamaged(lineage, name, messageOf(fault));
  }
}

/** Throws where the bytes are not JSON in UTF-8. */
export function jsonOf(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
}

/** Throws where the bytes are not canonical JSON. */
export function canonicalJsonOf(bytes: Uint8Array): unknown {
  const json = jsonOf(bytes);
  if (!Buffer.from(canonicalJson(json)).equals(bytes))
    throw new TypeError('it is not canonical JSON');
  return json;
}
