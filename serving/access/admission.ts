/**
 * Admits or refuses a request before its body is read. Every route declares who may use it, or the
 * server does not start. The caller's lineages are also checked here, so that no handler can forget
 * it.
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
  type Users,
} from './access.ts';
import { refuse, Refusal } from './refusals.ts';

/**
 * The users of a route. A function for `lineage` finds the lineage in the request (the handler
 * refuses non-text). `own`: the handler shows only the caller's lineages. `every`: the route shows
 * all lineages, to callers permitted to see all.
 */
type Admission =
  'anyone' | { role: Role; lineage: 'own' | 'every' | ((request: FastifyRequest) => unknown) };

declare module 'fastify' {
  interface FastifyContextConfig {
    admission?: Admission;
  }
}

/** Thrown at start-up for a route that does not declare who may use it. */
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

/** Returns the caller; `NOBODY` on a public route without a valid token. */
export function callerOf(request: FastifyRequest): Caller {
  return callers.get(request) ?? NOBODY;
}

export interface AdmittingRoute {
  method: string;
  url: string;
  admission: Admission;
}

/** Guards and collects the routes declared after it; `users` is called for every request. */
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
    // An unknown route needs no guard.
    if (admission === undefined) return;
    const caller = identityOf(request, users());
    if (!(caller instanceof Refusal)) callers.set(request, caller);
    if (admission === 'anyone') return;
    if (caller instanceof Refusal) return refuse(reply, caller);
    if (!caller.roles.includes(admission.role))
      return refuseCaller(request, reply, `lacks the role "${admission.role}"`);
    if (admission.lineage === 'every' && caller.lineages !== null)
      return refuseCaller(request, reply, 'is for some lineages only, and this shows all');
  });
  server.addHook('preHandler', async (request, reply) => {
    const { admission } = request.routeOptions.config;
    if (admission === undefined || admission === 'anyone' || typeof admission.lineage === 'string')
      return;
    const lineage = admission.lineage(request);
    // The refusal is the same whether the lineage exists or not, so that it reveals nothing.
    if (typeof lineage === 'string' && !mayUse(callerOf(request), lineage))
      return refuseCaller(request, reply, `is not for the lineage "${lineage.slice(0, 100)}"`);
  });
  return routes;
}

const callers = new WeakMap<FastifyRequest, Caller>();

function identityOf(request: FastifyRequest, users: Users): Caller | Refusal {
  switch (users.kind) {
    case 'open':
      // A foreign web page can resolve its own name to this machine and so send requests from a
      // visitor's browser (DNS rebinding), but cannot choose the Host header.
      return users.hosts === 'any' || isLoopback(request.hostname) ? ANYBODY : FOREIGN_HOST;
    case 'tokens':
      return identify(users.tokens, request.headers.authorization, Date.now());
    case 'unknown':
      return USERS_UNKNOWN;
  }
}

const FOREIGN_HOST = new Refusal(
  'foreign_host',
  'Without tokens this server answers only to the names of its own machine (localhost, ' +
    '127.0.0.1). Set ERRATA_HTTP_OPEN=true if a proxy in front authenticates the users.',
);
const USERS_UNKNOWN = new Refusal(
  'users_unknown',
  'The tokens cannot be read, so nobody is admitted; the log of the server says why.',
);

function refuseCaller(request: FastifyRequest, reply: FastifyReply, why: string): FastifyReply {
  const { name } = callerOf(request);
  const route = request.routeOptions.url ?? null;
  request.log.warn({ caller: name, route, why }, 'A caller was refused');
  return refuse(reply, new Refusal('not_permitted', `The token "${name ?? ''}" ${why}.`));
}
