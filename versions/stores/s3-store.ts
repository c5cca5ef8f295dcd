/**
 * Stores objects in an S3 bucket. PutObject writes whole objects; its condition "If-None-Match: *",
 * which the server decides, makes it put-if-absent.
 *
 * Some S3 servers ignore the condition and overwrite, so that two writers could both make the next
 * version. The server is therefore tested with an object of our own before the first put.
 */
import { randomUUID } from 'node:crypto';
import { StoreUnfit } from './failures.ts';
import {
  checkObjectBytes,
  checkObjectName,
  checkObjectPrefix,
  type ObjectStore,
} from './object-store.ts';
import {
  codeOf,
  PassingFault,
  S3_LIMITS,
  S3Connection,
  statusOf,
  type S3Attempt,
  type S3Place,
} from './s3-connection.ts';

/** Concurrent puts of one name that test a new place. */
const PROOF_PUTS = 8;

/** Never collides with an object: segments begin with a letter or a digit. */
const PROOF_NAME = '.errata/put-if-absent';

/** Metadata that identifies the put that wrote an object. */
const MARK = 'errata-put';

export class S3Store implements ObjectStore {
  readonly #connection: S3Connection;
  #proven: Promise<void> | null = null;

  /** Sends nothing before the first call. The bucket must exist. */
  constructor(private readonly place: S3Place) {
    this.#connection = new S3Connection(place);
  }

  /** Throws `StoreUnavailable`, `StoreRefused`, and RangeError where the object is too large. */
  async get(name: string): Promise<Uint8Array | null> {
    checkObjectName(name);
    return await this.#get(name);
  }

  /** Reads all pages before it yields, since not every S3 server sorts. Throws as `get`. */
  async *list(prefix: string): AsyncIterable<string> {
    checkObjectPrefix(prefix);
    const names: string[] = [];
    const start = this.#key('').length;
    for (let token: string | undefined; ;) {
      const page = await this.#page(prefix, {
        ...(token === undefined ? {} : { ContinuationToken: token }),
      });
      for (const { Key } of page.Contents ?? []) {
        const name = Key!.slice(start);
        // Some programs represent folders as objects whose names end in "/".
        if (!name.startsWith('.') && !name.endsWith('/')) names.push(name);
      }
      if (names.length > S3_LIMITS.namesMax)
        throw new RangeError(
          `${this.where} has more than ${S3_LIMITS.namesMax} objects ` +
            `whose names begin with "${prefix}"`,
        );
      if (page.IsTruncated !== true) break;
      if (page.NextContinuationToken === undefined || page.NextContinuationToken === token)
        throw new StoreUnfit(
          this.where,
          'a listing says that there is more, but not where it continues',
        );
      token = page.NextContinuationToken;
    }
    yield* names.sort((a, b) => (a < b ? -1 : 1));
  }

  /**
   * Writes the object unless the name is taken. Even if the answer to a first try is lost, exactly
   * one of many calls gets 'stored': a second try that finds an object checks whether it bears this
   * call's own mark. A call that throws may have written; a repeated call gets 'exists' and finds
   * its own bytes. Throws `StoreUnfit` where the server lacks put-if-absent, else as `get`.
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
    await this.#connection.attempt('delete', name, async ({ client, sdk, options }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#target(name)), options);
    });
  }

  /**
   * Tests the server's put-if-absent, once per store, with an object that stays in the place. If
   * the object is missing, many puts run at once and only one may win. If it exists, another put
   * must be refused. Throws `StoreUnfit`, else as `get`.
   */
  async provePutIfAbsent(): Promise<void> {
    this.#proven ??= this.#prove().catch((fault: unknown) => {
      this.#proven = null;
      throw fault;
    });
    await this.#proven;
  }

  /** Throws as `get` where the place cannot be reached or read. */
  async checkReadable(): Promise<void> {
    await this.#get(PROOF_NAME);
    await this.#page(PROOF_NAME, { MaxKeys: 1 });
  }

  /** The place, in the form of ERRATA_VERSIONS. */
  get where(): string {
    return this.#connection.where;
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
        `${stored} of ${PROOF_PUTS} concurrent puts of one new name were accepted`,
      );
    if ((await this.#put(PROOF_NAME, proof)) === 'stored')
      throw new StoreUnfit(
        this.where,
        'a put of an existing name was accepted, though its condition required a new name',
      );
  }

  async #page(prefix: string, more: { ContinuationToken?: string; MaxKeys?: number }) {
    const request = { Bucket: this.place.bucket, Prefix: this.#key(prefix), ...more };
    return await this.#connection.attempt('list', prefix, ({ client, sdk, options }) =>
      client.send(new sdk.ListObjectsV2Command(request), options),
    );
  }

  async #get(name: string): Promise<Uint8Array | null> {
    return await this.#connection.attempt('get', name, async ({ client, sdk, options }) => {
      try {
        const { Body, ContentLength } = await client.send(
          new sdk.GetObjectCommand(this.#target(name)),
          options,
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
          throw new PassingFault(`${bytes.byteLength} of ${ContentLength} bytes came`);
        checkObjectBytes(name, bytes.byteLength);
        return bytes;
      } catch (fault) {
        // Any other 404 may come from a server other than S3 and would make a log look empty.
        if (codeOf(fault) === 'NoSuchKey') return null;
        throw fault;
      }
    });
  }

  async #put(name: string, bytes: Uint8Array): Promise<'stored' | 'exists'> {
    const mark = randomUUID();
    let mayBeWritten = false;
    return await this.#connection.attempt('put', name, async (attempt) => {
      const { client, sdk, options } = attempt;
      try {
        const content = {
          Body: bytes,
          ContentLength: bytes.byteLength,
          Metadata: { [MARK]: mark },
        };
        await client.send(
          new sdk.PutObjectCommand({ ...this.#target(name), ...content, IfNoneMatch: '*' }),
          options,
        );
        return 'stored';
      } catch (fault) {
        const status = statusOf(fault);
        if (status !== 412) {
          mayBeWritten ||= status === null || status >= 500;
          throw fault;
        }
        return mayBeWritten && (await this.#markOf(name, attempt)) === mark ? 'stored' : 'exists';
      }
    });
  }

  async #markOf(name: string, { client, sdk, options }: S3Attempt): Promise<string | undefined> {
    try {
      const command = new sdk.HeadObjectCommand(this.#target(name));
      return (await client.send(command, options)).Metadata?.[MARK];
    } catch (fault) {
      throw statusOf(fault) === 404
        ? new PassingFault('it was deleted while it was examined')
        : fault;
    }
  }

  #target(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.place.bucket, Key: this.#key(name) };
  }

  #key(name: string): string {
    return this.place.prefix === '' ? name : `${this.place.prefix}/${name}`;
  }
}
