/**
 * Resets a workflow to a point of its history: earlier steps keep their results, later ones run
 * again. The activities are idempotent, so a step that was completed returns its first result.
 */
import { WorkflowFailedError, type Client } from '@temporalio/client';
import proto from '@temporalio/proto';
import { millisecondsOf } from './history-timeline.ts';
import type { History } from './temporal-runs.ts';

/** A workflow task to which a run may be reset; the run then decides it again. */
export interface ResetPoint {
  /** The completed workflow task. */
  eventId: number;
  /** Milliseconds since 1970. */
  at: number;
  /** The activities, children and timers that the task started, or the workflow's end. */
  does: string[];
}

const { EventType, ResetReapplyType } = proto.temporal.api.enums.v1;
const CALL_WAIT_MS = 20_000;
const FOLLOW_EVERY_MS = 500;

/** Returns every point to which the run may be reset, in order. */
export function resetPointsOf({ events }: History): ResetPoint[] {
  const points = new Map<string, ResetPoint>();
  for (const event of events ?? []) {
    if (event.eventType === EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) {
      points.set(String(event.eventId), {
        eventId: Number(event.eventId),
        at: millisecondsOf(event.eventTime),
        does: [],
      });
      continue;
    }
    const decided = decisionOf(event);
    if (decided !== null) points.get(decided.by)?.does.push(decided.what);
  }
  return [...points.values()];
}

/** Names of steps that identify a point, with their activities. */
export const RESET_STEPS: Readonly<Record<string, readonly string[]>> = {
  plan: ['planBatch', 'planUndo'],
  targets: ['computeTargets'],
  stage: ['stageUpdate', 'stageUndo'],
  probes: ['runProbes', 'probeUndo'],
  commit: ['commitVersion', 'commitUndo'],
};

/**
 * Finds a point by an event's id or a step's name: for `plan` the first, for other steps the last.
 */
export function resetPointNamed(points: readonly ResetPoint[], to: string): ResetPoint | null {
  if (to === 'beginning') return points[0] ?? null;
  const activities = RESET_STEPS[to];
  if (activities === undefined) return points.find(({ eventId }) => eventId === Number(to)) ?? null;
  const doing = points.filter(({ does }) => does.some((what) => activities.includes(what)));
  return (to === 'plan' ? doing[0] : doing.at(-1)) ?? null;
}

/**
 * Resets a run and returns the new run's id. Repeating the same reset has no effect. Messages that
 * the run received since are delivered to the new one.
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

/** Waits for a run's end, at most `waitMs`. */
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

function decisionOf(event: proto.temporal.api.history.v1.IHistoryEvent) {
  const {
    activityTaskScheduledEventAttributes: activity,
    startChildWorkflowExecutionInitiatedEventAttributes: child,
    timerStartedEventAttributes: timer,
    workflowExecutionCompletedEventAttributes: completed,
    workflowExecutionFailedEventAttributes: failed,
    workflowExecutionContinuedAsNewEventAttributes: continued,
  } = event;
  const decided = activity ?? child ?? timer ?? completed ?? failed ?? continued;
  if (!decided) return null;
  const by = String(decided.workflowTaskCompletedEventId);
  if (activity) return { by, what: activity.activityType?.name ?? 'an activity' };
  if (child) return { by, what: child.workflowId ?? 'a child workflow' };
  if (timer) return { by, what: 'a timer' };
  return { by, what: failed ? 'it failed' : completed ? 'it completed' : 'it went on as new' };
}
