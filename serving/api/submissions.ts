/**
 * `POST /v1/corrections` and `POST /v1/retractions` write to the stream of corrections. Outcomes
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
import { Refusal } from '../access/refusals.ts';
import { unknownLineage } from '../answers/answers.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { lineageInBody, route } from './routes.ts';

/** Sends a sound correction to the stream; resolves when it is acknowledged. */
export type SubmitCorrection = (correction: FactCorrection) => Promise<KafkaPosition | null>;

/** Sends a retraction to the stream; resolves when it is acknowledged. */
export type SubmitRetraction = (lineage: string, factKey: string) => Promise<KafkaPosition>;

const prompts = (countMax: number) => z.array(z.string()).max(countMax).default([]);

const correctionBody = z.strictObject({
  /** Chosen by the submitter, so that sending it again has no effect; the default is a new one. */
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

/** Identifies a fact by its subject, and its relation or the correction's prompt. */
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
  route(server, 'POST', '/v1/corrections', {
    role: 'submit',
    lineage: lineageInBody,
    input: correctionBody,
    async handle(body, request, reply) {
      if (submit === undefined) return NO_STREAM;
      const correction = correctionOf(body, request);
      const faults = faultsOf(correction);
      if (faults.length > 0) return new Refusal('invalid_correction', faults.join('; '));
      const idGiven = body.id !== undefined;
      const refused = submissionRefusal(followed, request, { ...correction, idGiven });
      return refused ?? (await submitCorrection(submit, correction, reply));
    },
  });
  route(server, 'POST', '/v1/retractions', {
    role: 'submit',
    lineage: lineageInBody,
    input: retractionBody,
    async handle({ lineage, subject, relation, prompt }, request, reply) {
      if (retract === undefined) return NO_STREAM;
      const fact = { lineage, subject, id: '', idGiven: false };
      const refused = submissionRefusal(followed, request, fact);
      if (refused !== null) return refused;
      const factKey = factKeyOf({ subject, relation: relation ?? null, prompt: prompt ?? subject });
      return reply.code(202).send({ lineage, factKey, position: await retract(lineage, factKey) });
    },
  });
}

const NO_STREAM = new Refusal(
  'no_stream',
  'This server is not connected to a stream of corrections.',
);

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

/** Refuses unknown lineages and submissions that the caller may not make; null otherwise. */
function submissionRefusal(
  followed: FollowedLineages,
  request: FastifyRequest,
  submitted: { lineage: string; subject: string; id: string; idGiven: boolean },
): Refusal | null {
  const { lineage, idGiven } = submitted;
  const fault = submissionFault(callerOf(request), submitted, idGiven);
  if (fault !== null) return new Refusal('not_permitted', fault);
  return followed.get(lineage) === undefined ? unknownLineage(lineage) : null;
}

async function submitCorrection(
  submit: SubmitCorrection,
  correction: FactCorrection,
  reply: FastifyReply,
): Promise<FastifyReply | Refusal> {
  const { id, lineage, issuedAt } = correction;
  try {
    const position = await submit(correction);
    return reply
      .code(202)
      .send({ id, lineage, factKey: factKeyOf(correction), issuedAt, position });
  } catch (fault) {
    if (!(fault instanceof SchemaRegistryUnavailable)) throw fault;
    const message = 'The schema registry does not answer, so nothing was sent; try again later.';
    return new Refusal('no_schema_registry', message);
  }
}
