/**
 * `POST /v1/completions` and `GET /v1/models` in OpenAI's form, so that existing clients can use an
 * edited model. The model's name selects the version: `<lineage>` is the served one,
 * `<lineage>@<version>` a version number, `<lineage>@<alias>` an alias, `<lineage>@head` the newest
 * and `<lineage>@base` the base model.
 */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { ALIAS_NAME } from '../../schemas/alias.ts';
import { LINEAGE_NAME } from '../../schemas/correction.ts';
import { messageOf } from '../../schemas/failures.ts';
import type { GenerateOptions } from '../../model/engine-types.ts';
import { mayUse } from '../access/access.ts';
import { callerOf, forRole } from '../access/admission.ts';
import { Refusal } from '../access/refusals.ts';
import type { Answer, Answers, Question, VersionName } from '../answers/answers.ts';
import type { FollowedLineage, FollowedLineages } from '../answers/followed-lineages.ts';
import type { ServingMetrics } from './metrics.ts';
import { clientSignal, route } from './routes.ts';

export const COMPLETION_LIMITS = {
  promptCharactersMax: 8_000,
  tokensMax: 1_024,
  stopsMax: 4,
  stopCharactersMax: 200,
} as const;

/** OpenAI's default. */
const TOKENS_DEFAULT = 16;

const stopText = z.string().min(1).max(COMPLETION_LIMITS.stopCharactersMax);
const promptText = z.string().min(1).max(COMPLETION_LIMITS.promptCharactersMax);
const only = <Value extends string | number | boolean>(value: Value, why: string) =>
  z.literal(value, { error: why }).nullish();

/**
 * Fields without effect (`user`, `store`, …) are accepted and ignored. Unsupported fields that
 * would change the answer are refused.
 */
const completionBody = z.looseObject({
  model: z.string(),
  prompt: z.union(
    [
      promptText,
      z
        .array(promptText)
        .length(1)
        .transform((prompts) => prompts[0]!),
    ],
    {
      error:
        `expected a text of 1 to ${COMPLETION_LIMITS.promptCharactersMax} characters, ` +
        'or an array with one such text',
    },
  ),
  max_tokens: z.number().int().min(1).max(COMPLETION_LIMITS.tokensMax).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  seed: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31)
    .nullish(),
  stop: z
    .union(
      [stopText.transform((text) => [text]), z.array(stopText).max(COMPLETION_LIMITS.stopsMax)],
      { error: `expected a text, or at most ${COMPLETION_LIMITS.stopsMax} of them` },
    )
    .nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().optional() }).nullish(),
  n: only(1, 'only one answer is given per request'),
  best_of: only(1, 'only one answer is given per request'),
  echo: only(false, 'the prompt is not repeated'),
  suffix: only('', 'nothing can be inserted before a suffix'),
  logprobs: only(0, 'log-probabilities are not given'),
});

export function completionRoutes(
  server: FastifyInstance,
  answers: Answers,
  followed: FollowedLineages,
  metrics: ServingMetrics,
): void {
  server.get('/v1/models', forRole('read', 'own'), async (request) => ({
    object: 'list',
    data: followed
      .all()
      .filter(({ lineage }) => mayUse(callerOf(request), lineage))
      .flatMap(modelsOf),
  }));

  route(server, 'POST', '/v1/completions', {
    role: 'read',
    lineage: ({ body }) => lineageOfModel(body),
    input: completionBody,
    async handle(body, _, reply) {
      const model = parseModelName(body.model);
      if (model === null) {
        const message =
          `"${body.model.slice(0, 200)}" is not the name of a model: ` +
          'it is <lineage>, or with @<version>, @<alias>, @head or @base behind it.';
        return new Refusal('unknown_model', message, 'model');
      }
      const { prompt } = body;
      const question = { ...model, prompt, options: optionsOf(body), signal: clientSignal(reply) };
      const head = {
        id: `cmpl-${randomUUID()}`,
        object: 'text_completion',
        created: Math.floor(Date.now() / 1_000),
        model: body.model,
      };
      if (body.stream === true) {
        const usage = body.stream_options?.include_usage === true;
        return await stream(reply, { head, usage }, { answers, metrics }, question);
      }
      const answer = await answers.answer(question);
      if (answer instanceof Refusal) return answer;
      metrics.answered(answer);
      void reply.header('errata-version', answer.version);
      return {
        ...head,
        choices: [choice(answer.generation.text, finishOf(answer))],
        usage: usageOf(answer),
        errata: editsOf(answer),
      };
    },
  });
}

function modelsOf({ lineage, served }: FollowedLineage) {
  const createdAt = served?.latest?.entry.createdAt;
  const model = { object: 'model', owned_by: 'errata' };
  return [
    {
      ...model,
      id: lineage,
      created: createdAt === undefined ? 0 : Math.floor(Date.parse(createdAt) / 1_000),
      version: served?.head.version ?? null,
    },
    { ...model, id: `${lineage}@base`, created: 0, version: 0 },
  ];
}

function optionsOf(body: z.infer<typeof completionBody>): GenerateOptions {
  return {
    tokensMax: body.max_tokens ?? TOKENS_DEFAULT,
    temperature: body.temperature ?? 1,
    ...(typeof body.top_p === 'number' && { topP: body.top_p }),
    ...(typeof body.seed === 'number' && { seed: body.seed }),
    ...(Array.isArray(body.stop) && { stop: body.stop }),
  };
}

function lineageOfModel(body: unknown): string | undefined {
  const { model } = (body ?? {}) as { model?: unknown };
  return typeof model === 'string' ? parseModelName(model)?.lineage : undefined;
}

/** Parses the name of a model; null if malformed. */
function parseModelName(name: string): { lineage: string; version: VersionName } | null {
  const [, lineage, version] = /^([^@]+)(?:@([^@]+))?$/.exec(name) ?? [];
  if (lineage === undefined || !LINEAGE_NAME.test(lineage)) return null;
  if (version === undefined) return { lineage, version: 'served' };
  if (version === 'base' || version === 'head') return { lineage, version };
  if (/^\d{1,15}$/.test(version)) return { lineage, version: Number(version) };
  return ALIAS_NAME.test(version) ? { lineage, version: { alias: version } } : null;
}

async function stream(
  reply: FastifyReply,
  { head, usage }: { head: object; usage: boolean },
  { answers, metrics }: { answers: Answers; metrics: ServingMetrics },
  question: Question,
): Promise<FastifyReply | Refusal> {
  const { raw } = reply;
  let version = 0;
  const send = (event: object | '[DONE]') => {
    if (!raw.headersSent) {
      // Deferred until there is data: after the status is sent, a fault can only end the stream.
      reply.hijack();
      raw.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'errata-version': String(version),
      });
    }
    raw.write(`data: ${event === '[DONE]' ? event : JSON.stringify(event)}\n\n`);
  };
  try {
    const answer = await answers.answer({
      ...question,
      onBegin: (answering) => (version = answering),
      onToken: ({ text }) => send({ ...head, choices: [choice(text, null)] }),
    });
    if (answer instanceof Refusal) return answer;
    metrics.answered(answer);
    send({ ...head, choices: [choice('', finishOf(answer))], errata: editsOf(answer) });
    if (usage) send({ ...head, choices: [], usage: usageOf(answer) });
    send('[DONE]');
  } catch (fault) {
    if (!raw.headersSent) throw fault;
    reply.log.error({ reason: messageOf(fault) }, 'A stream broke off');
    const error = { message: 'The answer broke off.', type: 'server_error', param: null };
    send({ error: { ...error, code: 'broken_off' } });
  }
  raw.end();
  return reply;
}

function editsOf({ lineage, version, opened }: Answer) {
  return { lineage, version, opened };
}

function choice(text: string, finish: 'stop' | 'length' | null) {
  return { text, index: 0, logprobs: null, finish_reason: finish };
}

function finishOf({ generation }: Answer): 'stop' | 'length' {
  return generation.finish === 'length' ? 'length' : 'stop';
}

function usageOf({ generation }: Answer) {
  const { promptTokens, tokens } = generation;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: tokens.length,
    total_tokens: promptTokens + tokens.length,
  };
}
