import type { FastifyReply } from 'fastify';

/** A signal that is aborted when the client's connection closes. */
export function clientSignal({ raw }: FastifyReply): AbortSignal {
  const left = new AbortController();
  raw.once('close', () => left.abort());
  return left.signal;
}
