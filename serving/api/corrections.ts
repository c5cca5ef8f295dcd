/**
 * `POST /v1/corrections`: a correction into the stream. What becomes of it is told on the outcomes
 * topic.
 */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import {
  CORRECTION_LIMITS,
  factKeyOf,
  type FactCorrection,
  type KafkaPosition,
} from '../../schemas/correction.ts';
import { faultsOf } from '../../schemas/correction-faults.ts';
import { SchemaRegistryUnavailable } from '../../schemas/failures.ts';
import { sourceOf, submissionFault } from '../access/access.ts';
import { callerOf, forRole } from '../access/admission.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { refuse, refuseBody, refuseUnanswered } from './refusals.ts';

/** Hands a sound correction to the stream; resolves when it is acknowledged. */
export type SubmitCorrection = (correction: FactCorrection) => Promise<KafkaPosition | null>;

const prompts = (countMax: number) => z.array(z.string()).max(countMax).default([]);

const correctionBody = z.strictObject({
  /**
   * Chosen by the submitter, so that sending it again is no second correction; without one it gets
   * a new id.
   */
  id: z.string().optional(),
  lineage: z.string(),
  subject: z.string(),
  relation: z.string().nullish(),
  prompt: z.string(),
  target: z.string(),
  previousAnswer: z.string().nullish(),
  paraphrases: prompts(CORRECTION_LIMITS.paraphrasesMax),
  neighbourhood: prompts(CORRECTION_LIMITS.neighbourhoodMax),
  source: z.string().default('http'),
  issuedAt: z.number().int().nonnegative().optional(),
});

export function correctionRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  submit: SubmitCorrection | undefined,
): void {
  server.post(
    '/v1/corrections',
    forRole('submit', ({ body }) => (body as { lineage?: unknown } | null)?.lineage),
    async (request, reply) => {
      if (submit === undefined)
        return refuse(
          reply,
          503,
          'no_stream',
          'This server is not connected to a stream of corrections.',
        );
      const checked = correctionBody.safeParse(request.body);
      if (!checked.success) return refuseBody(reply, checked.error);
      const caller = callerOf(request);
      const { id, relation, previousAnswer, source, issuedAt, ...rest } = checked.data;
      const correction: FactCorrection = {
        ...rest,
        id: id ?? randomUUID(),
        relation: relation ?? null,
        previousAnswer: previousAnswer ?? null,
        source: sourceOf(caller, source),
        issuedAt: issuedAt ?? Date.now(),
      };
      const faults = faultsOf(correction);
      if (faults.length > 0) return refuse(reply, 400, 'invalid_correction', faults.join('; '));
      const notHis = submissionFault(caller, correction, id !== undefined);
      if (notHis !== null) return refuse(reply, 403, 'not_permitted', notHis);
      if (followed.get(correction.lineage) === undefined)
        return refuseUnanswered(reply, { kind: 'unknown-lineage', lineage: correction.lineage });
      const position = await submit(correction).catch((fault: unknown) => {
        if (fault instanceof SchemaRegistryUnavailable) return fault;
        throw fault;
      });
      if (position instanceof SchemaRegistryUnavailable)
        return refuse(
          reply,
          503,
          'no_schema_registry',
          'The schema registry gives no answer, so nothing was sent; try again later.',
        );
      return reply.code(202).send({
        id: correction.id,
        lineage: correction.lineage,
        factKey: factKeyOf(correction),
        issuedAt: correction.issuedAt,
        position,
      });
    },
  );
}
