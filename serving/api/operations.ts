/**
 * Routes for what an operator does to a lineage: freeze, resume, revert, rollback, and the state of
 * an undo. A rollback moves the alias first, in the version log, so that this server answers with
 * the version at once whatever else is down.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { freezeLineage, resumeLineage } from '../../operations/freeze.ts';
import { freezeForRollback, pinStable, rollbackOrder } from '../../operations/rollback.ts';
import {
  orderUndo,
  previewAsJson,
  previewUndo,
  undoRequest,
  undoState,
  type LineageWorkflows,
  type OperatedLineage,
  type UndoOrder,
} from '../../operations/undo.ts';
import { reasonAndHint } from '../../schemas/failures.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import { undoRequestSchema, type UndoTarget } from '../../schemas/undo.ts';
import { callerOf, forRole } from '../access/admission.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { refuse, refuseUnanswered } from './refusals.ts';
import { lineageInPath, post } from './routes.ts';

/** The lineages' workflows, and the settings with which one is started. */
export interface Operations {
  workflows: LineageWorkflows;
  settings: Readonly<Record<string, LineageSettings>>;
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

export function operationRoutes(
  server: FastifyInstance,
  followed: FollowedLineages,
  operations: Operations | undefined,
): void {
  /** Declares a POST route on a lineage. */
  const operate = <Body>(
    what: string,
    body: z.ZodType<Body>,
    handle: (lineage: OperatedLineage, body: Body, sent: Sent) => Promise<unknown>,
  ): void =>
    post(server, `/v1/lineages/:lineage/${what}`, {
      role: 'operate',
      lineage: lineageInPath,
      input: body,
      handle: async (checked, request, reply) => {
        const found = operatedLineage(followed, operations, lineageInPath(request));
        return 'refuse' in found
          ? found.refuse(reply)
          : await handle(found, checked, { request, reply });
      },
    });

  operate('freeze', freezeBody, (lineage, body, { request, reply }) =>
    orUnavailable(reply, async () => {
      await freezeLineage(lineage, { ...body, by: nameOf(request) });
      return reply.code(202).send({ lineage: lineage.log.lineage, frozen: true });
    }),
  );
  operate('resume', z.unknown(), (lineage, _, { reply }) =>
    orUnavailable(reply, async () => {
      await resumeLineage(lineage);
      return reply.code(202).send({ lineage: lineage.log.lineage, frozen: false });
    }),
  );
  operate('revert', revertBody, revert);
  operate('rollback', rollbackBody, (lineage, body, sent) =>
    rollBack(lineage, body, sent, () => followed.look()),
  );
  server.get<{ Params: { lineage: string; id: string } }>(
    '/v1/lineages/:lineage/undos/:id',
    forRole('operate', lineageInPath),
    async ({ params: { lineage, id } }, reply) => {
      const found = operatedLineage(followed, operations, lineage);
      if ('refuse' in found) return found.refuse(reply);
      return await sendUndoState(found, id, reply);
    },
  );
}

interface Sent {
  request: FastifyRequest;
  reply: FastifyReply;
}

function operatedLineage(
  followed: FollowedLineages,
  operations: Operations | undefined,
  lineage: string,
): OperatedLineage | { refuse: (reply: FastifyReply) => FastifyReply } {
  const found = followed.get(lineage);
  if (found === undefined)
    return { refuse: (reply) => refuseUnanswered(reply, { kind: 'unknown-lineage', lineage }) };
  if (operations === undefined) {
    const message = 'This server has no connection to Temporal, which operates the lineages.';
    return { refuse: (reply) => refuse(reply, 'no_operations', message) };
  }
  const { workflows, settings } = operations;
  return { workflows, log: found.log, settings: settings[lineage]! };
}

async function revert(
  lineage: OperatedLineage,
  { version, correctionId, dryRun, ...body }: z.infer<typeof revertBody>,
  { request, reply }: Sent,
): Promise<unknown> {
  const target: UndoTarget =
    version === undefined
      ? { kind: 'correction', id: correctionId! }
      : { kind: 'version', version };
  if (dryRun) return previewAsJson(await previewUndo(lineage.log, target));
  // One with an id may have been done already: that is for the lineage to know.
  if (body.id === undefined) {
    const { nothing } = await previewUndo(lineage.log, target);
    if (nothing !== null) return refuse(reply, 'nothing_to_undo', `Nothing to undo: ${nothing}.`);
  }
  const order = { request: requestOf(request, target, body), releaseAlias: null };
  return await orUnavailable(reply, () => sendOrder(reply, lineage, order));
}

async function rollBack(
  lineage: OperatedLineage,
  { to, freeze, keepAlias, dryRun, ...body }: z.infer<typeof rollbackBody>,
  { request, reply }: Sent,
  followNow: () => Promise<void>,
): Promise<unknown> {
  const target: UndoTarget = { kind: 'rollback', version: to };
  if (dryRun) return previewAsJson(await previewUndo(lineage.log, target));
  const undo = requestOf(request, target, body);
  const pinned = await pinStable(lineage.log, undo, to);
  if (pinned.kind === 'refused') return refuse(reply, 'alias_not_moved', `${pinned.reason}.`);
  await followNow();
  const reached =
    `Answers come from version ${to}. ` +
    `Ask again with the id "${undo.id}" to finish the rollback: `;
  return await orUnavailable(
    reply,
    async () => {
      if (freeze) await freezeForRollback(lineage, undo, to);
      return await sendOrder(reply, lineage, rollbackOrder(undo, keepAlias));
    },
    reached,
  );
}

async function sendOrder(
  reply: FastifyReply,
  lineage: OperatedLineage,
  order: UndoOrder,
): Promise<FastifyReply> {
  const { id } = order.request;
  const { lineage: name } = lineage.log;
  const taken = await orderUndo(lineage, order);
  if (taken.kind === 'refused') return refuse(reply, 'undo_refused', `${taken.message}.`);
  return reply
    .code(202)
    .header('location', `/v1/lineages/${name}/undos/${id}`)
    .send({
      id,
      lineage: name,
      workflowId: taken.workflowId,
      waiting: taken.kind === 'left' ? null : taken.waiting,
    });
}

async function sendUndoState(
  lineage: OperatedLineage,
  id: string,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const unknown = (message: string) => refuse(reply, 'unknown_undo', message);
  if (!ID.safeParse(id).success)
    return unknown('There is no such undo: ids are 1 to 64 of a-z, 0-9, - and _.');
  return await orUnavailable(reply, async () => {
    const state = await undoState(lineage, id);
    const { lineage: name } = lineage.log;
    return state.state === 'unknown'
      ? unknown(`Lineage "${name}" has no undo "${id}".`)
      : reply.send({ id, lineage: name, ...state });
  });
}

/** Refuses where Temporal does not do what `work` asks of it; `reached` is what was done before. */
async function orUnavailable(
  reply: FastifyReply,
  work: () => Promise<FastifyReply>,
  reached = '',
): Promise<FastifyReply> {
  try {
    return await work();
  } catch (fault) {
    const message = `${reached}${reasonAndHint(fault)}`.replace(/\.?$/, '.');
    return refuse(reply, 'operations_unavailable', message);
  }
}

function requestOf(
  request: FastifyRequest,
  target: UndoTarget,
  { id, reason: why }: { id?: string | undefined; reason: string },
) {
  return undoRequest(target, { id, reason: why, by: nameOf(request) });
}

/** The token's name; without tokens, that the request came over HTTP. */
function nameOf(request: FastifyRequest): string {
  return callerOf(request).name ?? 'http';
}
