/**
 * Routes for an operator's actions on a lineage: freeze, resume, revert, rollback, and the state of
 * an undo. A rollback first moves the alias in the version log, so that this server answers with
 * that version at once, even if other services are down.
 */
import type { FastifyInstance, FastifyReply } from 'fastify';
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
import { Refusal } from '../access/refusals.ts';
import { unknownLineage } from '../answers/answers.ts';
import type { FollowedLineages } from '../answers/followed-lineages.ts';
import { lineageInPath, route } from './routes.ts';

/** The lineages' workflows, and the settings for starting one. */
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
  const lineageNamed = (lineage: string): OperatedLineage | Refusal => {
    const found = followed.get(lineage);
    if (found === undefined) return unknownLineage(lineage);
    if (operations === undefined) return NO_OPERATIONS;
    const { workflows, settings } = operations;
    return { workflows, log: found.log, settings: settings[lineage]! };
  };
  /** Declares a POST route on a lineage. */
  const operate = <Body>(
    what: string,
    input: z.ZodType<Body>,
    handle: (lineage: OperatedLineage, body: Body, sent: Sent) => Promise<unknown>,
  ): void =>
    route(server, 'POST', `/v1/lineages/:lineage/${what}`, {
      role: 'operate',
      lineage: lineageInPath,
      input,
      handle: async (body, request, reply) => {
        const lineage = lineageNamed(lineageInPath(request));
        if (lineage instanceof Refusal) return lineage;
        // The token's name; without tokens, a note that the request came over HTTP.
        return await handle(lineage, body, { by: callerOf(request).name ?? 'http', reply });
      },
    });

  operate('freeze', freezeBody, (lineage, { reason }, { by, reply }) =>
    orUnavailable(async () => {
      await freezeLineage(lineage, { reason, by });
      return reply.code(202).send({ lineage: lineage.log.lineage, frozen: true });
    }),
  );
  operate('resume', z.unknown(), (lineage, _, { reply }) =>
    orUnavailable(async () => {
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
    async ({ params }) => {
      const lineage = lineageNamed(params.lineage);
      return lineage instanceof Refusal ? lineage : await stateOfUndo(lineage, params.id);
    },
  );
}

/** The sender of an order, and the reply to it. */
interface Sent {
  by: string;
  reply: FastifyReply;
}

const NO_OPERATIONS = new Refusal(
  'no_operations',
  'This server has no connection to Temporal, which operates the lineages.',
);

async function revert(
  lineage: OperatedLineage,
  { version, correctionId, dryRun, ...body }: z.infer<typeof revertBody>,
  { by, reply }: Sent,
): Promise<unknown> {
  const target: UndoTarget =
    version === undefined
      ? { kind: 'correction', id: correctionId! }
      : { kind: 'version', version };
  if (dryRun) return previewAsJson(await previewUndo(lineage.log, target));
  // An undo with an id may already be done; only the lineage knows.
  if (body.id === undefined) {
    const { nothing } = await previewUndo(lineage.log, target);
    if (nothing !== null) return new Refusal('nothing_to_undo', `Nothing to undo: ${nothing}.`);
  }
  const request = undoRequest(target, { ...body, by });
  return await orUnavailable(() => sendOrder(reply, lineage, { request, releaseAlias: null }));
}

async function rollBack(
  lineage: OperatedLineage,
  { to, freeze, keepAlias, dryRun, ...body }: z.infer<typeof rollbackBody>,
  { by, reply }: Sent,
  followNow: () => Promise<void>,
): Promise<unknown> {
  const target: UndoTarget = { kind: 'rollback', version: to };
  if (dryRun) return previewAsJson(await previewUndo(lineage.log, target));
  const undo = undoRequest(target, { ...body, by });
  const pinned = await pinStable(lineage.log, undo, to);
  if (pinned.kind === 'refused') return new Refusal('alias_not_moved', `${pinned.reason}.`);
  await followNow();
  const done = `Answers come from version ${to}. `;
  return await orUnavailable(async () => {
    if (freeze) await freezeForRollback(lineage, undo, to);
    return await sendOrder(reply, lineage, rollbackOrder(undo, keepAlias));
  }, `${done}Ask again with the id "${undo.id}" to finish the rollback: `);
}

async function sendOrder(
  reply: FastifyReply,
  lineage: OperatedLineage,
  order: UndoOrder,
): Promise<FastifyReply | Refusal> {
  const { id } = order.request;
  const { lineage: name } = lineage.log;
  const taken = await orderUndo(lineage, order);
  if (taken.kind === 'refused') return new Refusal('undo_refused', `${taken.message}.`);
  const { workflowId } = taken;
  return reply
    .code(202)
    .header('location', `/v1/lineages/${name}/undos/${id}`)
    .send({ id, lineage: name, workflowId, waiting: taken.kind === 'left' ? null : taken.waiting });
}

async function stateOfUndo(lineage: OperatedLineage, id: string): Promise<unknown> {
  const unknown = (message: string) => new Refusal('unknown_undo', message);
  if (!ID.safeParse(id).success)
    return unknown('There is no such undo: ids are 1 to 64 of a-z, 0-9, - and _.');
  return await orUnavailable(async () => {
    const state = await undoState(lineage, id);
    const { lineage: name } = lineage.log;
    return state.state === 'unknown'
      ? unknown(`Lineage "${name}" has no undo "${id}".`)
      : { id, lineage: name, ...state };
  });
}

/** Refuses if Temporal does not do the work; `done` says what was already done. */
async function orUnavailable(work: () => Promise<unknown>, done = ''): Promise<unknown> {
  try {
    return await work();
  } catch (fault) {
    const message = `${done}${reasonAndHint(fault)}`.replace(/\.?$/, '.');
    return new Refusal('operations_unavailable', message);
  }
}
