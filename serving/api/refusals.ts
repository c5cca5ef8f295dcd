/** Refusals, in the form that clients of OpenAI's interface read. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import type { z } from 'zod';
import { firstFaults, onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Unanswered } from '../answers/answers.ts';

/** Why a request is refused, and the status that says so. */
const STATUS = {
  invalid_body: 400,
  invalid_correction: 400,
  invalid_version: 400,
  unsuitable_prompt: 400,
  no_token: 401,
  malformed_token: 401,
  unknown_token: 401,
  expired_token: 401,
  not_permitted: 403,
  foreign_host: 403,
  unknown_route: 404,
  unknown_model: 404,
  unknown_lineage: 404,
  unknown_version: 404,
  unknown_alias: 404,
  unknown_correction: 404,
  unknown_undo: 404,
  nothing_to_undo: 409,
  alias_not_moved: 409,
  undo_refused: 409,
  too_many_waiting: 429,
  not_ready: 503,
  no_stream: 503,
  no_schema_registry: 503,
  no_operations: 503,
  operations_unavailable: 503,
  store_unavailable: 503,
  users_unknown: 503,
} as const;

export type RefusalCode = keyof typeof STATUS;

const TYPES: Record<number, string> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'overloaded_error',
};

/** How soon a client may try again that was refused because the server is busy or not ready. */
const RETRY_AFTER_SECONDS = 1;

/** Bounds of what a refusal repeats of a request. */
export const REFUSAL_LIMITS = { messageCharactersMax: 1_000, parameterCharactersMax: 100 } as const;

export function refuse(
  reply: FastifyReply,
  code: RefusalCode,
  message: string,
  param: string | null = null,
): FastifyReply {
  return send(reply, STATUS[code], errorBody(STATUS[code], code, message, param));
}

/** Refuses with a status and code of the framework's. */
export function refuseWith(
  reply: FastifyReply,
  status: number,
  { code, message }: { code: string; message: string },
): FastifyReply {
  return send(reply, status, errorBody(status, code.toLowerCase(), message));
}

function send(reply: FastifyReply, status: number, body: object): FastifyReply {
  if (status === 429 || status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
  return reply.code(status).send(body);
}

/** Answers bytes that are not a request, where the connection still permits it. */
export function refuseBytes(fault: NodeJS.ErrnoException, socket: Socket): void {
  if (fault.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const [status, message] = UNREADABLE[fault.code ?? ''] ?? [400, 'This is not an HTTP request.'];
  const body = JSON.stringify(errorBody(status, 'unreadable_request', message));
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  );
}

/** Answers to unreadable requests, by Node's code of the fault. */
const UNREADABLE: Record<string, [status: number, message: string]> = {
  HPE_HEADER_OVERFLOW: [431, 'The headers of the request are too large.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'The request did not arrive in time.'],
};

export type ErrorBody = ReturnType<typeof errorBody>;

function errorBody(status: number, code: string, message: string, param: string | null = null) {
  const { messageCharactersMax, parameterCharactersMax } = REFUSAL_LIMITS;
  return {
    error: {
      message: onOneLine(message, messageCharactersMax),
      type: TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error'),
      param: param === null ? null : onOneLine(param, parameterCharactersMax),
      code,
    },
  };
}

export function refuseBody(reply: FastifyReply, { issues }: z.ZodError): FastifyReply {
  const faults = issues.map(({ path, message }) =>
    path.length > 0 ? `${path.join('.')}: ${message}` : message,
  );
  return refuse(reply, 'invalid_body', firstFaults(faults), issues[0]?.path.join('.') || null);
}

export function refuseUnanswered(reply: FastifyReply, unanswered: Unanswered): FastifyReply {
  const lineage = 'lineage' in unanswered ? `Lineage "${unanswered.lineage}"` : '';
  switch (unanswered.kind) {
    case 'unknown-lineage': {
      const message = `There is no lineage "${unanswered.lineage}"; GET /v1/models lists them.`;
      return refuse(reply, 'unknown_lineage', message, 'model');
    }
    case 'unknown-version': {
      const message = `no version ${unanswered.version}; its newest is ${unanswered.head}`;
      return refuse(reply, 'unknown_version', `${lineage} has ${message}.`, 'model');
    }
    case 'unknown-alias': {
      const message = `no alias "${unanswered.alias}"; it has ${unanswered.aliases.join(', ')}`;
      return refuse(reply, 'unknown_alias', `${lineage} has ${message}.`, 'model');
    }
    case 'not-ready':
      return refuse(reply, 'not_ready', `${lineage} cannot answer yet: ${unanswered.reason}.`);
    case 'unsuitable-prompt': {
      const message = `The model cannot read this prompt: ${unanswered.reason}.`;
      return refuse(reply, 'unsuitable_prompt', message, 'prompt');
    }
    case 'full': {
      const message = `${unanswered.waiting} requests wait already; try again in a moment.`;
      return refuse(reply, 'too_many_waiting', message);
    }
    case 'gone':
      // The connection is closed, so this reaches nobody.
      return reply.code(499).send();
  }
}
