/**
 * A certificate authority for one test and its certificates: X.509 version 3 (RFC 5280), ECDSA on
 * P-256, written in DER. Node cannot sign certificates, and a library would bring twenty packages
 * for a hundred lines of tests.
 */
import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';

/** PEM texts. */
export interface Certified {
  certificate: string;
  key: string;
}

export class Authority {
  readonly certificate: string;
  readonly #name: string;
  readonly #key: KeyObject;

  constructor(name: string) {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#name = name;
    this.#key = privateKey;
    this.certificate = pem(
      'CERTIFICATE',
      this.#signed(name, publicKey, [
        extension(BASIC_CONSTRAINTS, true, sequence(TRUE)),
        extension(KEY_USAGE, true, CERTIFICATE_SIGNING),
      ]),
    );
  }

  /** Certifies a server at `localhost` and 127.0.0.1, or a client, by this name. */
  certify(name: string): Certified {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const names = sequence(
      element(0x82, Buffer.from('localhost')),
      element(0x87, Buffer.from([127, 0, 0, 1])),
    );
    const purposes = sequence(objectId(SERVER_PURPOSE), objectId(CLIENT_PURPOSE));
    const certificate = this.#signed(name, publicKey, [
      extension(ALTERNATIVE_NAMES, false, names),
      extension(PURPOSES, false, purposes),
    ]);
    return {
      certificate: pem('CERTIFICATE', certificate),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  }

  #signed(subject: string, publicKey: KeyObject, extensions: Buffer[]): Buffer {
    const algorithm = sequence(objectId(ECDSA_WITH_SHA256));
    const content = sequence(
      element(0xa0, element(0x02, Buffer.from([2]))),
      element(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
      algorithm,
      nameOf(this.#name),
      sequence(time(Date.now() - DAY_MS), time(Date.now() + DAY_MS)),
      nameOf(subject),
      publicKey.export({ type: 'spki', format: 'der' }),
      element(0xa3, sequence(...extensions)),
    );
    return sequence(content, algorithm, bits(sign('sha256', content, this.#key)));
  }
}

/** Files in `folder` for settings that name files: `<name>.crt`, `<name>.key`. */
export function written(
  folder: string,
  name: string,
  { certificate, key }: Certified,
): { certificate: string; key: string } {
  const files = {
    certificate: path.join(folder, `${name}.crt`),
    key: path.join(folder, `${name}.key`),
  };
  writeFileSync(files.certificate, certificate);
  writeFileSync(files.key, key);
  return files;
}

const DAY_MS = 86_400_000;
const ECDSA_WITH_SHA256 = [1, 2, 840, 10_045, 4, 3, 2];
const COMMON_NAME = [2, 5, 4, 3];
const KEY_USAGE = [2, 5, 29, 15];
const ALTERNATIVE_NAMES = [2, 5, 29, 17];
const BASIC_CONSTRAINTS = [2, 5, 29, 19];
const PURPOSES = [2, 5, 29, 37];
const SERVER_PURPOSE = [1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_PURPOSE = [1, 3, 6, 1, 5, 5, 7, 3, 2];
const TRUE = Buffer.from([0x01, 0x01, 0xff]);
/** A string of six bits; only the last is set. */
const CERTIFICATE_SIGNING = Buffer.from([0x03, 0x02, 0x02, 0x04]);

function element(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

function sequence(...items: Buffer[]): Buffer {
  return element(0x30, Buffer.concat(items));
}

function bits(content: Buffer): Buffer {
  return element(0x03, Buffer.concat([Buffer.from([0]), content]));
}

function objectId([first, second, ...rest]: number[]): Buffer {
  const base128 = (value: number): number[] =>
    value < 0x80 ? [value] : [...base128(value >> 7).map((byte) => byte | 0x80), value & 0x7f];
  return element(0x06, Buffer.from([40 * first! + second!, ...rest.flatMap(base128)]));
}

function nameOf(commonName: string): Buffer {
  return sequence(
    element(0x31, sequence(objectId(COMMON_NAME), element(0x0c, Buffer.from(commonName)))),
  );
}

function time(ms: number): Buffer {
  return element(
    0x17,
    Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`),
  );
}

function extension(id: number[], critical: boolean, content: Buffer): Buffer {
  return sequence(objectId(id), ...(critical ? [TRUE] : []), element(0x04, content));
}

function pem(label: string, content: Buffer): string {
  const lines = content.toString('base64').replace(/.{1,64}/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`;
}
