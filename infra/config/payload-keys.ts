/**
 * The setting with the keys for Temporal's payloads: `name:base64`, several separated by commas.
 */
import type { PayloadKey } from '../../pipelines/temporal/payload-codec.ts';

export const PAYLOAD_KEYS_FORM =
  'name:key, the key 32 bytes in base64; several separated by commas, the first encrypts';

/** Null where the text is no list of keys with names of their own. */
export function payloadKeysIn(text: string): PayloadKey[] | null {
  const keys = text.split(',').flatMap((item) => {
    const [, name, base64] = KEY.exec(item.trim()) ?? [];
    return name === undefined || base64 === undefined
      ? []
      : [{ name, key: Buffer.from(base64, 'base64') }];
  });
  const whole =
    keys.length === text.split(',').length &&
    new Set(keys.map(({ name }) => name)).size === keys.length;
  return whole ? keys : null;
}

/** 43 letters of base64 and one sign of filling are 32 bytes. */
const KEY = /^([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]{43}=)$/;
