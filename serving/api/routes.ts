/** Routes as one shape: the URL, who may use it, the schema of its body, and a handler. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { Role } from '../access/access.ts';
import { forRole } from '../access/admission.ts';
import { refuseBody } from './refusals.ts';

export interface Post<Body> {
  role: Role;
  /** Finds the lineage in the request, for which the caller must be permitted. */
  lineage: (request: FastifyRequest) => unknown;
  body: z.ZodType<Body>;
  /** Returns the body of the answer, or the reply itself where it was sent. */
  handle: (body: Body, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
}

/** Declares a POST route; a body that does not fit its schema is refused. */
export function post<Body>(
  server: FastifyInstance,
  url: string,
  { role, lineage, body, handle }: Post<Body>,
): void {
  server.post(url, forRole(role, lineage), async (request, reply) => {
    const checked = body.safeParse(request.body ?? {});
    return checked.success
      ? await handle(checked.data, request, reply)
      : refuseBody(reply, checked.error);
  });
}

export const lineageInBody = ({ body }: FastifyRequest): unknown =>
  (body as { lineage?: unknown } | null)?.lineage;

export const lineageInPath = ({ params }: FastifyRequest): string =>
  (params as { lineage: string }).lineage;
