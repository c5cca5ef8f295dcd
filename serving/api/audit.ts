/**
 * What an auditor asks over HTTP: why a version answers so, what became of a correction, what
 * differs, which version changed an answer.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Engine } from '../../model/engine/engine.ts';
import { CORRECTION_LIMITS, LINEAGE_NAME } from '../../schemas/correction.ts';
import { differenceOf, type Difference } from '../../versions/audit/difference.ts';
import { traces } from '../../versions/audit/trace.ts';
import { forRole } from '../access/admission.ts';
import type { Answers, Unanswered } from '../answers/answers.ts';
import { askAll, blame } from '../answers/blame.ts';
import { COMPLETION_LIMITS } from './completions.ts';
import { explain } from '../answers/explain.ts';
import { GreedyAnswers } from '../answers/greedy-answers.ts';
import { clientSignal } from './client-signal.ts';
import { refuse, refuseBody, refuseUnanswered } from './refusals.ts';

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
  /** The model is asked them in both versions. */
  prompts: z.array(promptText).max(AUDIT_LIMITS.promptsMax).default([]),
  tokensMax,
});
const blameBody = z.strictObject({
  lineage: lineageName,
  prompts: z.array(promptText).min(1).max(AUDIT_LIMITS.promptsMax),
  version: version.nullish(),
  tokensMax,
});

/** The model's answers beside what the log says of the two versions. */
export type AskedDifference = Difference & {
  asked: { prompt: string; from: string; to: string }[];
};

export function auditRoutes(
  server: FastifyInstance,
  { engine, answers }: { engine: Engine; answers: Answers },
): void {
  let blames = 0;

  server.post('/v1/why', forRole('read', lineageInBody), async (request, reply) => {
    const checked = whyBody.safeParse(request.body);
    if (!checked.success) return refuseBody(reply, checked.error);
    const { lineage, prompt } = checked.data;
    const found = await explain(answers, {
      lineage,
      prompt,
      version: checked.data.version ?? 'served',
      tokensMax: checked.data.tokensMax,
      signal: clientSignal(reply),
    });
    if (found.kind !== 'explanation') return refuseUnanswered(reply, found);
    const { kind: _, ...explanation } = found;
    return explanation;
  });

  server.get<{ Params: { lineage: string; id: string } }>(
    '/v1/lineages/:lineage/corrections/:id',
    forRole('read', ({ params }) => (params as { lineage: string }).lineage),
    async (request, reply) => {
      const { lineage, id } = request.params;
      if (id.length > CORRECTION_LIMITS.idCharactersMax * 2)
        return refuse(reply, 404, 'unknown_correction', 'No correction has so long an id.', 'id');
      const found = await answers.historyOf(lineage, 'head');
      if (found.kind !== 'history') return refuseUnanswered(reply, found);
      const [trace] = await traces(found.followed.log, { ids: [id] });
      return (
        trace ??
        refuse(
          reply,
          404,
          'unknown_correction',
          `Lineage "${lineage}" never decided a correction "${id}".`,
          'id',
        )
      );
    },
  );

  server.post('/v1/diff', forRole('read', lineageInBody), async (request, reply) => {
    const checked = diffBody.safeParse(request.body);
    if (!checked.success) return refuseBody(reply, checked.error);
    const { lineage, prompts } = checked.data;
    const sides = [
      await answers.historyOf(lineage, checked.data.from),
      await answers.historyOf(lineage, checked.data.to),
    ] as const;
    const [from, to] = sides;
    if (from.kind !== 'history') return refuseUnanswered(reply, from);
    if (to.kind !== 'history') return refuseUnanswered(reply, to);
    const { log, served } = to.followed;
    const difference = await differenceOf(log, from.history.head.version, to.history.head.version);
    const asked: string[][] = [];
    if (prompts.length > 0) {
      const greedy = await GreedyAnswers.of(engine, log, checked.data.tokensMax, served);
      for (const { history } of [from, to]) {
        const turn = await answers.ask(() => askAll(greedy, history, prompts), clientSignal(reply));
        if (turn.kind !== 'done') return refuseUnanswered(reply, turn);
        if (!Array.isArray(turn.result)) return refuseUnanswered(reply, turn.result);
        asked.push(turn.result);
      }
    }
    return {
      ...difference,
      asked: prompts.map((prompt, i) => ({ prompt, from: asked[0]![i]!, to: asked[1]![i]! })),
    } satisfies AskedDifference;
  });

  server.post('/v1/blame', forRole('read', lineageInBody), async (request, reply) => {
    const checked = blameBody.safeParse(request.body);
    if (!checked.success) return refuseBody(reply, checked.error);
    const { lineage, prompts } = checked.data;
    const found = await answers.historyOf(lineage, checked.data.version ?? 'served');
    if (found.kind !== 'history') return refuseUnanswered(reply, found);
    // It holds the model turn after turn; others come in between, but of its kind one is enough.
    if (blames >= AUDIT_LIMITS.blamesAtOnceMax)
      return refuseUnanswered(reply, { kind: 'full', waiting: engine.queue.waiting + blames });
    blames += 1;
    try {
      const blamed: Awaited<ReturnType<typeof blame>> | Unanswered = await blame(
        { engine, answers, log: found.followed.log, served: found.followed.served },
        {
          prompts,
          version: found.history.head.version,
          tokensMax: checked.data.tokensMax,
          signal: clientSignal(reply),
        },
      );
      if (blamed.kind !== 'blame') return refuseUnanswered(reply, blamed);
      const { kind: _, ...rest } = blamed;
      return rest;
    } finally {
      blames -= 1;
    }
  });
}

const lineageInBody = ({ body }: FastifyRequest): unknown =>
  (body as { lineage?: unknown } | null)?.lineage;
