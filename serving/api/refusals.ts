/**
 * What a caller is told when there is no answer, in the form that clients of OpenAI's interface
 * read.
 */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import type { z } from 'zod';
import { firstFaults, onOneLine } from '../../schemas/encoding/excerpt.ts';
import type { Unanswered } from '../answers/answers.ts';

export interface ErrorBody {
  error: {
    message: string;
    type:
      | 'invalid_request_error'
      | 'authentication_error'
      | 'permission_error'
      | 'not_found_error'
      | 'server_error'
      | 'overloaded_error';
    param: string | null;
    code: string;
  };
}

const TYPES: Record<number, ErrorBody['error']['type']> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'overloaded_error',
};

/** Told to a client whose request was refused because too many wait. */
const RETRY_AFTER_SECONDS = 1;

/** What a refusal says of a request that has more wrong with it than anybody reads. */
export const REFUSAL_LIMITS = { messageCharactersMax: 1_000, parameterCharactersMax: 100 } as const;

export function refuse(
  reply: FastifyReply,
  status: number,
  code: string,
  message: string,
  param: string | null = null,
): FastifyReply {
  if (status === 429 || status === 503) void reply.header('retry-after', RETRY_AFTER_SECONDS);
  return reply.code(status).send(errorBody(status, code, message, param));
}

/** Tells whoever sent bytes that are no request, where the connection still lets it. */
export function refuseBytes(fault: NodeJS.ErrnoException, socket: Socket): void {
  if (fault.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const { status, message } = UNREADABLE[fault.code ?? ''] ?? {
    status: 400,
    message: 'This is no HTTP request.',
  };
  const body = JSON.stringify(errorBody(status, 'unreadable_request', message, null));
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

/** By Node's name for what went wrong. */
const UNREADABLE: Record<string, { status: number; message: string }> = {
  HPE_HEADER_OVERFLOW: { status: 431, message: 'The head of the request is larger than is read.' },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, message: 'The request did not come in time.' },
};

function errorBody(status: number, code: string, message: string, param: string | null): ErrorBody {
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error');
  const { messageCharactersMax, parameterCharactersMax } = REFUSAL_LIMITS;
  return {
    error: {
      message: onOneLine(message, messageCharactersMax),
      type,
      param: param === null ? null : onOneLine(param, parameterCharactersMax),
      code,
    },
  };
}

export function refuseBody(reply: FastifyReply, fault: z.ZodError): FastifyReply {
  const words = fault.issues.map((issue) =>
    issue.path.length > 0 ? `${issue.path.join('.')}: ${issue.message}` : issue.message,
  );
  return refuse(
    reply,
    400,
    'invalid_body',
    firstFaults(words),
    fault.issues[0]?.path.join('.') || null,
  );
}

export function refuseUnanswered(reply: FastifyReply, unanswered: Unanswered): FastifyReply {
  switch (unanswered.kind) {
    case 'unknown-lineage':
      return refuse(
        reply,
        404,
        'unknown_lineage',
        `There is no lineage "${unanswered.lineage}"; GET /v1/models lists what there is.`,
        'model',
      );
    case 'unknown-version':
      return refuse(
        reply,
        404,
        'unknown_version',
        `Lineage "${unanswered.lineage}" has no version ${unanswered.version}; its newest is ${unanswered.head}.`,
        'model',
      );
    case 'unknown-alias':
      return refuse(
        reply,
        404,
        'unknown_alias',
        `Lineage "${unanswered.lineage}" has no alias "${unanswered.alias}"; it has ${unanswered.aliases.join(', ')}.`,
        'model',
      );
    case 'not-ready':
      return refuse(
        reply,
        503,
        'not_ready',
        `Lineage "${unanswered.lineage}" cannot answer yet: ${unanswered.reason}.`,
      );
    case 'unsuitable-prompt':
      return refuse(
        reply,
        400,
        'unsuitable_prompt',
        `The model cannot take this prompt: ${unanswered.reason}.`,
        'prompt',
      );
    case 'full':
      return refuse(
        reply,
        429,
        'too_many_waiting',
        `${unanswered.waiting} requests wait already; try again in a moment.`,
      );
    case 'gone':
      // The connection is closed; whatever is sent reaches nobody.
      return reply.code(499).send();
  }
}
