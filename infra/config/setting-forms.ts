/** Setting forms: each parses a value from text, checks it and prepares it for use. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { isHubId } from '../../model/checkpoint/hub-id.ts';
import type { PayloadKey } from '../../pipelines/temporal/payload-codec.ts';
import {
  hyperParameterOverrides,
  readParameterSet,
  type ParameterSet,
  type HyperParameterOverrides,
} from '../../schemas/hyper-parameters.ts';
import { readSmallFile, Secret } from './secret.ts';

/** The form of a setting with values of type T. */
export interface Form<T> {
  /** A description for fault messages and the reference. */
  expected: string;
  /** Parses an environment variable; returns unparsable text as it is, for the schema to refuse. */
  fromText(text: string): unknown;
  schema: z.ZodType;
  /** Turns a checked value into the setting's; paths are relative to `folder`. May throw. */
  finish(value: unknown, folder: string): T;
  /** The value must not be shown, and must not be in the configuration file. */
  secret?: true;
  /** The value has fields, whose faults are reported by name. */
  compound?: true;
}

function form<T>(
  expected: string,
  schema: z.ZodType,
  parts: Partial<Omit<Form<T>, 'expected' | 'schema'>> = {},
): Form<T> {
  return { expected, schema, fromText: (text) => text, finish: (value) => value as T, ...parts };
}

/** Text without NUL, which paths and other programs reject. */
const plainText = z
  .string()
  .min(1)
  .refine((value) => !value.includes('\0'));

export const text = form<string>('text', plainText);

const hidden = { secret: true, finish: (value: unknown) => new Secret(value as string) } as const;
export const secret = form<Secret>(
  'a secret (or its file, with _FILE after the name)',
  plainText,
  hidden,
);
export const payloadKeys = form<Secret>(
  'name:key, the key 32 bytes in base64; several are separated by commas, the first encrypts ' +
    '(or their file, with _FILE after the name)',
  z.string().refine((value) => payloadKeysIn(value) !== null),
  hidden,
);

const inFolder = { finish: (value: unknown, folder: string) => resolve(folder, value as string) };
export const filePath = form<string>('the path of a file', plainText, inFolder);
export const folderPath = form<string>('the path of a folder', plainText, inFolder);
export const parameterSetFile = form<ParameterSet>(
  'the path of a file that `errata tune` wrote',
  plainText,
  {
    finish(value, folder) {
      const path = resolve(folder, value as string);
      return readParameterSet(path, readSmallFile(path));
    },
  },
);
export const versionsPlace = form<string>(
  'the path of a folder, or s3://bucket or s3://bucket/prefix ' +
    '(letters, digits, ".", "-" and "_", the bucket in lower case)',
  plainText.refine((value) => !/^[a-z0-9+.-]+:\/\//i.test(value) || bucketIn(value) !== null),
  {
    finish: (value, folder) =>
      bucketIn(value as string) === null ? resolve(folder, value as string) : (value as string),
  },
);
/** `owner/name` is a Hugging Face id unless such a folder exists; anything else is a path. */
export const modelName = form<string>('the path of a model, or a Hugging Face id', plainText, {
  finish(value, folder) {
    const path = resolve(folder, value as string);
    return isHubId(value as string) && !existsSync(path) ? (value as string) : path;
  },
});

const FLAGS: Record<string, boolean> = {
  ...{ true: true, '1': true, yes: true },
  ...{ false: false, '0': false, no: false },
};
export const flag = form<boolean>('true or false', z.boolean(), {
  fromText: (value) => FLAGS[value.toLowerCase()] ?? value,
});

const asNumber = {
  fromText: (value: string) =>
    /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? Number(value) : value,
};
export const integer = (min: number, max: number): Form<number> =>
  form(`a whole number from ${min} to ${max}`, z.number().int().min(min).max(max), asNumber);
export const decimal = (min: number, max: number): Form<number> =>
  form(`a number from ${min} to ${max}`, z.number().min(min).max(max), asNumber);
export const share = decimal(0, 1);
const PORT_MAX = 65_535;
export const port: Form<number> = {
  ...integer(0, PORT_MAX),
  expected: `a port, 0 to ${PORT_MAX} (0: any free one)`,
};

export const choice = <const T extends string>(...values: [T, T, ...T[]]): Form<T> =>
  form(`${values.slice(0, -1).join(', ')} or ${values.at(-1)}`, z.enum(values));

const list = (expected: string, item: z.ZodType): Form<string[]> =>
  form(expected, z.array(item).min(1), {
    fromText: (value) =>
      value
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
  });
const hostAndPort = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^\s:,/]+):[1-9]\d{0,4}$/)
  .refine((value) => Number(value.slice(value.lastIndexOf(':') + 1)) <= PORT_MAX);
export const names = list('names, separated by commas', z.string());
export const addresses = list('addresses host:port, separated by commas', hostAndPort);
export const address = form<string>('an address host:port', hostAndPort);

const httpUrl = z.url({ protocol: /^https?$/ });
export const url = form<string>('an http or https address', httpUrl);
/** A user in the URL is refused, because every message that names the URL would show it. */
export const urlWithoutUser = form<string>(
  'an http or https address without a user in it',
  httpUrl.refine((value) => !URL.canParse(value) || new URL(value).username === ''),
);
/** Secret, because many receivers accept a post from anybody who knows the address. */
export const secretUrl = form<Secret>(
  'an http or https address (or its file, with _FILE after the name)',
  httpUrl,
  hidden,
);

export const hyperParameters = form<HyperParameterOverrides>(
  'a JSON object with hyper-parameters',
  hyperParameterOverrides,
  {
    compound: true,
    fromText(value) {
      try {
        return JSON.parse(value) as unknown;
      } catch {
        return value;
      }
    },
  },
);

const BUCKET = /^s3:\/\/([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])((?:\/[A-Za-z0-9][A-Za-z0-9._-]*)*)\/?$/;
const BUCKET_PREFIX_CHARACTERS_MAX = 256;

/** Parses `s3://bucket/prefix`; returns null for any other text. */
export function bucketIn(place: string): { bucket: string; prefix: string } | null {
  const [, bucket, path] = BUCKET.exec(place) ?? [];
  return bucket === undefined || path === undefined || path.length > BUCKET_PREFIX_CHARACTERS_MAX
    ? null
    : { bucket, prefix: path.slice(1) };
}

/** A name, then 32 bytes in base64: 43 characters and one of padding. */
const PAYLOAD_KEY = /^([A-Za-z0-9._-]{1,64}):([A-Za-z0-9+/]{43}=)$/;

/** Parses `name:base64,name:base64`; null unless all keys are well formed with distinct names. */
export function payloadKeysIn(list: string): PayloadKey[] | null {
  const keys: PayloadKey[] = [];
  for (const item of list.split(',')) {
    const [, name, base64] = PAYLOAD_KEY.exec(item.trim()) ?? [];
    if (name === undefined || keys.some((key) => key.name === name)) return null;
    keys.push({ name, key: Buffer.from(base64!, 'base64') });
  }
  return keys;
}
