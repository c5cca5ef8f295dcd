/**
 * Routes for auditors: the reasons for an answer, the trace of a correction, the difference of two
 * versions, and the version that changed an answer.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Engine } from '../../model/engine/engine.ts';
import { CORRECTION_LIMITS, LINEAGE_NAME } from '../../schemas/correction.ts';
import { differenceOf, type Difference } from '../../versions/audit/difference.ts';
import { traces } from '../../versions/audit/trace.ts';
import { forRole } from '../access/admission.ts';
import { Refusal } from '../access/refusals.ts';
import { tooManyWaiting, type Answers } from '../answers/answers.ts';
import { askAll, blame } from '../answers/blame.ts';
import { explain } from '../answers/explain.ts';
import { GreedyAnswers } from '../answers/greedy-answers.ts';
import { COMPLETION_LIMITS } from './completions.ts';
import { clientSignal, lineageInBody, lineageInPath, route } from './routes.ts';

export const AUDIT_LIMITS = { promptsMax: 64, tokensMax: 64, blamesAtOnceMax: 1 } as const;

const TOKENS = 8;
const WHY_TOKENS_MAX = 256;
const WHY_TOKENS = 2;

const lineageName = z.string().regex(LINEAGE_NAME);
const promptText = z.string().min(1).max(COMPLETION_LIMITS.promptCharactersMax);
const version = z.number().int().nonnegative();
const tokensMax = z.number().int().min(1).max(AUDIT_LIMITS.tokensMax).default(TOKENS);

const whyBody = z.strictObject({
  lineage: lineageName,
  prompt: promptText,
  version: version.nullish(),
  tokensMax: z.number().int().min(1).max(WHY_TOKENS_MAX).default(WHY_TOKENS),
});
const diffBody = z.strictObject({
  lineage: lineageName,
  from: z.union([version, z.literal('head')]),
  to: z.union([version, z.literal('head')]).default('head'),
  /** Prompts that the model answers in both versions. */
  prompts: z.array(promptText).max(AUDIT_LIMITS.promptsMax).default([]),
  tokensMax,
});
const blameBody = z.strictObject({
  lineage: lineageName,
  prompts: z.array(promptText).min(1).max(AUDIT_LIMITS.promptsMax),
  version: version.nullish(),
  tokensMax,
});

/** The difference of two versions in the log, and in the model's answers. */
export type AskedDifference = Difference & {
  asked: { prompt: string; from: string; to: string }[];
};

interface Audited {
  engine: Engine;
  answers: Answers;
}

export function auditRoutes(server: FastifyInstance, audited: Audited): void {
  const { engine, answers } = audited;
  const reading = { role: 'read', lineage: lineageInBody } as const;

  route(server, 'POST', '/v1/why', {
    ...reading,
    input: whyBody,
    handle: (body, _, reply) =>
      explain(answers, {
        ...body,
        version: body.version ?? 'served',
        signal: clientSignal(reply),
      }),
  });

  server.get<{ Params: { lineage: string; id: string } }>(
    '/v1/lineages/:lineage/corrections/:id',
    forRole('read', lineageInPath),
    async ({ params: { lineage, id } }) => {
      const unknown = (message: string) => new Refusal('unknown_correction', message, 'id');
      if (id.length > CORRECTION_LIMITS.idCharactersMax * 2)
        return unknown('No correction has an id of this length.');
      const found = await answers.historyOf(lineage, 'head');
      if (found instanceof Refusal) return found;
      const [trace] = await traces(found.followed.log, { ids: [id] });
      return trace ?? unknown(`Lineage "${lineage}" never decided a correction "${id}".`);
    },
  );

  route(server, 'POST', '/v1/diff', {
    ...reading,
    input: diffBody,
    handle: (body, _, reply) => differenceWithAnswers(audited, body, clientSignal(reply)),
  });

  let blames = 0;
  route(server, 'POST', '/v1/blame', {
    ...reading,
    input: blameBody,
    async handle({ lineage, prompts, version: upTo, tokensMax: tokens }, _, reply) {
      const found = await answers.historyOf(lineage, upTo ?? 'served');
      if (found instanceof Refusal) return found;
      // A blame uses the model repeatedly. Other requests run in between, but one blame is enough.
      if (blames >= AUDIT_LIMITS.blamesAtOnceMax)
        return tooManyWaiting(engine.queue.waiting + blames);
      const { version: last } = found.history.head;
      const signal = clientSignal(reply);
      blames += 1;
      try {
        return await blame(
          { ...audited, ...found.followed },
          { prompts, version: last, tokensMax: tokens, signal },
        );
      } finally {
        blames -= 1;
      }
    },
  });
}

async function differenceWithAnswers(
  { engine, answers }: Audited,
  { lineage, from: first, to: second, prompts, tokensMax: tokens }: z.infer<typeof diffBody>,
  signal: AbortSignal,
): Promise<AskedDifference | Refusal> {
  const from = await answers.historyOf(lineage, first);
  const to = await answers.historyOf(lineage, second);
  if (from instanceof Refusal) return from;
  if (to instanceof Refusal) return to;
  const { log, served } = to.followed;
  const difference = await differenceOf(log, from.history.head.version, to.history.head.version);
  if (prompts.length === 0) return { ...difference, asked: [] };
  const greedy = await GreedyAnswers.of({ engine, log, served }, tokens);
  const texts: string[][] = [];
  for (const { history } of [from, to]) {
    const turn = await answers.ask(() => askAll(greedy, history, prompts), signal);
    if (turn instanceof Refusal) return turn;
    texts.push(turn);
  }
  const [before, after] = texts as [string[], string[]];
  const asked = prompts.map((prompt, i) => ({ prompt, from: before[i]!, to: after[i]! }));
  return { ...difference, asked };
}
