/**
 * `POST /v1/corrections` and `POST /v1/retractions`: into the stream of corrections. Their outcomes
 * are announced on the outcomes topic.
 */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
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
import { callerOf } from '../access/admission.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { refuse, refuseUnanswered } from './refusals.ts';
import { lineageInBody, post } from './routes.ts';

/** Hands a sound correction to the stream; resolves when it is acknowledged. */
export type SubmitCorrection = (correction: FactCorrection) => Promise<KafkaPosition | null>;

/** Hands a retraction to the stream; resolves when it is acknowledged. */
export type SubmitRetraction = (lineage: string, factKey: string) => Promise<KafkaPosition>;

const prompts = (countMax: number) => z.array(z.string()).max(countMax).default([]);

const correctionBody = z.strictObject({
  /** Chosen by the submitter, so that sending it again has no effect; default: a new one. */
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

const wellFormed = (charactersMax: number) =>
  z
    .string()
    .max(charactersMax)
    .refine((text) => text.trim() !== '' && text.isWellFormed(), {
      message: 'it must be well-formed text',
    });

/** Names a fact by its subject, and its relation or the prompt that the correction had. */
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

export function submissionRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  { submit, retract }: { submit?: SubmitCorrection; retract?: SubmitRetraction },
): void {
  post(server, '/v1/corrections', {
    role: 'submit',
    lineage: lineageInBody,
    input: correctionBody,
    async handle(body, request, reply) {
      if (submit === undefined) return refuseWithoutStream(reply);
      const correction = correctionOf(body, request);
      const faults = faultsOf(correction);
      if (faults.length > 0) return refuse(reply, 'invalid_correction', faults.join('; '));
      const refused = refuseSubmission(followed, request, reply, {
        ...correction,
        idGiven: body.id !== undefined,
      });
      return refused ?? (await submitCorrection(submit, correction, reply));
    },
  });
  post(server, '/v1/retractions', {
    role: 'submit',
    lineage: lineageInBody,
    input: retractionBody,
    async handle({ lineage, subject, relation, prompt }, request, reply) {
      if (retract === undefined) return refuseWithoutStream(reply);
      const fact = { lineage, subject, id: '', idGiven: false };
      const refused = refuseSubmission(followed, request, reply, fact);
      if (refused !== null) return refused;
      const factKey = factKeyOf({ subject, relation: relation ?? null, prompt: prompt ?? subject });
      return reply.code(202).send({ lineage, factKey, position: await retract(lineage, factKey) });
    },
  });
}

function refuseWithoutStream(reply: FastifyReply): FastifyReply {
  return refuse(reply, 'no_stream', 'This server is not connected to a stream of corrections.');
}

function correctionOf(
  { id, relation, previousAnswer, source, issuedAt, ...rest }: z.infer<typeof correctionBody>,
  request: FastifyRequest,
): FactCorrection {
  return {
    ...rest,
    id: id ?? randomUUID(),
    relation: relation ?? null,
    previousAnswer: previousAnswer ?? null,
    source: sourceOf(callerOf(request), source),
    issuedAt: issuedAt ?? Date.now(),
  };
}

/** Refuses what the caller may not submit, and unknown lineages; null where neither applies. */
function refuseSubmission(
  followed: FollowedLineages,
  request: FastifyRequest,
  reply: FastifyReply,
  submitted: { lineage: string; subject: string; id: string; idGiven: boolean },
): FastifyReply | null {
  const { lineage, idGiven } = submitted;
  const fault = submissionFault(callerOf(request), submitted, idGiven);
  if (fault !== null) return refuse(reply, 'not_permitted', fault);
  if (followed.get(lineage) === undefined)
    return refuseUnanswered(reply, { kind: 'unknown-lineage', lineage });
  return null;
}

async function submitCorrection(
  submit: SubmitCorrection,
  correction: FactCorrection,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { id, lineage, issuedAt } = correction;
  try {
    const position = await submit(correction);
    return reply
      .code(202)
      .send({ id, lineage, factKey: factKeyOf(correction), issuedAt, position });
  } catch (fault) {
    if (!(fault instanceof SchemaRegistryUnavailable)) throw fault;
    const message = 'The schema registry does not answer, so nothing was sent; try again later.';
    return refuse(reply, 'no_schema_registry', message);
  }
}
