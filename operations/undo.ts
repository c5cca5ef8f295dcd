/**
 * Previews, orders and follows an undo: of a version, of one correction, or a rollback of the
 * lineage. The lineage's workflow carries it out between two batches.
 */
import { randomBytes } from 'node:crypto';
import type { TemporalLineages, UndoTaken } from '../pipelines/temporal/temporal-client.ts';
import type { LineageStatus, UndoOrder } from '../pipelines/workflows/contract.ts';
import type { LineageSettings } from '../schemas/settings.ts';
import type { UndoRequest, UndoResult, UndoTarget } from '../schemas/undo.ts';
import type { VersionLog } from '../versions/log/version-log.ts';
import { undoOf, type UndoFindings } from '../versions/undo.ts';

export type { UndoOrder };

/** The part of Temporal's client with which an operator controls lineage workflows. */
export type LineageWorkflows = Pick<
  TemporalLineages,
  'freeze' | 'resume' | 'undo' | 'undoProgress' | 'status'
>;

export interface OperatedLineage {
  workflows: LineageWorkflows;
  log: VersionLog;
  /** The settings for starting its workflow if it does not run yet. */
  settings: LineageSettings;
}

/** The person who requests an operation, and the reason. */
export interface Authorship {
  reason: string;
  by: string;
}

/** Makes the request for an undo; repeating one with the same id has no effect. */
export function undoRequest(
  target: UndoTarget,
  { id, reason, by }: Authorship & { id?: string | undefined },
): UndoRequest {
  return {
    id: id ?? `u${randomBytes(6).toString('hex')}`,
    target,
    reason,
    requestedBy: by,
    requestedAt: Date.now(),
  };
}

/** Finds the effects of an undo, from the log alone. Throws `VersionLogDamaged`. */
export async function previewUndo(log: VersionLog, target: UndoTarget): Promise<UndoFindings> {
  return await undoOf(log, { id: 'dry-run', target });
}

/** Returns a preview as JSON for the command line and HTTP. */
export function previewAsJson({ head, removals, restored, kept, nothing }: UndoFindings) {
  return {
    head,
    goes: removals.map(({ correctionId, factKey }) => ({ correctionId, factKey })),
    comesBack: restored.map(({ revision: { correction, factKey }, origin: { version } }) => ({
      correctionId: correction.id,
      factKey,
      target: correction.target,
      version,
    })),
    stays: kept,
    nothing,
  };
}

/** Sends an undo to the lineage's workflow, which is started if it does not run yet. */
export async function orderUndo(
  { workflows, log, settings }: OperatedLineage,
  order: UndoOrder,
): Promise<UndoTaken> {
  return await workflows.undo(log.lineage, settings, order);
}

/** `unknown`: the undo neither runs nor waits, and did not end lately. */
type UndoState =
  | { state: 'waiting' | 'running' | 'unknown' }
  | { state: 'ended'; result: UndoResult }
  | { state: 'failed'; reason: string };

/** Looks an undo up: in its own workflow, else in the lineage's queue. */
export async function undoState(
  { workflows, log: { lineage } }: OperatedLineage,
  id: string,
  statusOf: () => Promise<LineageStatus | null> = () => workflows.status(lineage),
): Promise<UndoState> {
  const progress = await workflows.undoProgress(lineage, id);
  if (progress.kind === 'ended') return { state: 'ended', result: progress.result };
  if (progress.kind === 'failed') return { state: 'failed', reason: progress.reason };
  if (progress.kind === 'running') return { state: 'running' };
  const undos = (await statusOf())?.undos;
  // It was given up before it got a workflow.
  const ended = undos?.ended.find((one) => one.id === id);
  if (ended?.kind === 'failed') return { state: 'failed', reason: ended.reason ?? 'it failed' };
  const waits = undos?.waiting.some((one) => one.id === id) || undos?.running?.id === id;
  return { state: waits ? 'waiting' : 'unknown' };
}

const LOOK_EVERY_MS = 400;

/** Follows an undo to its end, for at most `waitMs`; returns the last state that it saw. */
export async function followUndo(
  lineage: OperatedLineage,
  id: string,
  waitMs: number,
  report: (state: UndoState) => void,
): Promise<UndoState> {
  const { workflows, log } = lineage;
  const deadline = performance.now() + waitMs;
  for (;;) {
    // Without a workflow worker nothing answers for the queue, and the undo waits all the same.
    const state = await undoState(lineage, id, () =>
      workflows.status(log.lineage).catch(() => null),
    );
    report(state);
    if (state.state === 'ended' || state.state === 'failed' || performance.now() > deadline)
      return state;
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}
