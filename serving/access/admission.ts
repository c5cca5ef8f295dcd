/**
 * Admits a request or refuses it, before its body is read. Every route declares who may use it, or
 * the server does not start; the caller's lineages are checked here too, so that no handler can
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
import { refuse, type RefusalCode } from '../api/refusals.ts';

/**
 * Who may use a route. `lineage` finds the lineage in the request (the handler refuses what is not
 * text), or is `own`: the handler shows only the caller's lineages, or `every`: the route shows all
 * of them, to callers that may see all.
 */
export type Admission =
  'anyone' | { role: Role; lineage: 'own' | 'every' | ((request: FastifyRequest) => unknown) };

declare module 'fastify' {
  interface FastifyContextConfig {
    admission?: Admission;
  }
}

/** Thrown at the start for a route that does not declare who may use it. */
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

/** The caller; `NOBODY` on a route for anyone that is used without a valid token. */
export function callerOf(request: FastifyRequest): Caller {
  return callers.get(request) ?? NOBODY;
}

export interface AdmittingRoute {
  method: string;
  url: string;
  admission: Admission;
}

/**
 * Guards and gathers the routes that are declared after it; `users` is called at every request.
 */
export function admit(server: FastifyInstance, users: () => Users): readonly AdmittingRoute[] {
  const routes: AdmittingRoute[] = [];
  server.addHook('onRoute', ({ method, url, config }) => {
    if (config?.admission === undefined)
      throw new RouteWithoutAdmission(`${String(method)} ${url} does not declare who may use it.`);
    for (const one of [method].flat())
      routes.push({ method: one, url, admission: config.admission });
  });
  server.addHook('onRequest', async (request, reply) => {
    const { admission } = request.routeOptions.config;
    // An unknown route, which has nothing to guard.
    if (admission === undefined) return;
    const identity = identityOf(request, users());
    if (admission === 'anyone') {
      callers.set(request, identity.kind === 'caller' ? identity.caller : NOBODY);
      return;
    }
    if (identity.kind !== 'caller') return refuseStranger(reply, identity);
    const { caller } = identity;
    if (!caller.roles.includes(admission.role))
      return refuseCaller(request, reply, `lacks the role "${admission.role}"`, caller);
    if (admission.lineage === 'every' && caller.lineages !== null)
      return refuseCaller(request, reply, 'is for some lineages only, and this shows all', caller);
    callers.set(request, caller);
  });
  server.addHook('preHandler', async (request, reply) => {
    const { admission } = request.routeOptions.config;
    if (admission === undefined || admission === 'anyone' || typeof admission.lineage === 'string')
      return;
    const lineage = admission.lineage(request);
    // Refused alike whether there is such a lineage or not, so that a caller does not learn it.
    if (typeof lineage === 'string' && !mayUse(callerOf(request), lineage))
      return refuseCaller(request, reply, `is not for the lineage "${lineage.slice(0, 100)}"`);
  });
  return routes;
}

const callers = new WeakMap<FastifyRequest, Caller>();

type Stranger = Unidentified | { kind: 'foreign-host' | 'users-unknown' };

function identityOf(
  request: FastifyRequest,
  users: Users,
): { kind: 'caller'; caller: Caller } | Stranger {
  switch (users.kind) {
    case 'open':
      // A web page elsewhere can resolve its own name to this machine and so send requests from a
      // visitor's browser (DNS rebinding), but cannot choose the Host header.
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
        'users_unknown',
        'The tokens cannot be read, so nobody is admitted; the log of the server says why.',
      );
    case 'foreign-host':
      return refuse(
        reply,
        'foreign_host',
        'Without tokens this server answers only to the names of its own machine (localhost, ' +
          '127.0.0.1). Set ERRATA_HTTP_OPEN=true if a proxy in front authenticates the users.',
      );
    case 'no-token':
      return challenge(reply, 'no_token', 'Send a token: "Authorization: Bearer <token>".');
    case 'malformed':
      return challenge(
        reply,
        'malformed_token',
        'This is not a token: one is sent as "Authorization: Bearer errata_…", with 43 ' +
          'characters behind the "_".',
      );
    case 'unknown-token':
      return challenge(reply, 'unknown_token', 'The token is unknown; it may have been revoked.');
    case 'expired':
      return challenge(reply, 'expired_token', `The token expired at ${stranger.expiresAt}.`);
  }
}

/** Refuses with a challenge (RFC 6750, section 3), which names no error where no token was sent. */
function challenge(reply: FastifyReply, code: RefusalCode, message: string): FastifyReply {
  const error = code === 'no_token' ? '' : ', error="invalid_token"';
  void reply.header('www-authenticate', `Bearer realm="errata"${error}`);
  return refuse(reply, code, message);
}

function refuseCaller(
  request: FastifyRequest,
  reply: FastifyReply,
  why: string,
  { name }: Caller = callerOf(request),
): FastifyReply {
  const route = request.routeOptions.url ?? null;
  request.log.warn({ caller: name, route, why }, 'A caller was refused');
  return refuse(reply, 'not_permitted', `The token "${name ?? ''}" ${why}.`);
}
