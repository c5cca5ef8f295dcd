/**
 * A schema registry that speaks Confluent's protocol, over HTTP. It alone decides which schemas go
 * together; what it refuses is not written.
 *
 * API: Confluent Schema Registry, "Schema Registry API Reference" (also Karapace, Apicurio under
 * /apis/ccompat/v7).
 */
import {
  Agent as PlainAgent,
  request as plainRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { AvroSchema } from '../../schemas/records/avro-shape.ts';
import { boundedJson, UnsoundJson, type JsonLimits } from '../../schemas/encoding/bounded-json.ts';
import { SCHEMA_ID_MAX } from '../../schemas/records/confluent-framing.ts';
import {
  SchemaRefused,
  SchemaRegistryUnavailable,
  UndecodableRecord,
} from '../../schemas/failures.ts';

export interface SchemaRegistrySettings {
  /** http or https, without the user; a path in front of the API's own is kept. */
  url: string;
  credentials: { username: string; password: string } | null;
  /** PEM text; without it Node's own list of authorities holds. */
  ca?: string;
}

/**
 * Longest schema text that is taken from a registry, and the most in it: to compile one takes time.
 */
export const SCHEMA_CHARACTERS_MAX = 65_536;
const SCHEMA_LIMITS: JsonLimits = { valuesMax: 5_000, depthMax: 100 };

export class SchemaRegistry {
  readonly #settings: SchemaRegistrySettings;
  readonly #agent: PlainAgent;
  readonly #known = new LRUCache<number, AvroSchema | UndecodableRecord>({
    maxSize: KNOWN_CHARACTERS_MAX,
    max: KNOWN_SCHEMAS_MAX,
  });
  readonly #asked = new Map<number, Promise<AvroSchema | UndecodableRecord>>();

  constructor(settings: SchemaRegistrySettings) {
    this.#settings = settings;
    const options = { keepAlive: true, maxSockets: CONNECTIONS_MAX };
    this.#agent = settings.url.startsWith('https:')
      ? new TlsAgent({ ...options, ...(settings.ca === undefined ? {} : { ca: settings.ca }) })
      : new PlainAgent(options);
  }

  /**
   * The id of the schema under the subject: looked up, and registered where it is not there yet. A
   * subject that is made by this is BACKWARD compatible where the registry itself asks for nothing;
   * a level that somebody chose is left. Throws `SchemaRefused` with the registry's reason,
   * `SchemaRegistryUnavailable`.
   */
  async register(subject: string, schema: AvroSchema): Promise<number> {
    const path = `/subjects/${encodeURIComponent(subject)}`;
    const body = { schema: JSON.stringify(schema) };
    const found = await this.#ask('POST', path, body);
    if (found.status === 200) return idIn(found, this.#settings.url);
    if (!isMissing(found)) throw refused(subject, found);
    if (codeOf(found) === SUBJECT_MISSING) await this.#askForBackward(subject);
    const registered = await this.#ask('POST', `${path}/versions`, body);
    if (registered.status !== 200) throw refused(subject, registered);
    return idIn(registered, this.#settings.url);
  }

  /**
   * The schema of this id, or why it cannot be had: the registry does not know it, or it is none
   * that a record of ours can be read with. Throws `SchemaRegistryUnavailable`.
   */
  async schemaOf(id: number): Promise<AvroSchema | UndecodableRecord> {
    const known = this.#known.get(id) ?? this.#asked.get(id);
    if (known !== undefined) return await known;
    const asked = this.#fetchSchema(id).finally(() => this.#asked.delete(id));
    this.#asked.set(id, asked);
    return await asked;
  }

  async #fetchSchema(id: number): Promise<AvroSchema | UndecodableRecord> {
    let answer = await this.#ask('GET', `/schemas/ids/${id}`);
    // A registry of several nodes may not have told all of them yet what was registered a moment
    // ago.
    for (let again = 1; codeOf(answer) === SCHEMA_MISSING && again < ATTEMPTS_MAX; again++) {
      await delay(RETRY_WAIT_MS * 2 ** again);
      answer = await this.#ask('GET', `/schemas/ids/${id}`);
    }
    const missing = codeOf(answer) === SCHEMA_MISSING;
    if (answer.status !== 200 && !missing)
      throw unavailable(this.#settings.url, inWords(answer), answer.status);
    const schema = missing ? unusable(id, 'is not known to the registry') : schemaIn(id, answer);
    const size = Math.max(1, answer.text.length);
    this.#known.set(
      id,
      schema,
      schema instanceof UndecodableRecord ? { size, ttl: UNUSABLE_KNOWN_MS } : { size },
    );
    return schema;
  }

  async #askForBackward(subject: string): Promise<void> {
    const general = await this.#ask('GET', '/config');
    if ((general.json as { compatibilityLevel?: unknown } | null)?.compatibilityLevel !== 'NONE')
      return;
    const answer = await this.#ask('PUT', `/config/${encodeURIComponent(subject)}`, {
      compatibility: 'BACKWARD',
    });
    if (answer.status !== 200) throw refused(subject, answer);
  }

  /** Tries a few times where that may help. */
  async #ask(method: string, path: string, body?: object): Promise<Answer> {
    let reason = '';
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      if (attempt > 1) await delay(RETRY_WAIT_MS * 2 ** (attempt - 1));
      try {
        const answer = await this.#askOnce(method, path, body);
        if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) return answer;
        reason = inWords(answer);
      } catch (cause) {
        reason =
          cause instanceof Error
            ? cause.message || ((cause as NodeJS.ErrnoException).code ?? cause.name)
            : String(cause);
      }
    }
    throw unavailable(this.#settings.url, reason, null);
  }

  async #askOnce(method: string, path: string, body: object | undefined): Promise<Answer> {
    const { url, credentials } = this.#settings;
    const target = new URL(url.replace(/\/+$/, '') + path);
    const options: RequestOptions = {
      method,
      agent: this.#agent,
      signal: AbortSignal.timeout(ANSWER_WAIT_MS),
      headers: {
        accept: `${MEDIA_TYPE}, application/json`,
        ...(body === undefined ? {} : { 'content-type': MEDIA_TYPE }),
      },
      ...(credentials === null ? {} : { auth: `${credentials.username}:${credentials.password}` }),
    };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      (target.protocol === 'https:' ? tlsRequest : plainRequest)(target, options, resolve)
        .on('error', reject)
        .end(body === undefined ? undefined : JSON.stringify(body));
    });
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of response as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > ANSWER_BYTES_MAX)
        return { status: response.statusCode ?? 0, text: '', json: null, tooLong: true };
      parts.push(part);
    }
    const text = Buffer.concat(parts).toString('utf8');
    return { status: response.statusCode ?? 0, text, json: jsonIn(text), tooLong: false };
  }
}

const MEDIA_TYPE = 'application/vnd.schemaregistry.v1+json';
const ANSWER_WAIT_MS = 5_000;
/** A schema in JSON in JSON: its quotation marks take twice the room. */
const ANSWER_BYTES_MAX = 4 * SCHEMA_CHARACTERS_MAX;
const ATTEMPTS_MAX = 3;
const RETRY_WAIT_MS = 100;
const CONNECTIONS_MAX = 4;
const KNOWN_SCHEMAS_MAX = 1_000;
const KNOWN_CHARACTERS_MAX = 128 * SCHEMA_CHARACTERS_MAX;
/**
 * So that a flood of records with one unknown id is one question, and a schema that is registered
 * late is found.
 */
const UNUSABLE_KNOWN_MS = 30_000;
const REASON_CHARACTERS_MAX = 500;

const SUBJECT_MISSING = 40401;
const SCHEMA_MISSING = 40403;

interface Answer {
  status: number;
  text: string;
  json: unknown;
  /** It was longer than is read. */
  tooLong: boolean;
}

function isMissing(answer: Answer): boolean {
  return answer.status === 404 && [SUBJECT_MISSING, SCHEMA_MISSING].includes(codeOf(answer) ?? 0);
}

function codeOf({ json }: Answer): number | null {
  const code = (json as { error_code?: unknown } | null)?.error_code;
  return typeof code === 'number' ? code : null;
}

function idIn(answer: Answer, url: string): number {
  const id = (answer.json as { id?: unknown } | null)?.id;
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > SCHEMA_ID_MAX)
    throw unavailable(url, `its answer has no id: ${answer.text.slice(0, 80)}`, answer.status);
  return id;
}

function schemaIn(id: number, answer: Answer): AvroSchema | UndecodableRecord {
  const { schema, schemaType, references } = (answer.json ?? {}) as {
    schema?: unknown;
    schemaType?: unknown;
    references?: unknown;
  };
  if (answer.tooLong || (typeof schema === 'string' && schema.length > SCHEMA_CHARACTERS_MAX))
    return unusable(id, `is longer than ${SCHEMA_CHARACTERS_MAX} characters`);
  if (schemaType !== undefined && schemaType !== 'AVRO')
    return unusable(id, `is of the type ${JSON.stringify(schemaType).slice(0, 20)}, not AVRO`);
  if (Array.isArray(references) && references.length > 0)
    return unusable(id, 'refers to schemas of other subjects, which are not followed');
  try {
    return boundedJson(typeof schema === 'string' ? schema : '', SCHEMA_LIMITS) as AvroSchema;
  } catch (cause) {
    return unusable(
      id,
      `is no Avro schema in JSON that can be read: ${cause instanceof UnsoundJson ? cause.reason : String(cause)}`,
    );
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

function unavailable(
  url: string,
  reason: string,
  status: number | null,
): SchemaRegistryUnavailable {
  return new SchemaRegistryUnavailable(url, reason, status);
}

/** The registry's own words where it has some. */
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
