/**
 * A workflow that is run again from a point of its history: what came before keeps its results,
 * what came after is done again. Every activity of ours is idempotent, so what was done already is
 * found and told, not done twice.
 */
import { WorkflowFailedError, type Client } from '@temporalio/client';
import proto from '@temporalio/proto';
import type { History } from './temporal-runs.ts';

/** Where a workflow decided something. Reset to it, it decides that once more. */
export interface ResetPoint {
  /** Of the completed workflow task. */
  eventId: number;
  /** Milliseconds since 1970. */
  at: number;
  /** What it decided: activities and children that began, timers, or its end. */
  does: string[];
}

const { EventType, ResetReapplyType } = proto.temporal.api.enums.v1;
const CALL_WAIT_MS = 20_000;
const FOLLOW_EVERY_MS = 500;

/** Every point to which the run may be reset, in order. */
export function resetPointsOf({ events }: History): ResetPoint[] {
  const points = new Map<string, ResetPoint>();
  for (const event of events ?? []) {
    if (event.eventType === EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
      points.set(String(event.eventId), {
        eventId: Number(event.eventId),
        at:
          Number(event.eventTime?.seconds ?? 0) * 1_000 +
          Math.floor((event.eventTime?.nanos ?? 0) / 1e6),
        does: [],
      });
      continue;
    }
    const decided = decisionOf(event);
    if (decided !== null) points.get(decided.by)?.does.push(decided.what);
  }
  return [...points.values()];
}

/** Steps by which a point may be named, and the activities that they are. */
export const RESET_STEPS: Readonly<Record<string, readonly string[]>> = {
  plan: ['planBatch', 'planUndo'],
  targets: ['computeTargets'],
  stage: ['stageUpdate', 'stageUndo'],
  probes: ['runProbes', 'probeUndo'],
  commit: ['commitVersion', 'commitUndo'],
};

/**
 * The point that is named: by an event's id, or by a step. `plan` is where all of it begins; of the
 * other steps it is the last that was done. Null where there is none.
 */
export function resetPointNamed(points: readonly ResetPoint[], to: string): ResetPoint | null {
  if (to === 'beginning') return points[0] ?? null;
  const activities = RESET_STEPS[to];
  if (activities === undefined) return points.find(({ eventId }) => eventId === Number(to)) ?? null;
  const doing = points.filter(({ does }) => does.some((what) => activities.includes(what)));
  return (to === 'plan' ? doing[0] : doing.at(-1)) ?? null;
}

/**
 * Resets a run and gives the new run's id. The same reset of the same run twice is one. What was
 * told to it since is told to the new one.
 */
export async function resetWorkflow(
  client: Client,
  run: { workflowId: string; runId: string },
  point: ResetPoint,
  reason: string,
): Promise<string> {
  const { runId } = await client.withDeadline(Date.now() + CALL_WAIT_MS, () =>
    client.workflowService.resetWorkflowExecution({
      namespace: client.options.namespace,
      workflowExecution: run,
      reason,
      requestId: `reset-${run.runId}-${point.eventId}`,
      workflowTaskFinishEventId: point.eventId as unknown as Long,
      resetReapplyType: ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE,
    }),
  );
  return runId;
}

type Long = NonNullable<
  proto.temporal.api.workflowservice.v1.IResetWorkflowExecutionRequest['workflowTaskFinishEventId']
>;

export type RunEnd =
  | { kind: 'completed'; result: unknown }
  | { kind: 'failed'; status: string; reason: string }
  | { kind: 'running' };

/** Waits for a run's end, at most so long. */
export async function followRun(
  client: Client,
  run: { workflowId: string; runId: string },
  waitMs: number,
): Promise<RunEnd> {
  const handle = client.workflow.getHandle(run.workflowId, run.runId);
  const deadline = performance.now() + waitMs;
  for (;;) {
    const { status } = await client.withDeadline(Date.now() + CALL_WAIT_MS, () =>
      handle.describe(),
    );
    if (status.name !== 'RUNNING') return await endOf(client, handle, status.name);
    if (performance.now() > deadline) return { kind: 'running' };
    await new Promise((resolve) => setTimeout(resolve, FOLLOW_EVERY_MS));
  }
}

async function endOf(
  client: Client,
  handle: { result(): Promise<unknown> },
  status: string,
): Promise<RunEnd> {
  try {
    return {
      kind: 'completed',
      result: await client.withDeadline(Date.now() + CALL_WAIT_MS, () => handle.result()),
    };
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    let cause: Error = error;
    while (cause.cause instanceof Error) cause = cause.cause;
    return { kind: 'failed', status, reason: cause.message };
  }
}

function decisionOf(
  event: proto.temporal.api.history.v1.IHistoryEvent,
): { by: string; what: string } | null {
  const {
    activityTaskScheduledEventAttributes: activity,
    startChildWorkflowExecutionInitiatedEventAttributes: child,
    timerStartedEventAttributes: timer,
  } = event;
  const ends =
    event.workflowExecutionCompletedEventAttributes ??
    event.workflowExecutionFailedEventAttributes ??
    event.workflowExecutionContinuedAsNewEventAttributes;
  if (activity)
    return {
      by: String(activity.workflowTaskCompletedEventId),
      what: activity.activityType?.name ?? 'an activity',
    };
  if (child)
    return {
      by: String(child.workflowTaskCompletedEventId),
      what: child.workflowId ?? 'a child workflow',
    };
  if (timer) return { by: String(timer.workflowTaskCompletedEventId), what: 'a timer' };
  if (ends)
    return {
      by: String(ends.workflowTaskCompletedEventId),
      what: event.workflowExecutionFailedEventAttributes
        ? 'it failed'
        : event.workflowExecutionCompletedEventAttributes
          ? 'it completed'
          : 'it went on as new',
    };
  return null;
}
