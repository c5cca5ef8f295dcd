/**
 * The HTTP server: routes over answers, the versions followed, and the page. It binds nothing by
 * itself.
 */
import { readFile } from 'node:fs/promises';
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { Engine } from '../model/engine/engine.ts';
import { CORRECTION_LIMITS } from '../schemas/correction.ts';
import { StoreRefused, StoreUnavailable } from '../versions/stores/failures.ts';
import type { Versions } from '../versions/versions.ts';
import { mayUse, type Users } from './access/access.ts';
import { admit, callerOf, forAnyone, forRole, type AdmittingRoute } from './access/admission.ts';
import { Answers } from './answers/answers.ts';
import { auditRoutes } from './api/audit.ts';
import { completionRoutes } from './api/completions.ts';
import { correctionRoutes, type SubmitCorrection } from './api/corrections.ts';
import { FollowedLineages, standingOf } from './answers/followed-lineages.ts';
import { lineageRoutes } from './api/lineages.ts';
import { servingMetrics } from './api/metrics.ts';
import { operationRoutes, type Operations } from './api/operations.ts';
import { retractionRoutes, type SubmitRetraction } from './api/retractions.ts';
import { refuse, refuseBytes } from './api/refusals.ts';

export interface ServingDependencies {
  engine: Engine;
  versions: Versions;
  logger: FastifyBaseLogger;
  lineages: readonly string[];
  /** Who may do what; asked at every request. */
  users: () => Users;
  /** Without it the server takes no corrections. */
  submit?: SubmitCorrection;
  /** Without it the server takes no retractions. */
  retract?: SubmitRetraction;
  /** Without it the server asks nothing of a lineage. */
  operations?: Operations;
}

export interface ServingLimits {
  /** Requests that wait for the model; past it they are refused. */
  waitingMax: number;
  bodyBytesMax: number;
  pollEveryMs: number;
  /** A request whose head and body take longer to come is cut off. */
  requestWaitMs: number;
}

export const DEFAULT_SERVING_LIMITS: ServingLimits = {
  waitingMax: 32,
  bodyBytesMax: 262_144,
  pollEveryMs: 1_000,
  requestWaitMs: 30_000,
};

const PATH_PART_CHARACTERS_MAX = 9 * CORRECTION_LIMITS.idCharactersMax;

export interface Serving {
  server: FastifyInstance;
  /** With whom each is for. */
  routes: readonly AdmittingRoute[];
  /** Reads the version logs for the first time and goes on following them. */
  start: () => Promise<void>;
  /**
   * Tells that a version may have been committed; the logs are looked at now instead of at the next
   * poll.
   */
  notify: () => Promise<void>;
  /** Takes no new requests, ends those that have begun, stops following. */
  close: () => Promise<void>;
}

export function createServing(
  dependencies: ServingDependencies,
  limits: ServingLimits = DEFAULT_SERVING_LIMITS,
): Serving {
  const { engine, versions, logger } = dependencies;
  const followed = new FollowedLineages(
    { engine, versions, logger },
    { lineages: dependencies.lineages, pollEveryMs: limits.pollEveryMs },
  );
  const answers = new Answers(engine, followed, limits.waitingMax);
  const metrics = servingMetrics(followed, engine.queue);

  const server: FastifyInstance = fastify({
    loggerInstance: logger,
    // A line per request would be most of the log; the histogram counts them.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.bodyBytesMax,
    // The id of a correction, percent-encoded.
    routerOptions: { maxParamLength: PATH_PART_CHARACTERS_MAX },
    requestTimeout: limits.requestWaitMs,
    forceCloseConnections: 'idle',
    return503OnClosing: true,
    clientErrorHandler: refuseBytes,
    // A path that cannot be decoded, or a part of it that is too long for any route.
    frameworkErrors: (fault, _, reply) =>
      void refuse(reply, fault.statusCode ?? 400, fault.code.toLowerCase(), fault.message),
  });
  server.removeContentTypeParser('text/plain');
  takeJson(server);
  server.addHook('onResponse', async (request, reply) => {
    metrics.requested(
      request.routeOptions.url ?? 'unknown',
      reply.statusCode,
      reply.elapsedTime / 1_000,
    );
  });
  server.setNotFoundHandler(refuseUnknownRoute);
  // Before the body of such a request is read for nothing.
  server.addHook('onRequest', async (request, reply) =>
    request.is404 ? refuseUnknownRoute(request, reply) : undefined,
  );
  const routes = admit(server, dependencies.users);
  server.setErrorHandler(
    (fault: Error & { statusCode?: number; code?: string }, request, reply) => {
      const status = fault.statusCode ?? 500;
      if (status < 500)
        return refuse(reply, status, (fault.code ?? 'bad_request').toLowerCase(), fault.message);
      request.log.error(
        { route: request.routeOptions.url ?? null, name: fault.name, reason: fault.message },
        'A request failed',
      );
      // What is served already needs no store; an older version, an entry or a trace does.
      if (fault instanceof StoreUnavailable || fault instanceof StoreRefused)
        return refuse(
          reply,
          503,
          'store_unavailable',
          'The store of the versions gives no answer now; the log of the server says why.',
        );
      return refuse(
        reply,
        status === 503 ? 503 : 500,
        'internal',
        'The request failed; the log of the server says why.',
      );
    },
  );

  completionRoutes(server, answers, followed, metrics);
  lineageRoutes(server, answers, followed, metrics);
  auditRoutes(server, { engine, answers });
  correctionRoutes(server, followed, dependencies.submit);
  retractionRoutes(server, followed, dependencies.retract);
  operationRoutes(server, followed, dependencies.operations);
  server.get('/healthz', forAnyone(), async () => ({ status: 'ok' }));
  server.get('/readyz', forAnyone(), async (request, reply) => {
    const lineages = followed.all().map(standingOf);
    // A fault of the store is told, but what is served already goes on being served.
    const ready = lineages.every(({ version }) => version !== null);
    const status = ready ? 'ready' : 'not ready';
    const caller = callerOf(request);
    const details = caller.roles.includes('operate')
      ? {
          lineages: lineages.filter(({ lineage }) => mayUse(caller, lineage)),
          waiting: engine.queue.waiting,
        }
      : {};
    return reply.code(ready ? 200 : 503).send({ status, ...details });
  });
  server.get('/metrics', forRole('operate', 'every'), async (_, reply) =>
    reply.type(metrics.contentType).send(await metrics.text()),
  );
  pageRoutes(server);

  return {
    server,
    routes,
    start: () => followed.start(),
    notify: () => followed.look(),
    async close() {
      await server.close();
      await followed.close();
      await engine.queue.drained();
    },
  };
}

/** JSON in UTF-8 and nothing else: what is not would be read as other words than were sent. */
function takeJson(server: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const parse = server.getDefaultJsonParser('error', 'error');
  server.removeContentTypeParser('application/json');
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    (request, body: Buffer, done) => {
      let text: string;
      try {
        text = utf8.decode(body);
      } catch {
        return done(
          Object.assign(new Error('The body is not UTF-8.'), {
            statusCode: 400,
            code: 'invalid_utf8',
          }),
        );
      }
      void parse(request, text, done);
    },
  );
}

function refuseUnknownRoute(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return refuse(
    reply,
    404,
    'unknown_route',
    `There is no ${request.method} ${request.url.split('?')[0]!.slice(0, 200)}.`,
  );
}

const PAGE: [path: string, file: string, type: string][] = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
];

function pageRoutes(server: FastifyInstance): void {
  for (const [path, file, type] of PAGE) {
    server.get(path, forAnyone(), async (_, reply) => {
      void reply.headers({
        'content-security-policy':
          "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-cache',
      });
      return reply
        .type(type)
        .send(await readFile(new URL(`page/${file}`, import.meta.url), 'utf8'));
    });
  }
}
