/**
 * A client of a schema registry that speaks Confluent's protocol. Only the registry decides which
 * schemas are compatible; a schema that it refuses is not used.
 *
 * Source: Confluent Schema Registry, "Schema Registry API Reference" (also Karapace, and Apicurio
 * under /apis/ccompat/v7).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import pRetry from 'p-retry';
import { Agent, errors, request } from 'undici';
import { boundedJson, UnsoundJson, type JsonLimits } from '../../schemas/encoding/bounded-json.ts';
import {
  messageOf,
  SchemaRefused,
  SchemaRegistryUnavailable,
  UndecodableRecord,
} from '../../schemas/failures.ts';
import type { AvroSchema } from '../../schemas/records/released-schemas.ts';
import { SCHEMA_ID_MAX } from '../../schemas/records/confluent-framing.ts';

interface SchemaRegistrySettings {
  /** http or https, without the user; a path before the API's own is kept. */
  url: string;
  credentials: { username: string; password: string } | null;
  /** PEM text; without it Node's own list of authorities. */
  ca?: string;
}

/** Longest schema text that is accepted, since compiling a schema takes time. */
export const SCHEMA_CHARACTERS_MAX = 65_536;
const SCHEMA_LIMITS: JsonLimits = { valuesMax: 5_000, depthMax: 100 };

const MEDIA_TYPE = 'application/vnd.schemaregistry.v1+json';
const ANSWER_WAIT_MS = 5_000;
/** Longest answer. A schema is JSON inside JSON, which doubles its quotation marks. */
const ANSWER_BYTES_MAX = 4 * SCHEMA_CHARACTERS_MAX;
const ATTEMPTS_MAX = 3;
const RETRY_WAIT_MS = 200;
const CONNECTIONS_MAX = 4;
const KNOWN_SCHEMAS_MAX = 1_000;
const KNOWN_CHARACTERS_MAX = 128 * SCHEMA_CHARACTERS_MAX;
/**
 * Time for which an id is known to be unusable. Bounds the requests for one unknown id, and finds a
 * schema that is registered late.
 */
const UNUSABLE_KNOWN_MS = 30_000;
const REASON_CHARACTERS_MAX = 500;

/** The registry's own error codes. */
const SUBJECT_MISSING = 40401;
const SCHEMA_MISSING = 40403;

type Schema = AvroSchema | UndecodableRecord;

export class SchemaRegistry {
  readonly #agent: Agent;
  readonly #known = new LRUCache<number, Schema>({
    maxSize: KNOWN_CHARACTERS_MAX,
    max: KNOWN_SCHEMAS_MAX,
  });
  readonly #requested = new Map<number, Promise<Schema>>();

  constructor(private readonly settings: SchemaRegistrySettings) {
    this.#agent = new Agent({
      connections: CONNECTIONS_MAX,
      maxResponseSize: ANSWER_BYTES_MAX,
      ...(settings.ca === undefined ? {} : { connect: { ca: settings.ca } }),
    });
  }

  /**
   * Returns the schema's id under the subject, and registers it if it is missing. A subject that
   * this creates is made BACKWARD compatible if the registry has no default; an existing level is
   * kept. Throws `SchemaRefused` with the registry's reason, `SchemaRegistryUnavailable`.
   */
  async register(subject: string, schema: AvroSchema): Promise<number> {
    const path = `/subjects/${encodeURIComponent(subject)}`;
    const body = { schema: JSON.stringify(schema) };
    const found = await this.#send('POST', path, body);
    if (found.status === 200) return this.#idIn(found);
    const code = codeOf(found);
    if (found.status !== 404 || (code !== SUBJECT_MISSING && code !== SCHEMA_MISSING))
      throw refused(subject, found);
    if (code === SUBJECT_MISSING) await this.#defaultToBackward(subject);
    const registered = await this.#send('POST', `${path}/versions`, body);
    if (registered.status !== 200) throw refused(subject, registered);
    return this.#idIn(registered);
  }

  /**
   * Returns the schema of this id, or the reason it is unusable. Throws
   * `SchemaRegistryUnavailable`.
   */
  async schemaOf(id: number): Promise<Schema> {
    const known = this.#known.get(id) ?? this.#requested.get(id);
    if (known !== undefined) return await known;
    const requested = this.#fetchSchema(id).finally(() => this.#requested.delete(id));
    this.#requested.set(id, requested);
    return await requested;
  }

  async #fetchSchema(id: number): Promise<Schema> {
    let answer = await this.#send('GET', `/schemas/ids/${id}`);
    // Nodes of a registry may not all know a schema that was registered a moment ago.
    for (let again = 0; codeOf(answer) === SCHEMA_MISSING && again < ATTEMPTS_MAX - 1; again++) {
      await delay(RETRY_WAIT_MS * 2 ** again);
      answer = await this.#send('GET', `/schemas/ids/${id}`);
    }
    const isMissing = codeOf(answer) === SCHEMA_MISSING;
    if (answer.status !== 200 && !isMissing)
      throw this.#unavailable(inWords(answer), answer.status);
    const schema = isMissing ? unusable(id, 'is not known to the registry') : schemaIn(id, answer);
    const size = Math.max(1, answer.text.length);
    const isUnusable = schema instanceof UndecodableRecord;
    this.#known.set(id, schema, isUnusable ? { size, ttl: UNUSABLE_KNOWN_MS } : { size });
    return schema;
  }

  async #defaultToBackward(subject: string): Promise<void> {
    const { json } = await this.#send('GET', '/config');
    if ((json as { compatibilityLevel?: unknown } | null)?.compatibilityLevel !== 'NONE') return;
    const path = `/config/${encodeURIComponent(subject)}`;
    const answer = await this.#send('PUT', path, { compatibility: 'BACKWARD' });
    if (answer.status !== 200) throw refused(subject, answer);
  }

  /** Sends a request, with retries where they may help. */
  async #send(method: 'GET' | 'POST' | 'PUT', path: string, body?: object): Promise<Answer> {
    const attempt = async (): Promise<Answer> => {
      const answer = await this.#sendOnce(method, path, body);
      if (answer.status >= 500 || answer.status === 408 || answer.status === 429)
        throw new Error(inWords(answer));
      return answer;
    };
    const options = { retries: ATTEMPTS_MAX - 1, minTimeout: RETRY_WAIT_MS, factor: 2 };
    return await pRetry(attempt, options).catch((cause: unknown) => {
      const { code } = cause as NodeJS.ErrnoException;
      throw this.#unavailable(messageOf(cause) || (code ?? 'no reason given'), null);
    });
  }

  async #sendOnce(
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    body: object | undefined,
  ): Promise<Answer> {
    const { url, credentials } = this.settings;
    const user = credentials === null ? '' : `${credentials.username}:${credentials.password}`;
    const response = await request(url.replace(/\/+$/, '') + path, {
      method,
      dispatcher: this.#agent,
      signal: AbortSignal.timeout(ANSWER_WAIT_MS),
      headers: {
        accept: `${MEDIA_TYPE}, application/json`,
        ...(body === undefined ? {} : { 'content-type': MEDIA_TYPE }),
        ...(user === '' ? {} : { authorization: `Basic ${Buffer.from(user).toString('base64')}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const { statusCode: status } = response;
    try {
      const text = await response.body.text();
      return { status, text, json: jsonIn(text), isTooLong: false };
    } catch (cause) {
      if (!(cause instanceof errors.ResponseExceededMaxSizeError)) throw cause;
      return { status, text: '', json: null, isTooLong: true };
    }
  }

  #idIn({ json, text, status }: Answer): number {
    const id = (json as { id?: unknown } | null)?.id;
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > SCHEMA_ID_MAX)
      throw this.#unavailable(`its answer has no id: ${text.slice(0, 80)}`, status);
    return id;
  }

  #unavailable(reason: string, status: number | null): SchemaRegistryUnavailable {
    return new SchemaRegistryUnavailable(this.settings.url, reason, status);
  }
}

interface Answer {
  status: number;
  text: string;
  json: unknown;
  isTooLong: boolean;
}

function codeOf({ json }: Answer): number | null {
  const code = (json as { error_code?: unknown } | null)?.error_code;
  return typeof code === 'number' ? code : null;
}

function schemaIn(id: number, answer: Answer): Schema {
  const { schema, schemaType, references } = (answer.json ?? {}) as Record<string, unknown>;
  if (answer.isTooLong || (typeof schema === 'string' && schema.length > SCHEMA_CHARACTERS_MAX))
    return unusable(id, `is longer than ${SCHEMA_CHARACTERS_MAX} characters`);
  if (schemaType !== undefined && schemaType !== 'AVRO')
    return unusable(id, `is of the type ${JSON.stringify(schemaType).slice(0, 20)}, not AVRO`);
  if (Array.isArray(references) && references.length > 0)
    return unusable(id, 'refers to schemas of other subjects, which are not followed');
  try {
    return boundedJson(typeof schema === 'string' ? schema : '', SCHEMA_LIMITS) as AvroSchema;
  } catch (cause) {
    const reason = cause instanceof UnsoundJson ? cause.reason : String(cause);
    return unusable(id, `is not a readable Avro schema in JSON: ${reason}`);
  }
}

function unusable(id: number, why: string): UndecodableRecord {
  return new UndecodableRecord('unknown-schema', `the writer's schema ${id} ${why}`, {
    schemaId: id,
  });
}

function refused(subject: string, answer: Answer): SchemaRefused {
  return new SchemaRefused(subject, inWords(answer), answer.status);
}

/** Returns the registry's message, or else the answer's text. */
function inWords({ status, json, text }: Answer): string {
  const message = (json as { message?: unknown } | null)?.message;
  return `${status} ${typeof message === 'string' ? message : text}`
    .trim()
    .slice(0, REASON_CHARACTERS_MAX);
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
