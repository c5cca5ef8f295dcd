/** Refusals as values, and in the form that OpenAI clients expect. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import { onOneLine } from '../../schemas/encoding/excerpt.ts';

/** HTTP status by refusal code. */
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
  // The connection is closed, so nobody receives this.
  client_left: 499,
  not_ready: 503,
  no_stream: 503,
  no_schema_registry: 503,
  no_operations: 503,
  operations_unavailable: 503,
  store_unavailable: 503,
  users_unknown: 503,
} as const;

/** An expected refusal; every handler may return one instead of an answer. */
export class Refusal {
  constructor(
    readonly code: keyof typeof STATUS,
    readonly message: string,
    readonly param: string | null = null,
  ) {}
}

const TYPES: Record<number, string> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'overloaded_error',
};

/** Retry delay for clients refused because the server is busy or not ready. */
const RETRY_AFTER_SECONDS = 1;

/** Bounds of request text repeated in a refusal. */
export const REFUSAL_LIMITS = { messageCharactersMax: 1_000, parameterCharactersMax: 100 } as const;

export function refuse(reply: FastifyReply, refusal: Refusal): FastifyReply {
  return reply.send(refusalBody(reply, refusal));
}

/** Sets the status of a refusal and returns its body. */
export function refusalBody(reply: FastifyReply, { code, message, param }: Refusal): ErrorBody {
  setStatus(reply, STATUS[code]);
  if (STATUS[code] === 401) {
    // RFC 6750, section 3: the challenge names no error if no token was sent.
    const error = code === 'no_token' ? '' : ', error="invalid_token"';
    void reply.header('www-authenticate', `Bearer realm="errata"${error}`);
  }
  return errorBody(STATUS[code], code, message, param);
}

/** Refuses with the web framework's status and code. */
export function refuseWith(
  reply: FastifyReply,
  status: number,
  { code, message }: { code: string; message: string },
): FastifyReply {
  setStatus(reply, status);
  return reply.send(errorBody(status, code.toLowerCase(), message));
}

function setStatus(reply: FastifyReply, status: number): void {
  if (status === 429 || status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
  void reply.code(status);
}

/** Answers bytes that are not a request, if the connection still permits it. */
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

/** Status and message by Node's error code. */
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
