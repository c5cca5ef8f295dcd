/** Routes as one shape: the URL, who may use it, the schema of what is sent, and a handler. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { Role } from '../access/access.ts';
import { forRole } from '../access/admission.ts';
import { refuseBody } from './refusals.ts';

export interface Route<Input> {
  role: Role;
  /** Finds the lineage in the request, for which the caller must be permitted. */
  lineage: (request: FastifyRequest) => unknown;
  /** The schema of a POST's body, or of a GET's query. */
  input: z.ZodType<Input>;
  /** Returns the body of the answer, or the reply itself where it was sent. */
  handle: (input: Input, request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
}

export function get<Input>(server: FastifyInstance, url: string, route: Route<Input>): void {
  server.get(
    url,
    forRole(route.role, route.lineage),
    handlerOf(route, ({ query }) => query),
  );
}

export function post<Input>(server: FastifyInstance, url: string, route: Route<Input>): void {
  server.post(
    url,
    forRole(route.role, route.lineage),
    handlerOf(route, ({ body }) => body),
  );
}

function handlerOf<Input>(
  { input, handle }: Route<Input>,
  sentIn: (request: FastifyRequest) => unknown,
) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const checked = input.safeParse(sentIn(request) ?? {});
    return checked.success
      ? await handle(checked.data, request, reply)
      : refuseBody(reply, checked.error);
  };
}

export const lineageInBody = ({ body }: FastifyRequest): unknown =>
  (body as { lineage?: unknown } | null)?.lineage;

export const lineageInPath = ({ params }: FastifyRequest): string =>
  (params as { lineage: string }).lineage;

/** A signal that is aborted when the client's connection closes. */
export function clientSignal({ raw }: FastifyReply): AbortSignal {
  const left = new AbortController();
  raw.once('close', () => left.abort());
  return left.signal;
}
