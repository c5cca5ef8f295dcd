/**
 * What an operator does to a lineage over HTTP: freeze, resume, revert, rollback, and what became
 * of it. Who carries it out is not known here; an undo is asked for and goes on by itself. A
 * rollback moves the alias first, in the version log, so that this server answers with the version
 * at once whatever else is down.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { STABLE_ALIAS } from '../../schemas/alias.ts';
import {
  undoRequestSchema,
  type UndoRequest,
  type UndoResult,
  type UndoTarget,
} from '../../schemas/undo.ts';
import { undoOf } from '../../versions/undo.ts';
import { callerOf, forRole } from '../access/admission.ts';
import type { FollowedLineage, FollowedLineages } from '../answers/followed-lineages.ts';
import { refuse, refuseBody, refuseUnanswered } from './refusals.ts';

/** Whom the lineages obey. What it cannot do now it says by `OperationsUnavailable`. */
export interface Operations {
  freeze(lineage: string, reason: string): Promise<void>;
  resume(lineage: string): Promise<void>;
  undo(
    lineage: string,
    request: UndoRequest,
    releaseAlias: string | null,
  ): Promise<
    | { kind: 'taken'; workflowId: string; waiting: number | null }
    | { kind: 'refused'; reason: string }
  >;
  undoState(lineage: string, id: string): Promise<UndoState>;
  /** The id of the word on the alias that a rollback begins with, and that its undo takes back. */
  rollbackMoveId(id: string): string;
}

/** `unknown`: it waits without being known yet, or was never asked for. */
export type UndoState =
  | { state: 'waiting' | 'running' | 'unknown' }
  | { state: 'ended'; result: UndoResult }
  | { state: 'failed'; reason: string };

export class OperationsUnavailable extends Error {
  override readonly name = 'OperationsUnavailable';
}

const ID = undoRequestSchema.shape.id;
const reason = z.string().max(1_000).default('');
const freezeBody = z.strictObject({ reason });
const revertBody = z
  .strictObject({
    version: z.number().int().positive().optional(),
    correctionId: z.string().min(1).max(400).optional(),
    reason,
    id: ID.optional(),
    dryRun: z.boolean().default(false),
  })
  .refine(({ version, correctionId }) => (version === undefined) !== (correctionId === undefined), {
    message: 'give a version or a correctionId',
  });
const rollbackBody = z.strictObject({
  to: z.number().int().nonnegative(),
  reason,
  id: ID.optional(),
  freeze: z.boolean().default(false),
  keepAlias: z.boolean().default(false),
  dryRun: z.boolean().default(false),
});

interface InLineage {
  Params: { lineage: string };
}

export function operationRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  operations: Operations | undefined,
): void {
  const route = forRole(
    'operate',
    ({ params }: FastifyRequest) => (params as { lineage: string }).lineage,
  );

  /** The lineage, and whom it obeys; or the refusal was sent. */
  const obeying = (
    lineage: string,
    reply: FastifyReply,
  ): { operations: Operations; followed: FollowedLineage } | null => {
    const found = followed.get(lineage);
    if (found === undefined) refuseUnanswered(reply, { kind: 'unknown-lineage', lineage });
    else if (operations === undefined)
      refuse(
        reply,
        503,
        'no_operations',
        'This server knows no Temporal, so it can ask nothing of a lineage.',
      );
    else return { operations, followed: found };
    return null;
  };

  server.post<InLineage>('/v1/lineages/:lineage/freeze', route, async (request, reply) => {
    const body = freezeBody.safeParse(request.body ?? {});
    if (!body.success) return refuseBody(reply, body.error);
    const { lineage } = request.params;
    const found = obeying(lineage, reply);
    if (found === null) return reply;
    const by = nameOf(request);
    return await told(reply, '', async () => {
      await found.operations.freeze(
        lineage,
        body.data.reason === '' ? `frozen by ${by}` : `${body.data.reason} (${by})`,
      );
      return reply.code(202).send({ lineage, frozen: true });
    });
  });

  server.post<InLineage>('/v1/lineages/:lineage/resume', route, async (request, reply) => {
    const { lineage } = request.params;
    const found = obeying(lineage, reply);
    if (found === null) return reply;
    return await told(reply, '', async () => {
      await found.operations.resume(lineage);
      return reply.code(202).send({ lineage, frozen: false });
    });
  });

  server.post<InLineage>('/v1/lineages/:lineage/revert', route, async (request, reply) => {
    const body = revertBody.safeParse(request.body);
    if (!body.success) return refuseBody(reply, body.error);
    const { version, correctionId, dryRun } = body.data;
    const { lineage } = request.params;
    const found = obeying(lineage, reply);
    if (found === null) return reply;
    const target: UndoTarget =
      version === undefined
        ? { kind: 'correction', id: correctionId! }
        : { kind: 'version', version };
    if (dryRun) return await findingsOf(found.followed, target);
    // With an id it may be one that was done already: that is for the lineage to know.
    if (body.data.id === undefined) {
      const { nothing } = await findingsOf(found.followed, target);
      if (nothing !== null)
        return refuse(reply, 409, 'nothing_to_undo', `Nothing to undo: ${nothing}.`);
    }
    return await told(reply, '', () =>
      undo(reply, found.operations, lineage, requestOf(request, target, body.data), null),
    );
  });

  server.post<InLineage>('/v1/lineages/:lineage/rollback', route, async (request, reply) => {
    const body = rollbackBody.safeParse(request.body);
    if (!body.success) return refuseBody(reply, body.error);
    const { to, freeze, keepAlias, dryRun } = body.data;
    const { lineage } = request.params;
    const found = obeying(lineage, reply);
    if (found === null) return reply;
    const target: UndoTarget = { kind: 'rollback', version: to };
    if (dryRun) return await findingsOf(found.followed, target);
    const order = requestOf(request, target, body.data);
    const by = order.requestedBy;
    const moved = await found.followed.log.moveAlias({
      alias: STABLE_ALIAS,
      version: to,
      reason: order.reason === '' ? `rollback to version ${to}` : order.reason,
      by,
      id: found.operations.rollbackMoveId(order.id),
    });
    if (moved.kind !== 'moved')
      return refuse(
        reply,
        409,
        'alias_not_moved',
        moved.kind === 'refused' ? `${moved.reason}.` : 'Another moved the alias.',
      );
    await followed.look();
    return await told(
      reply,
      `Answers come from version ${to}. Ask again with the id "${order.id}" to finish the rollback: `,
      async () => {
        if (freeze)
          await found.operations.freeze(
            lineage,
            `rollback to version ${to} (${by})${order.reason === '' ? '' : `: ${order.reason}`}`,
          );
        return await undo(reply, found.operations, lineage, order, keepAlias ? null : STABLE_ALIAS);
      },
    );
  });

  server.get<{ Params: { lineage: string; id: string } }>(
    '/v1/lineages/:lineage/undos/:id',
    route,
    async (request, reply) => {
      const { lineage, id } = request.params;
      const found = obeying(lineage, reply);
      if (found === null) return reply;
      if (!ID.safeParse(id).success)
        return refuse(
          reply,
          404,
          'unknown_undo',
          'There is no such undo: ids are 1 to 64 of a-z, 0-9, - and _.',
        );
      return await told(reply, '', async () => {
        const state = await found.operations.undoState(lineage, id);
        if (state.state === 'unknown')
          return refuse(reply, 404, 'unknown_undo', `Lineage "${lineage}" knows no undo "${id}".`);
        return reply.send({ id, lineage, ...state });
      });
    },
  );
}

async function undo(
  reply: FastifyReply,
  operations: Operations,
  lineage: string,
  request: UndoRequest,
  releaseAlias: string | null,
): Promise<FastifyReply> {
  const answer = await operations.undo(lineage, request, releaseAlias);
  if (answer.kind === 'refused') return refuse(reply, 409, 'undo_refused', `${answer.reason}.`);
  const { workflowId, waiting } = answer;
  return reply
    .code(202)
    .header('location', `/v1/lineages/${lineage}/undos/${request.id}`)
    .send({ id: request.id, lineage, workflowId, waiting });
}

/** Runs it, and tells a caller what is unavailable; `before` is what was reached all the same. */
async function told(
  reply: FastifyReply,
  before: string,
  work: () => Promise<FastifyReply>,
): Promise<FastifyReply> {
  try {
    return await work();
  } catch (fault) {
    if (!(fault instanceof OperationsUnavailable)) throw fault;
    return refuse(reply, 503, 'operations_unavailable', `${before}${fault.message}.`);
  }
}

function requestOf(
  request: FastifyRequest,
  target: UndoTarget,
  { id, reason: why }: { id?: string | undefined; reason: string },
): UndoRequest {
  return {
    id: id ?? `u${randomBytes(6).toString('hex')}`,
    target,
    reason: why,
    requestedBy: nameOf(request),
    requestedAt: Date.now(),
  };
}

/** The token's name; where nobody is asked for one, that it came this way. */
function nameOf(request: FastifyRequest): string {
  return callerOf(request).name ?? 'http';
}

async function findingsOf({ log }: FollowedLineage, target: UndoTarget) {
  const { head, removals, restored, kept, nothing } = await undoOf(log, { id: 'dry-run', target });
  return {
    head,
    goes: removals.map(({ correctionId, factKey }) => ({ correctionId, factKey })),
    comesBack: restored.map(({ revision, origin }) => ({
      correctionId: revision.correction.id,
      factKey: revision.factKey,
      target: revision.correction.target,
      version: origin.version,
    })),
    stays: kept,
    nothing,
  };
}
