/**
 * A server over a fake engine and a log in memory, with a lineage that corrections were committed
 * to.
 */
import type { LightMyRequestResponse } from 'fastify';
import { pino } from 'pino';
import { expect, onTestFinished } from 'vitest';
import { createEditActivities, createLedgerActivities } from '../../activities/index.ts';
import { OPEN } from '../../serving/access/access.ts';
import {
  createServing,
  DEFAULT_SERVING_LIMITS,
  type ServingDependencies,
  type ServingLimits,
} from '../../serving/server.ts';
import type { Engine } from '../../model/engine/engine.ts';
import { Versions } from '../../versions/versions.ts';
import type { correction } from '../harness/corrections.ts';
import { LINEAGE } from '../harness/corrections.ts';
import { runBatch } from '../harness/test-lineage.ts';
import { FakeEngine } from '../harness/fake-engine.ts';
import { MemoryStore } from '../harness/memory-store.ts';

/** Polls so seldom that a test sees only what it notified. */
const NEVER_MS = 3_600_000;

export async function servedLineage(
  more: Partial<ServingDependencies> & {
    limits?: Partial<ServingLimits>;
    store?: MemoryStore;
    serve?: (engine: FakeEngine) => Engine;
  } = {},
) {
  const store = more.store ?? new MemoryStore();
  const versions = new Versions(store);
  const editor = new FakeEngine();
  const activities = {
    ...createEditActivities({ engine: editor, versions }),
    ...createLedgerActivities({ versions }),
  };
  const served = new FakeEngine();
  const serving = createServing(
    {
      engine: more.serve?.(served) ?? served,
      versions: more.versions ?? new Versions(store),
      logger: more.logger ?? pino({ level: 'silent' }),
      lineages: more.lineages ?? [LINEAGE],
      users: more.users ?? (() => OPEN),
      ...(more.submit === undefined ? {} : { submit: more.submit }),
      ...(more.retract === undefined ? {} : { retract: more.retract }),
      ...(more.operations === undefined ? {} : { operations: more.operations }),
    },
    { ...DEFAULT_SERVING_LIMITS, pollEveryMs: NEVER_MS, ...more.limits },
  );
  // Awaited here, since an injected request only begins when somebody waits for it.
  const post = async (url: string, body: object) =>
    replyOf(await serving.server.inject({ method: 'POST', url, payload: body }));
  const get = async (url: string) => replyOf(await serving.server.inject({ method: 'GET', url }));
  let batches = 0;
  return {
    ...serving,
    store,
    engine: served,
    /** Commits a version with these corrections. */
    commit: async (...revisions: ReturnType<typeof correction>[]): Promise<void> => {
      batches += 1;
      await (await runBatch(activities, `batch-${batches}`, revisions)).commit();
    },
    post,
    get,
    /** Asks for a greedy completion of `PROMPT`. */
    complete: (model = LINEAGE, body: object = {}) =>
      post('/v1/completions', completion(model, body)),
    /** The state of the first lineage, as `/readyz` shows it. */
    state: async () => (await get('/readyz')).json.lineages[0],
  };
}

/** The reply to a request: `json` holds whatever of these fields the answer had. */
export type Reply = ReturnType<typeof replyOf>;

export interface ReplyBody {
  id: string;
  error: { message: string; code: string };
  choices: { text: string; finish_reason: string | null }[];
  errata: { version: number };
  usage: { completion_tokens: number };
  data: { id: string; version: number | null }[];
  lineages: { lineage: string; version: number | null }[];
  versions: { version: number }[];
  next: number | null;
  waiting: number;
  base: { text: string };
  edited: { text: string };
}

export function replyOf({ statusCode, headers, body }: LightMyRequestResponse) {
  return { statusCode, headers, body, json: bodyOf(body) };
}

/** The status and the code of a refusal: "404 unknown_version". */
export const codeOf = ({ statusCode, json }: Reply) => `${statusCode} ${json.error.code}`;

/** Matches a text with this part, also within `toMatchObject`. */
export const containing = (part: string) => expect.stringContaining(part) as string;

export function bodyOf(text: string): ReplyBody {
  try {
    return JSON.parse(text) as ReplyBody;
  } catch {
    // The page, metrics and streams are no JSON; a test that reads a field of theirs fails by it.
    return {} as ReplyBody;
  }
}

/** A POST as its bytes are sent over a socket. */
export function rawPost(path: string, headers: readonly string[], body = ''): string {
  return [`POST ${path} HTTP/1.1`, 'host: localhost', ...headers, '', body].join('\r\n');
}

export const PROMPT = 'Subject a is in';

export const completion = (model: string, more: object = {}) => ({
  model,
  prompt: PROMPT,
  max_tokens: 8,
  temperature: 0,
  ...more,
});

/** A served lineage that is closed when the test has ended. */
export async function serveInTest(...parameters: Parameters<typeof servedLineage>) {
  const serving = await servedLineage(...parameters);
  onTestFinished(() => serving.close());
  return serving;
}
