/**
 * `POST /v1/retractions`: a fact goes back to the base model's answer. What becomes of it is told
 * on the outcomes topic.
 */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { CORRECTION_LIMITS, factKeyOf, type KafkaPosition } from '../../schemas/correction.ts';
import { submissionFault } from '../access/access.ts';
import { callerOf, forRole } from '../access/admission.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { refuse, refuseBody, refuseUnanswered } from './refusals.ts';

/** Hands a retraction to the stream; resolves when it is acknowledged. */
export type SubmitRetraction = (lineage: string, factKey: string) => Promise<KafkaPosition>;

const wellFormed = (charactersMax: number) =>
  z
    .string()
    .max(charactersMax)
    .refine((text) => text.trim() !== '' && text.isWellFormed(), {
      message: 'it must be well-formed text',
    });

/** Which fact: its subject, and its relation or the prompt that the correction had. */
const retractionBody = z
  .strictObject({
    lineage: z.string(),
    subject: wellFormed(CORRECTION_LIMITS.subjectCharactersMax),
    relation: wellFormed(CORRECTION_LIMITS.relationCharactersMax).nullish(),
    prompt: wellFormed(CORRECTION_LIMITS.promptCharactersMax).nullish(),
  })
  .refine(({ relation, prompt }) => (relation ?? prompt ?? null) !== null, {
    message: 'give the relation or the prompt of the fact',
  })
  .refine(
    ({ subject, relation, prompt }) =>
      (relation ?? null) !== null || (prompt ?? subject).includes(subject),
    { message: 'the subject does not occur in the prompt' },
  );

export function retractionRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  retract: SubmitRetraction | undefined,
): void {
  server.post(
    '/v1/retractions',
    forRole('submit', ({ body }) => (body as { lineage?: unknown } | null)?.lineage),
    async (request, reply) => {
      if (retract === undefined)
        return refuse(
          reply,
          503,
          'no_stream',
          'This server is not connected to a stream of corrections.',
        );
      const checked = retractionBody.safeParse(request.body);
      if (!checked.success) return refuseBody(reply, checked.error);
      const { lineage, subject, relation, prompt } = checked.data;
      const notHis = submissionFault(callerOf(request), { subject, id: '' }, false);
      if (notHis !== null) return refuse(reply, 403, 'not_permitted', notHis);
      if (followed.get(lineage) === undefined)
        return refuseUnanswered(reply, { kind: 'unknown-lineage', lineage });
      const factKey = factKeyOf({ subject, relation: relation ?? null, prompt: prompt ?? subject });
      return reply.code(202).send({ lineage, factKey, position: await retract(lineage, factKey) });
    },
  );
}
