import { defaultPayloadConverter, type Payload } from '@temporalio/common';
import { loadDataConverter } from '@temporalio/common/lib/internal-non-workflow/index.js';
import {
  decodeOptionalFailureToOptionalError,
  encodeErrorToFailure,
} from '@temporalio/common/lib/internal-non-workflow/codec-helpers.js';
import { temporal } from '@temporalio/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { payloadKeysIn } from '../../../infra/config/setting-forms.ts';
import {
  PayloadEncryption,
  PayloadUnreadable,
  payloadConverter,
  type PayloadKey,
} from '../../../pipelines/temporal/payload-codec.ts';
import { CARRIED_BYTES_MAX } from '../../../pipelines/workflows/contract.ts';

const keyNamed = (name: string, byte: number): PayloadKey => ({
  name,
  key: Buffer.alloc(32, byte),
});
const OLD = keyNamed('2025', 1);
const NEW = keyNamed('2026', 2);
const bytes = (payload: Payload): Buffer =>
  Buffer.from(temporal.api.common.v1.Payload.encode(payload).finish());

const payloads: fc.Arbitrary<Payload> = fc.record({
  metadata: fc.dictionary(fc.string({ minLength: 1 }), fc.uint8Array({ maxLength: 40 }), {
    maxKeys: 3,
    noNullPrototype: true,
  }),
  data: fc.uint8Array({ maxLength: 200 }),
});

it('encrypted payloads can be read with any key of the list', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(payloads, { maxLength: 3 }), async (plain) => {
      const old = await new PayloadEncryption([OLD]).encode(plain);
      const rotated = new PayloadEncryption([NEW, OLD]);
      expect((await rotated.decode(old)).map(bytes)).toEqual(plain.map(bytes));
      const fresh = await rotated.encode(plain);
      expect((await new PayloadEncryption([OLD, NEW]).decode(fresh)).map(bytes)).toEqual(
        plain.map(bytes),
      );
      if (plain.length > 0)
        await expect(new PayloadEncryption([OLD]).decode(fresh)).rejects.toThrow(PayloadUnreadable);
    }),
  );
});

it('encrypted payloads reveal neither content nor converter', async () => {
  const plain = defaultPayloadConverter.toPayload({ subject: 'a secret lake' });
  const [one, other] = await new PayloadEncryption([NEW]).encode([plain, plain]);
  expect(bytes(plain).toString('latin1')).toMatch(/json\/plain.*secret lake/s);
  expect(bytes(one!).toString('latin1')).not.toMatch(/secret lake|json/);
  expect(Buffer.from(one!.metadata!['encoding']!).toString()).toBe('binary/encrypted');
  expect(Buffer.from(one!.metadata!['encryption-key-name']!).toString()).toBe('2026');
  expect(bytes(one!)).not.toEqual(bytes(other!));
});

it('encrypted payloads are refused if any single bit was changed', async () => {
  const codec = new PayloadEncryption([NEW, OLD]);
  const [whole] = await codec.encode([defaultPayloadConverter.toPayload('Lake Baikal')]);
  const places = ['data', 'encryption-nonce', 'encryption-key-name'] as const;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...places),
      fc.nat(10_000),
      fc.nat(7),
      async (place, at, bit) => {
        const changed = { metadata: { ...whole!.metadata }, data: whole!.data! };
        const flipped = Buffer.from(place === 'data' ? changed.data : changed.metadata[place]!);
        flipped[at % flipped.length]! ^= 1 << bit;
        if (place === 'data') changed.data = flipped;
        else changed.metadata[place] = flipped;
        await expect(codec.decode([changed])).rejects.toThrow(PayloadUnreadable);
      },
    ),
  );
  await expect(codec.decode([{ ...whole!, data: whole!.data!.subarray(0, 10) }])).rejects.toThrow(
    /damaged/,
  );
  await expect(
    codec.decode([{ ...whole!, metadata: { encoding: whole!.metadata!['encoding']! } }]),
  ).rejects.toThrow(/key ""/);
});

it('encrypted payloads do not pass as those of another key with the same bytes', async () => {
  const [payload] = await new PayloadEncryption([keyNamed('a', 7)]).encode([
    defaultPayloadConverter.toPayload(1),
  ]);
  const renamed = {
    ...payload!,
    metadata: { ...payload!.metadata, 'encryption-key-name': Buffer.from('b') },
  };
  await expect(new PayloadEncryption([keyNamed('b', 7)]).decode([renamed])).rejects.toThrow(
    /damaged/,
  );
});

it('plain payloads are read unchanged', async () => {
  const plain = defaultPayloadConverter.toPayload({ subject: 'a lake' });
  expect(await new PayloadEncryption([NEW]).decode([plain])).toEqual([plain]);
  expect(await new PayloadEncryption([]).encode([plain])).toEqual([plain]);
});

it('encrypted payloads tell a reader which key is missing, without revealing any', async () => {
  const payloadsOfNew = await new PayloadEncryption([NEW]).encode([
    defaultPayloadConverter.toPayload(1),
  ]);
  await expect(new PayloadEncryption([]).decode(payloadsOfNew)).rejects.toThrow(
    'a payload is encrypted with the key "2026", and there are no keys here',
  );
  const fault: unknown = await new PayloadEncryption([OLD])
    .decode(payloadsOfNew)
    .catch((error: unknown) => error);
  expect(fault).toMatchObject({
    message: 'a payload is encrypted with the key "2026", which is none of 2025',
    hint: expect.stringContaining('ERRATA_TEMPORAL_PAYLOAD_KEYS') as string,
  });
  const otherBytes: unknown = await new PayloadEncryption([keyNamed('2026', 9)])
    .decode(payloadsOfNew)
    .catch((error: unknown) => error);
  expect(otherBytes).toMatchObject({
    message: expect.stringContaining('other bytes were used under that name') as string,
  });
  expect(JSON.stringify([fault, otherBytes])).not.toContain(
    OLD.key.toString('base64').slice(0, 20),
  );
});

it('a payload stays within the limit, however much a lineage carries over', async () => {
  const [payload] = await new PayloadEncryption([keyNamed('n'.repeat(64), 3)]).encode([
    {
      metadata: { encoding: Buffer.from('json/plain') },
      data: Buffer.alloc(CARRIED_BYTES_MAX, 'x'),
    },
  ]);
  expect(bytes(payload!).length - CARRIED_BYTES_MAX).toBeLessThan(300);
  expect(bytes(payload!).length).toBeLessThan(2_000_000);
});

describe('failures', () => {
  const failed = async (keys: PayloadKey[]) => {
    const converter = loadDataConverter(payloadConverter(keys));
    const failure = await encodeErrorToFailure(
      converter,
      new Error('no answer about the secret lake', { cause: new Error('the secret river') }),
    );
    return {
      converter,
      failure,
      text: Buffer.from(temporal.api.failure.v1.Failure.encode(failure).finish()).toString(
        'latin1',
      ),
    };
  };

  it('have their messages and stack traces encrypted and read again', async () => {
    const { converter, failure, text } = await failed([NEW]);
    expect(text).not.toMatch(/secret|payload-codec\.test/);
    const error = await decodeOptionalFailureToOptionalError(converter, failure);
    expect(error).toMatchObject({
      message: 'no answer about the secret lake',
      cause: { message: 'the secret river' },
    });
    expect(error!.stack).toContain('payload-codec.test');
  });

  it('stay legible without a key', async () => {
    expect((await failed([])).text).toContain('the secret lake');
  });
});

describe('the setting with the keys', () => {
  const base64 = (byte: number): string => Buffer.alloc(32, byte).toString('base64');

  it('is a list of names and 32 bytes each', () => {
    expect(payloadKeysIn(`2026:${base64(2)}, 2025:${base64(1)}`)).toEqual([NEW, OLD]);
    expect(payloadKeysIn(`a-key.1:${base64(3)}`)).toEqual([keyNamed('a-key.1', 3)]);
  });

  it('is refused for malformed keys, missing or repeated names, and leftovers', () => {
    const twice = `a:${base64(1)},a:${base64(2)}`;
    for (const text of [
      '',
      'a',
      base64(1),
      `:${base64(1)}`,
      `a:${base64(1).slice(4)}`,
      `a:AAAA${base64(1)}`,
      `a:${'*'.repeat(43)}=`,
      twice,
      `a:${base64(1)},`,
      `a b:${base64(1)}`,
    ])
      expect(payloadKeysIn(text)).toBeNull();
  });
});
