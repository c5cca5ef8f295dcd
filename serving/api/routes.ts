/** Routes in one shape: the URL, who may use it, the input's schema, and a handler. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import { faultsFound, firstFaults } from '../../schemas/encoding/excerpt.ts';
import type { Role } from '../access/access.ts';
import { forRole } from '../access/admission.ts';
import { Refusal } from '../access/refusals.ts';

interface Route<Input> {
  role: Role;
  /** Finds the lineage in the request; the caller must have permission for it. */
  lineage: (request: FastifyRequest) => unknown;
  /** The schema of a POST's body, or of a GET's query. */
  input: z.ZodType<Input>;
  /** Returns the body of the answer, a refusal, or the reply itself if already sent. */
  handle: (input: Input, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
}

export function route<Input>(
  server: FastifyInstance,
  method: 'GET' | 'POST',
  url: string,
  { role, lineage, input, handle }: Route<Input>,
): void {
  server.route({
    method,
    url,
    ...forRole(role, lineage),
    handler: async (request, reply) => {
      const checked = input.safeParse((method === 'GET' ? request.query : request.body) ?? {});
      if (checked.success) return await handle(checked.data, request, reply);
      const path = checked.error.issues[0]?.path.join('.') || null;
      return new Refusal('invalid_body', firstFaults(faultsFound(checked.error)), path);
    },
  });
}

export const lineageInBody = ({ body }: FastifyRequest): unknown =>
  (body as { lineage?: unknown } | null)?.lineage;

export const lineageInPath = ({ params }: FastifyRequest): string =>
  (params as { lineage: string }).lineage;

/** Returns a signal that is aborted when the client's connection closes. */
export function clientSignal({ raw }: FastifyReply): AbortSignal {
  const left = new AbortController();
  raw.once('close', () => left.abort());
  return left.signal;
}
