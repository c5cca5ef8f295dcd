/** The HTTP server: routes, followed lineages, and the page. The caller makes it listen. */
import { readFile } from 'node:fs/promises';
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import type { Engine } from '../model/engine/engine.ts';
import type { ModelQueue } from '../model/engine/model-queue.ts';
import { CORRECTION_LIMITS } from '../schemas/correction.ts';
import { StoreRefused, StoreUnavailable } from '../versions/stores/failures.ts';
import type { Versions } from '../versions/versions.ts';
import { mayUse, type Users } from './access/access.ts';
import { admit, callerOf, forAnyone, forRole, type AdmittingRoute } from './access/admission.ts';
import { Refusal, refusalBody, refuse, refuseBytes, refuseWith } from './access/refusals.ts';
import { Answers } from './answers/answers.ts';
import { auditRoutes } from './api/audit.ts';
import { completionRoutes } from './api/completions.ts';
import { FollowedLineages, lineageState } from './answers/followed-lineages.ts';
import { lineageRoutes } from './api/lineages.ts';
import { servingMetrics } from './api/metrics.ts';
import { operationRoutes, type Operations } from './api/operations.ts';
import {
  submissionRoutes,
  type SubmitCorrection,
  type SubmitRetraction,
} from './api/submissions.ts';

export interface ServingDependencies {
  engine: Engine;
  versions: Versions;
  logger: FastifyBaseLogger;
  lineages: readonly string[];
  /** Called at every request. */
  users: () => Users;
  /** If absent, the server takes no corrections. */
  submit?: SubmitCorrection;
  /** If absent, the server takes no retractions. */
  retract?: SubmitRetraction;
  /** If absent, the server does not operate lineages. */
  operations?: Operations;
}

export const DEFAULT_SERVING_LIMITS = {
  /** Maximum number of requests waiting for the model; further ones are refused. */
  waitingMax: 32,
  bodyBytesMax: 262_144,
  pollEveryMs: 1_000,
  /** Maximum time for a request's headers and body to arrive. */
  requestWaitMs: 30_000,
};

export type ServingLimits = typeof DEFAULT_SERVING_LIMITS;

/** Fits the id of a correction, percent-encoded. */
const PATH_PART_CHARACTERS_MAX = 9 * CORRECTION_LIMITS.idCharactersMax;

export interface Serving {
  server: FastifyInstance;
  /** Every route and its permitted users. */
  routes: readonly AdmittingRoute[];
  /** Reads the version logs and follows them from then on. */
  start: () => Promise<void>;
  /** Reads the version logs now instead of at the next poll. */
  notify: () => Promise<void>;
  /** Accepts no new requests, finishes those in progress, and stops following. */
  close: () => Promise<void>;
}

export function createServing(
  dependencies: ServingDependencies,
  limits: ServingLimits = DEFAULT_SERVING_LIMITS,
): Serving {
  const { engine, versions, logger, lineages } = dependencies;
  const { waitingMax, pollEveryMs } = limits;
  const followed = new FollowedLineages({ engine, versions, logger }, { lineages, pollEveryMs });
  const answers = new Answers(engine, followed, waitingMax);
  const metrics = servingMetrics(followed, engine.queue);
  const server = httpServer(logger, limits);
  takeJson(server);
  server.addHook('onResponse', async ({ routeOptions: { url } }, { statusCode, elapsedTime }) => {
    metrics.requested(url ?? 'unknown', statusCode, elapsedTime / 1_000);
  });
  server.addHook('preSerialization', async (_, reply, payload) =>
    payload instanceof Refusal ? refusalBody(reply, payload) : payload,
  );
  server.setNotFoundHandler(refuseUnknownRoute);
  // Refuses before the body is read in vain.
  server.addHook('onRequest', async (request, reply) =>
    request.is404 ? refuseUnknownRoute(request, reply) : undefined,
  );
  server.setErrorHandler(refuseFault);
  const routes = admit(server, dependencies.users);
  completionRoutes(server, answers, followed, metrics);
  lineageRoutes(server, answers, followed, metrics);
  auditRoutes(server, { engine, answers });
  submissionRoutes(server, followed, dependencies);
  operationRoutes(server, followed, dependencies.operations);
  healthRoutes(server, followed, engine.queue);
  server.get('/metrics', forRole('operate', 'every'), async (_, reply) =>
    reply.type(metrics.contentType).send(await metrics.text()),
  );
  pageRoutes(server);
  return {
    server,
    routes,
    start: () => followed.look(),
    notify: () => followed.look(),
    async close() {
      await server.close();
      await followed.close();
      await engine.queue.drained();
    },
  };
}

function httpServer(
  logger: FastifyBaseLogger,
  { bodyBytesMax, requestWaitMs }: ServingLimits,
): FastifyInstance {
  const server: FastifyInstance = fastify({
    loggerInstance: logger,
    // One line per request would dominate the log; the histogram counts them.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: bodyBytesMax,
    routerOptions: { maxParamLength: PATH_PART_CHARACTERS_MAX },
    requestTimeout: requestWaitMs,
    forceCloseConnections: 'idle',
    return503OnClosing: true,
    clientErrorHandler: refuseBytes,
    // A path that cannot be decoded, or has a part too long for any route.
    frameworkErrors: (fault, _, reply) => void refuseWith(reply, fault.statusCode ?? 400, fault),
  });
  server.removeContentTypeParser('text/plain');
  return server;
}

function refuseFault(
  fault: Error & { statusCode?: number; code?: string },
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  const { statusCode: status = 500, code = 'bad_request', message, name } = fault;
  if (status < 500) return refuseWith(reply, status, { code, message });
  const route = request.routeOptions.url ?? null;
  request.log.error({ route, name, reason: message }, 'A request failed');
  // The served version needs no store, but an older version, an entry or a trace does.
  if (fault instanceof StoreUnavailable || fault instanceof StoreRefused)
    return refuse(reply, STORE_UNAVAILABLE);
  return refuseWith(reply, status === 503 ? 503 : 500, {
    code: 'internal',
    message: 'The request failed; the log of the server says why.',
  });
}

const STORE_UNAVAILABLE = new Refusal(
  'store_unavailable',
  'The store of the versions does not answer; the log of the server says why.',
);

function healthRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  queue: ModelQueue,
): void {
  server.get('/healthz', forAnyone(), async () => ({ status: 'ok' }));
  server.get('/readyz', forAnyone(), async (request, reply) => {
    const states = followed.all().map(lineageState);
    // During a store fault, the served version still answers.
    const ready = states.every(({ version }) => version !== null);
    const status = ready ? 'ready' : 'not ready';
    const caller = callerOf(request);
    if (!caller.roles.includes('operate')) return reply.code(ready ? 200 : 503).send({ status });
    const lineages = states.filter(({ lineage }) => mayUse(caller, lineage));
    return reply.code(ready ? 200 : 503).send({ status, lineages, waiting: queue.waiting });
  });
}

/** Accepts only JSON in UTF-8; other encodings would be read as different text. */
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
        const fault = { statusCode: 400, code: 'invalid_utf8' };
        return done(Object.assign(new Error('The body is not UTF-8.'), fault));
      }
      void parse(request, text, done);
    },
  );
}

function refuseUnknownRoute(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?')[0]!.slice(0, 200);
  return refuse(reply, new Refusal('unknown_route', `There is no ${request.method} ${path}.`));
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
      const content = await readFile(new URL(`page/${file}`, import.meta.url), 'utf8');
      return reply.type(type).send(content);
    });
  }
}
