/**
 * Encrypts everything that Temporal stores about corrections: every payload (arguments, results,
 * heartbeats, failures) by AES-256-GCM, including its metadata. Temporal sees which step ran and
 * when, but not its content. The first key encrypts, and all keys decrypt. Unencrypted payloads can
 * still be read.
 */
import type { DataConverter, Payload, PayloadCodec } from '@temporalio/common';
import proto from '@temporalio/proto';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { ErrataFailure } from '../../schemas/failures.ts';

export interface PayloadKey {
  /** Stored in plain text with the data that the key encrypted. */
  name: string;
  /** 32 bytes. */
  key: Buffer;
}

/** The key of a payload is unknown, or its bytes were changed. */
export class PayloadUnreadable extends ErrataFailure {
  override readonly name = 'PayloadUnreadable';
}

/** Makes the converter of every client and worker. Without keys its errors name the missing key. */
export function payloadConverter(keys: readonly PayloadKey[]): DataConverter {
  return {
    payloadCodecs: [new PayloadEncryption(keys)],
    // Turns failures' messages and stack traces into payloads, so that they are encrypted too.
    ...(keys.length === 0 ? {} : { failureConverterPath: FAILURE_CONVERTER }),
  };
}

/** A module that Temporal loads by its path, also in the workflows' sandbox. */
export const FAILURE_CONVERTER = fileURLToPath(new URL('./failure-converter.cjs', import.meta.url));

const { Payload: ProtoPayload } = proto.temporal.api.common.v1;

const ENCODING = 'binary/encrypted';
const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ENCODING_FIELD = 'encoding';
const KEY_FIELD = 'encryption-key-name';
const NONCE_FIELD = 'encryption-nonce';

export class PayloadEncryption implements PayloadCodec {
  constructor(private readonly keys: readonly PayloadKey[]) {}

  async encode(payloads: Payload[]): Promise<Payload[]> {
    const first = this.keys[0];
    return first === undefined ? payloads : payloads.map((payload) => encrypted(payload, first));
  }

  /** Throws `PayloadUnreadable`. */
  async decode(payloads: Payload[]): Promise<Payload[]> {
    return payloads.map((payload) =>
      field(payload, ENCODING_FIELD)?.toString() === ENCODING ? this.#decrypted(payload) : payload,
    );
  }

  #decrypted(payload: Payload): Payload {
    const name = field(payload, KEY_FIELD)?.toString() ?? '';
    const key = this.keys.findLast((one) => one.name === name)?.key;
    if (key === undefined) {
      const known = this.keys.map((one) => one.name);
      throw new PayloadUnreadable(
        known.length === 0
          ? `a payload is encrypted with the key "${name}", and there are no keys here`
          : `a payload is encrypted with the key "${name}", which is none of ${known.join(', ')}`,
        { key: name, known },
        'ERRATA_TEMPORAL_PAYLOAD_KEYS of every process and command must name this key for as ' +
          'long as Temporal keeps payloads that it encrypted.',
      );
    }
    const nonce = field(payload, NONCE_FIELD) ?? Buffer.alloc(0);
    const data = Buffer.from(payload.data ?? []);
    try {
      if (nonce.length !== NONCE_BYTES || data.length < TAG_BYTES)
        throw new RangeError('cut short');
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(Buffer.from(name)).setAuthTag(data.subarray(-TAG_BYTES));
      const plain = decipher.update(data.subarray(0, -TAG_BYTES));
      return ProtoPayload.decode(Buffer.concat([plain, decipher.final()]));
    } catch (cause) {
      throw new PayloadUnreadable(
        `a payload encrypted with the key "${name}" is damaged, ` +
          'or other bytes were used under that name',
        { key: name, bytes: data.length },
        'A key keeps its name for good: give new bytes a new name in ERRATA_TEMPORAL_PAYLOAD_KEYS.',
        { cause },
      );
    }
  }
}

function encrypted(payload: Payload, { name, key }: PayloadKey): Payload {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(name));
  const plain = ProtoPayload.encode(payload).finish();
  const data = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return {
    metadata: {
      [ENCODING_FIELD]: Buffer.from(ENCODING),
      [KEY_FIELD]: Buffer.from(name),
      [NONCE_FIELD]: nonce,
    },
    data,
  };
}

function field(payload: Payload, name: string): Buffer | undefined {
  const value = payload.metadata?.[name];
  return value === undefined || value === null ? undefined : Buffer.from(value);
}
