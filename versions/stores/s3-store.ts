/**
 * The object store in a bucket that speaks S3: whole objects by PutObject, and put-if-absent by its
 * condition "If-None-Match: *", which the server decides.
 *
 * Some servers that speak S3 leave the condition out and overwrite, by which two writers would both
 * make the next version. So before the first put the server is put to the proof, with an object of
 * our own, and refused where it fails.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type * as S3Library from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { StoreRefused, StoreUnavailable, StoreUnfit } from '../log/failures.ts';
import {
  checkObjectBytes,
  checkObjectName,
  checkObjectPrefix,
  type ObjectStore,
} from './object-store.ts';

export interface S3Place {
  bucket: string;
  /** Of all object names, without a "/" at either end; may be empty. */
  prefix: string;
  /** Null: Amazon's own of the region. */
  endpoint: string | null;
  /** Null: the SDK's own (AWS_REGION, a profile). */
  region: string | null;
  /** Whether the bucket is named in the path and not in the host name. */
  pathStyle: boolean;
  /** Null: the SDK's own (environment, profile, role of the machine). */
  credentials: { accessKeyId: string; secretAccessKey: string } | null;
  /** PEM; undefined: Node's own list. */
  ca?: string;
}

/**
 * Bounds on how long is waited, in milliseconds, and how often tried. A put with a condition that
 * others have too may be answered with "conflict" while they are at it, and is tried more often.
 */
export const S3_LIMITS = {
  connectMs: 5_000,
  idleMs: 20_000,
  attemptMs: 900_000,
  attemptsMax: 3,
  conflictsMax: 12,
  waitMs: 100,
  waitMaxMs: 2_000,
  socketsMax: 64,
  namesMax: 20_000_000,
} as const;

/** Concurrent puts of one name with which a new place is put to the proof. */
const PROOF_PUTS = 8;

/**
 * The object of the proof. No object of a caller is called so: segments begin with a letter or a
 * digit.
 */
const PROOF_NAME = '.errata/put-if-absent';

/** Says which put wrote an object; kept with it as its metadata. */
const MARK = 'errata-put';

export class S3Store implements ObjectStore {
  readonly #place: S3Place;
  #client: Promise<Connected> | null = null;
  #proven: Promise<void> | null = null;

  /** Nothing is asked of the server before the first call. The bucket must be there. */
  constructor(place: S3Place) {
    this.#place = place;
  }

  /**
   * Throws `StoreUnavailable`, `StoreRefused`, and RangeError where the object is larger than any
   * of ours.
   */
  async get(name: string): Promise<Uint8Array | null> {
    checkObjectName(name);
    return await this.#get(name);
  }

  /**
   * Pages are read before the first name is given: not every server that speaks S3 keeps the order.
   * Throws as `get`.
   */
  async *list(prefix: string): AsyncIterable<string> {
    checkObjectPrefix(prefix);
    const names: string[] = [];
    const start = this.#key('').length;
    for (let token: string | undefined; ;) {
      const page = await this.#tried(
        'list',
        prefix,
        async ({ client, sdk, signal }) =>
          await client.send(
            new sdk.ListObjectsV2Command({
              Bucket: this.#place.bucket,
              Prefix: this.#key(prefix),
              ...(token === undefined ? {} : { ContinuationToken: token }),
            }),
            { abortSignal: signal },
          ),
      );
      for (const { Key } of page.Contents ?? []) {
        const name = Key!.slice(start);
        // Names that end in "/" are the folders that some programs draw.
        if (!name.startsWith('.') && !name.endsWith('/')) names.push(name);
      }
      if (names.length > S3_LIMITS.namesMax)
        throw new RangeError(
          `${this.where} has more than ${S3_LIMITS.namesMax} objects whose names begin with "${prefix}"`,
        );
      if (page.IsTruncated !== true) break;
      if (page.NextContinuationToken === undefined || page.NextContinuationToken === token)
        throw new StoreUnfit(
          this.where,
          'a listing says that there is more, and not where it goes on',
        );
      token = page.NextContinuationToken;
    }
    yield* names.sort((a, b) => (a < b ? -1 : 1));
  }

  /**
   * Exactly one of many gets 'stored', also where the answer to its first try was lost: a second
   * try that finds an object looks whether it bears this call's own mark. A call that throws may
   * have written; who repeats it gets 'exists' and finds its own bytes there. Throws `StoreUnfit`
   * where the server has no put-if-absent, else as `get`.
   */
  async putIfAbsent(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    checkObjectName(name);
    checkObjectBytes(name, bytes.byteLength);
    await this.provePutIfAbsent();
    return await this.#put(name, bytes);
  }

  /** Throws as `get`. */
  async delete(name: string): Promise<void> {
    checkObjectName(name);
    await this.#tried('delete', name, async ({ client, sdk, signal }) => {
      await client.send(
        new sdk.DeleteObjectCommand({ Bucket: this.#place.bucket, Key: this.#key(name) }),
        { abortSignal: signal },
      );
    });
  }

  /**
   * That the server decides put-if-absent, proven once per store with an object that stays in the
   * place: where it is not there yet many put it at once, of whom one may win; where it is, one
   * more put must be refused. Throws `StoreUnfit`, else as `putIfAbsent`.
   */
  async provePutIfAbsent(): Promise<void> {
    this.#proven ??= this.#prove().catch((fault: unknown) => {
      this.#proven = null;
      throw fault;
    });
    await this.#proven;
  }

  /** Whether the place answers and lets us read. Throws as `get`. */
  async checkReadable(): Promise<void> {
    await this.#get(PROOF_NAME);
    await this.#tried('list', PROOF_NAME, async ({ client, sdk, signal }) => {
      await client.send(
        new sdk.ListObjectsV2Command({
          Bucket: this.#place.bucket,
          Prefix: this.#key(PROOF_NAME),
          MaxKeys: 1,
        }),
        { abortSignal: signal },
      );
    });
  }

  /** As in ERRATA_VERSIONS. */
  get where(): string {
    const { bucket, prefix } = this.#place;
    return `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
  }

  async #prove(): Promise<void> {
    const proof = new TextEncoder().encode(
      'Errata proves with this object that a second put of one name is refused. Leave it.\n',
    );
    const absent = (await this.#get(PROOF_NAME)) === null;
    const results = await Promise.all(
      Array.from({ length: absent ? PROOF_PUTS : 0 }, () => this.#put(PROOF_NAME, proof)),
    );
    const stored = results.filter((result) => result === 'stored').length;
    if (stored > 1)
      throw new StoreUnfit(
        this.where,
        `${stored} of ${PROOF_PUTS} concurrent puts of one new name were all accepted`,
      );
    if ((await this.#put(PROOF_NAME, proof)) === 'stored')
      throw new StoreUnfit(
        this.where,
        'a put of a name that exists was accepted, though its condition was that there is none',
      );
  }

  async #get(name: string): Promise<Uint8Array | null> {
    return await this.#tried('get', name, async ({ client, sdk, signal }) => {
      try {
        const { Body, ContentLength } = await client.send(
          new sdk.GetObjectCommand({ Bucket: this.#place.bucket, Key: this.#key(name) }),
          { abortSignal: signal },
        );
        const stream = Body as unknown as {
          destroy(): void;
          transformToByteArray(): Promise<Uint8Array>;
        };
        try {
          checkObjectBytes(name, ContentLength ?? 0);
        } catch (fault) {
          stream.destroy();
          throw fault;
        }
        const bytes = await stream.transformToByteArray();
        if (ContentLength !== undefined && bytes.byteLength !== ContentLength)
          throw new Passing(`${bytes.byteLength} of ${ContentLength} bytes came`);
        checkObjectBytes(name, bytes.byteLength);
        return bytes;
      } catch (fault) {
        // No other 404: that of something that is no S3 server would make a log look empty.
        if (codeOf(fault) === 'NoSuchKey') return null;
        throw fault;
      }
    });
  }

  async #put(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    const mark = randomUUID();
    let perhapsWritten = false;
    return await this.#tried('put', name, async ({ client, sdk, signal }) => {
      try {
        await client.send(
          new sdk.PutObjectCommand({
            Bucket: this.#place.bucket,
            Key: this.#key(name),
            Body: bytes,
            ContentLength: bytes.byteLength,
            IfNoneMatch: '*',
            Metadata: { [MARK]: mark },
          }),
          { abortSignal: signal },
        );
        return 'stored';
      } catch (fault) {
        const status = statusOf(fault);
        if (status !== 412) {
          perhapsWritten ||= status === null || status >= 500;
          throw fault;
        }
        if (!perhapsWritten) return 'exists';
        return (await this.#markOf(name, { client, sdk, signal })) === mark ? 'stored' : 'exists';
      }
    });
  }

  async #markOf(
    name: string,
    { client, sdk, signal }: Connected & { signal: AbortSignal },
  ): Promise<string | undefined> {
    try {
      const { Metadata } = await client.send(
        new sdk.HeadObjectCommand({ Bucket: this.#place.bucket, Key: this.#key(name) }),
        { abortSignal: signal },
      );
      return Metadata?.[MARK];
    } catch (fault) {
      throw statusOf(fault) === 404 ? new Passing('it was deleted while it was looked at') : fault;
    }
  }

  /** Tries again, after a wait that doubles, what is worth it; each try is bounded in time. */
  async #tried<Result>(
    operation: Operation,
    name: string,
    work: (connected: Connected & { signal: AbortSignal }) => Promise<Result>,
  ): Promise<Result> {
    let conflicts = 0;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work({
          ...(await this.#connected()),
          signal: AbortSignal.timeout(S3_LIMITS.attemptMs),
        });
      } catch (fault) {
        if (fault instanceof RangeError) throw fault;
        // What is thrown says what happened and not the SDK's error, which holds all of the
        // exchange, signature included.
        const kind = kindOf(fault);
        if (kind === 'conflict') conflicts += 1;
        const asked = { where: this.where, endpoint: this.#place.endpoint, operation, name };
        if (kind === 'refused')
          throw new StoreRefused(asked, codeOf(fault), statusOf(fault), reasonOf(fault));
        if (attempt - conflicts >= S3_LIMITS.attemptsMax || conflicts >= S3_LIMITS.conflictsMax) {
          // What the clock is off by is known after the first try, so one that goes on is not set
          // right by itself.
          if (codeOf(fault) === SKEWED)
            throw new StoreRefused(asked, SKEWED, statusOf(fault), reasonOf(fault));
          throw new StoreUnavailable(asked, reasonOf(fault), attempt);
        }
        // Whole waits would let all who met meet again.
        await delay(Math.random() * Math.min(S3_LIMITS.waitMaxMs, S3_LIMITS.waitMs * 2 ** attempt));
      }
    }
  }

  #connected(): Promise<Connected> {
    this.#client ??= connect(this.#place).catch((fault: unknown) => {
      this.#client = null;
      throw fault;
    });
    return this.#client;
  }

  #key(name: string): string {
    return this.#place.prefix === '' ? name : `${this.#place.prefix}/${name}`;
  }
}

type Operation = 'get' | 'list' | 'put' | 'delete';
type Connected = { client: S3Client; sdk: typeof S3Library };

/** What a second try may find otherwise. */
class Passing extends Error {}

const SKEWED = 'RequestTimeTooSkewed';

/** The SDK is loaded where versions are in a bucket, and nowhere else. */
async function connect({
  endpoint,
  region,
  pathStyle,
  credentials,
  ca,
}: S3Place): Promise<Connected> {
  // The SDK is pinned, and what its later releases will need is no news for whoever runs a command.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const sdk = await import('@aws-sdk/client-s3');
  const { connectMs, idleMs, socketsMax } = S3_LIMITS;
  const options: S3ClientConfig = {
    ...(endpoint === null ? {} : { endpoint }),
    ...(region === null ? (endpoint === null ? {} : { region: ANY_REGION }) : { region }),
    ...(credentials === null ? {} : { credentials }),
    forcePathStyle: pathStyle,
    // Only here a second try of a put is known to be one.
    maxAttempts: 1,
    // The agents below would not be asked for what is sent with it.
    expectContinueHeader: false,
    // The content is signed with the request, and is checked against its hash when it is read. Not
    // every server knows more sums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: idleMs,
      httpAgent: { keepAlive: true, maxSockets: socketsMax },
      httpsAgent: { keepAlive: true, maxSockets: socketsMax, ...(ca === undefined ? {} : { ca }) },
    },
  };
  return { client: new sdk.S3Client(options), sdk };
}

/** What servers other than Amazon's take where they have no regions. */
const ANY_REGION = 'us-east-1';

/** Whether the same request may do better soon. */
function kindOf(fault: unknown): 'passing' | 'conflict' | 'refused' {
  const status = statusOf(fault);
  const code = codeOf(fault);
  if (status === null) return NOT_ASKED.test(`${code} ${reasonOf(fault)}`) ? 'refused' : 'passing';
  if (status === 409) return 'conflict';
  if (code === SKEWED || status === 408 || status === 429 || (status >= 500 && status !== 501))
    return 'passing';
  return status < 300 ? 'passing' : 'refused';
}

/** Of the SDK itself, when it has no request to send. */
const NOT_ASKED = /CredentialsProviderError|Region is missing|Could not load credentials/;

function statusOf(fault: unknown): number | null {
  const { $metadata, $response } = fault as {
    $metadata?: { httpStatusCode?: number };
    $response?: { statusCode?: number };
  };
  return $metadata?.httpStatusCode ?? $response?.statusCode ?? null;
}

function codeOf(fault: unknown): string {
  return fault instanceof Error ? fault.name : '';
}

function reasonOf(fault: unknown): string {
  if (!(fault instanceof Error)) return String(fault);
  const { code } = fault as { code?: unknown };
  // An answer without a body has no message, and several addresses that refuse are told by their
  // code.
  return [
    ...new Set([
      fault.name === 'Error' ? '' : fault.name,
      fault.message,
      typeof code === 'string' && !fault.message.includes(code) ? code : '',
    ]),
  ]
    .filter((part) => part !== '')
    .join(': ');
}
