/**
 * Lets a request in or refuses it, before its body is read. Every route says whom it is for, or the
 * server does not start; what a route says of its lineage is checked here, so that no handler can
 * forget it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  ANYBODY,
  identify,
  isLoopback,
  mayUse,
  NOBODY,
  type Caller,
  type Role,
  type Unidentified,
  type Users,
} from './access.ts';
import { refuse } from '../api/refusals.ts';

/**
 * Whom a route is for. The lineage is where the request names it (what is no text is left to the
 * handler to refuse), or `own`: the handler shows the caller's lineages alone, or `every`: it tells
 * of all, to callers that may see all.
 */
export type Admission =
  'anyone' | { role: Role; lineage: 'own' | 'every' | ((request: FastifyRequest) => unknown) };

declare module 'fastify' {
  interface FastifyContextConfig {
    admission?: Admission;
  }
}

/** Thrown at the start for a route that does not say whom it is for. */
export class RouteWithoutAdmission extends Error {
  override readonly name = 'RouteWithoutAdmission';
}

export function forAnyone(): { config: { admission: Admission } } {
  return { config: { admission: 'anyone' } };
}

export function forRole(
  role: Role,
  lineage: Exclude<Admission, 'anyone'>['lineage'],
): { config: { admission: Admission } } {
  return { config: { admission: { role, lineage } } };
}

/** Who asks; `NOBODY` on a route for anyone that is asked without a valid token. */
export function callerOf(request: FastifyRequest): Caller {
  return callers.get(request) ?? NOBODY;
}

export interface AdmittingRoute {
  method: string;
  url: string;
  admission: Admission;
}

/**
 * To be called before the routes are declared, which it gathers. `users` is asked at every request.
 */
export function admit(server: FastifyInstance, users: () => Users): readonly AdmittingRoute[] {
  const routes: AdmittingRoute[] = [];
  server.addHook('onRoute', ({ method, url, config }) => {
    if (config?.admission === undefined)
      throw new RouteWithoutAdmission(`${String(method)} ${url} does not say whom it is for.`);
    for (const one of [method].flat())
      routes.push({ method: one, url, admission: config.admission });
  });
  server.addHook('onRequest', async (request, reply) => {
    const { admission } = request.routeOptions.config;
    // An unknown route has nothing to guard.
    if (admission === undefined) return;
    const asking = whoAsks(request, users());
    if (admission === 'anyone') {
      callers.set(request, asking.kind === 'caller' ? asking.caller : NOBODY);
      return;
    }
    if (asking.kind !== 'caller') return refuseStranger(reply, asking);
    const { caller } = asking;
    if (!caller.roles.includes(admission.role))
      return refuseCaller(request, reply, caller, `lacks the role "${admission.role}"`);
    if (admission.lineage === 'every' && caller.lineages !== null)
      return refuseCaller(
        request,
        reply,
        caller,
        'is for some lineages only, and this tells of all',
      );
    callers.set(request, caller);
  });
  server.addHook('preHandler', async (request, reply) => {
    const { admission } = request.routeOptions.config;
    if (admission === undefined || admission === 'anyone' || typeof admission.lineage === 'string')
      return;
    const lineage = admission.lineage(request);
    const caller = callerOf(request);
    // Whether there is such a lineage is not told: it is none of the caller's either way.
    if (typeof lineage === 'string' && !mayUse(caller, lineage))
      return refuseCaller(
        request,
        reply,
        caller,
        `is not for the lineage "${lineage.slice(0, 100)}"`,
      );
  });
  return routes;
}

const callers = new WeakMap<FastifyRequest, Caller>();

type Stranger = Unidentified | { kind: 'foreign-host' | 'users-unknown' };

function whoAsks(
  request: FastifyRequest,
  users: Users,
): { kind: 'caller'; caller: Caller } | Stranger {
  switch (users.kind) {
    case 'open':
      // A web page elsewhere can have its own name lead to this machine and so ask in a visitor's
      // browser; it cannot choose the Host.
      return users.hosts === 'any' || isLoopback(request.hostname)
        ? { kind: 'caller', caller: ANYBODY }
        : { kind: 'foreign-host' };
    case 'tokens':
      return identify(users.tokens, request.headers.authorization, Date.now());
    case 'unknown':
      return { kind: 'users-unknown' };
  }
}

function refuseStranger(reply: FastifyReply, stranger: Stranger): FastifyReply {
  switch (stranger.kind) {
    case 'users-unknown':
      return refuse(
        reply,
        503,
        'users_unknown',
        'The tokens cannot be read, so nobody is let in; the log of the server says why.',
      );
    case 'foreign-host':
      return refuse(
        reply,
        403,
        'foreign_host',
        'Without tokens this server answers to the names of its own machine only (localhost, 127.0.0.1). ERRATA_HTTP_OPEN=true says that something in front of it knows the users.',
      );
    case 'no-token':
      return challenge(
        reply,
        'no_token',
        'This needs a token: send "Authorization: Bearer <token>".',
      );
    case 'malformed':
      return challenge(
        reply,
        'malformed_token',
        'This is no token: one is sent as "Authorization: Bearer errata_…", with 43 characters behind the "_".',
      );
    case 'unknown-token':
      return challenge(
        reply,
        'unknown_token',
        'The token is not known here; perhaps it was revoked.',
      );
    case 'expired':
      return challenge(reply, 'expired_token', `The token expired at ${stranger.expiresAt}.`);
  }
}

/** RFC 6750, section 3: without a token the challenge names no error. */
function challenge(reply: FastifyReply, code: string, message: string): FastifyReply {
  void reply.header(
    'www-authenticate',
    code === 'no_token' ? 'Bearer realm="errata"' : 'Bearer realm="errata", error="invalid_token"',
  );
  return refuse(reply, 401, code, message);
}

function refuseCaller(
  request: FastifyRequest,
  reply: FastifyReply,
  { name }: Caller,
  why: string,
): FastifyReply {
  request.log.warn(
    { caller: name, route: request.routeOptions.url ?? null, why },
    'A caller was refused',
  );
  return refuse(reply, 403, 'not_permitted', `The token "${name ?? ''}" ${why}.`);
}
