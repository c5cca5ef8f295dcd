/** Turns a workflow's history into steps: one per activity, child, timer or message. */
import { ApplicationFailure, TimeoutFailure, type DataConverter } from '@temporalio/common';
import {
  decodeArrayFromPayloads,
  decodeOptionalFailureToOptionalError,
  loadDataConverter,
} from '@temporalio/common/lib/internal-non-workflow/index.js';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import proto from '@temporalio/proto';
import { messageOf } from '../../schemas/failures.ts';
import type { History, ProtoFailure } from './temporal-runs.ts';

export interface TimelineStep {
  /** The event that began it. */
  eventId: number;
  /** Milliseconds since 1970. */
  at: number;
  /** `workflow started`, `activity`, `child workflow`, `signal`, `update`, `timer`, ... */
  event: string;
  /** The name of the activity, child, signal or update. */
  name: string | null;
  /** The attempt of an activity that started. */
  attempt: number | null;
  /** From the start of the last attempt, or of the child, to its end. */
  tookMs: number | null;
  /** completed, failed, timed out, canceled, pending, ... */
  outcome: string | null;
  /** The step's decoded input or result. */
  detail: unknown;
  /** The failure of the step, or of its previous attempt. */
  failure: string | null;
}

type Event = proto.temporal.api.history.v1.IHistoryEvent;
type Payloads = proto.temporal.api.common.v1.IPayloads | null | undefined;

/** Parses a history in the JSON of Temporal's tools. */
export function historyOf(json: string): History {
  return historyFromJSON(JSON.parse(json));
}

/** Lists the steps of a history in order of their beginning. Undecodable payloads say so. */
export async function timelineOf(
  history: History,
  dataConverter: DataConverter,
): Promise<TimelineStep[]> {
  const timeline = new Timeline(new Reader(dataConverter));
  for (const event of history.events ?? []) await timeline.take(event);
  return timeline.steps;
}

/** Decodes payloads and failures; a missing key becomes a text, never an exception. */
export class Reader {
  readonly #converter;

  constructor(dataConverter: DataConverter) {
    this.#converter = loadDataConverter(dataConverter);
  }

  async values(payloads: Payloads): Promise<unknown[]> {
    try {
      return await decodeArrayFromPayloads(this.#converter, payloads?.payloads ?? []);
    } catch (error) {
      return [`(${messageOf(error)})`];
    }
  }

  /** Returns the only value, a list of several, or null. */
  async value(payloads: Payloads): Promise<unknown> {
    const values = await this.values(payloads);
    return values.length > 1 ? values : (values[0] ?? null);
  }

  /** Returns the innermost failure as `<class>: <message>`. */
  async failure(failure: ProtoFailure | null | undefined): Promise<string | null> {
    return (await this.cause(failure))?.text ?? null;
  }

  /** Returns the innermost failure with its original class. */
  async cause(
    failure: ProtoFailure | null | undefined,
  ): Promise<{ className: string; message: string; text: string } | null> {
    if (failure === null || failure === undefined) return null;
    let error: unknown;
    try {
      error = await decodeOptionalFailureToOptionalError(this.#converter, failure);
    } catch (fault) {
      error = fault;
    }
    while (error instanceof Error && error.cause instanceof Error) error = error.cause;
    const className = classNameOf(error);
    const message = messageOf(error);
    return { className, message, text: `${className}: ${message}` };
  }
}

function classNameOf(error: unknown): string {
  if (error instanceof ApplicationFailure) return error.type ?? 'Error';
  if (error instanceof TimeoutFailure) return 'Timeout';
  return error instanceof Error ? error.name : 'Error';
}

class Timeline {
  readonly steps: TimelineStep[] = [];
  /** Keyed by the id of the event that began the step. */
  readonly #open = new Map<string, TimelineStep>();
  readonly #startedAt = new Map<TimelineStep, number>();

  constructor(private readonly reader: Reader) {}

  async take(event: Event): Promise<void> {
    const begun = beginningOf(event);
    if (begun !== null) {
      const step = await this.#add(event, { outcome: 'pending', ...begun });
      this.#open.set(String(event.eventId), step);
      return;
    }
    const end = endOf(event);
    if (end !== null) return await this.#end(event, end);
    const startedBy = starterOf(event);
    if (startedBy !== null) return await this.#start(event, startedBy);
    const point = pointOf(event);
    if (point !== null) return void (await this.#add(event, point));
    // Temporal's own bookkeeping is of no use to a reader.
    if (QUIET.has(event.eventType ?? 0)) return;
    const name = proto.temporal.api.enums.v1.EventType[event.eventType ?? 0];
    await this.#add(event, { event: wordsOf(name, 'EVENT_TYPE_'), name: null });
  }

  async #start(event: Event, startedBy: unknown): Promise<void> {
    const step = this.#open.get(String(startedBy));
    if (step === undefined) return;
    this.#startedAt.set(step, millisecondsOf(event.eventTime));
    const activity = event.activityTaskStartedEventAttributes;
    if (!activity) return;
    step.attempt = activity.attempt ?? 1;
    step.failure = await this.reader.failure(activity.lastFailure);
  }

  async #end(event: Event, { begunBy, outcome, result, failure, reason }: End): Promise<void> {
    const step = this.#open.get(String(begunBy));
    if (step === undefined) return;
    const from = this.#startedAt.get(step) ?? (step.event === 'activity' ? null : step.at);
    step.tookMs = from === null ? null : millisecondsOf(event.eventTime) - from;
    step.outcome = outcome;
    step.detail = (await this.reader.value(result)) ?? step.detail;
    step.failure = (await this.reader.failure(failure)) ?? reason ?? step.failure;
  }

  async #add(event: Event, { input, cause, ...known }: Point): Promise<TimelineStep> {
    const step: TimelineStep = {
      eventId: Number(event.eventId),
      at: millisecondsOf(event.eventTime),
      attempt: null,
      tookMs: null,
      outcome: null,
      detail: await this.reader.value(input),
      failure: await this.reader.failure(cause),
      ...known,
    };
    this.steps.push(step);
    return step;
  }
}

/** A step in the form of its event, with payloads and failure not decoded yet. */
type Point = Pick<TimelineStep, 'event' | 'name'> &
  Partial<TimelineStep> & { input?: Payloads; cause?: ProtoFailure | null | undefined };

interface End {
  begunBy: unknown;
  outcome: string;
  result?: Payloads;
  failure?: ProtoFailure | null | undefined;
  reason?: string;
}

/** Returns the step that an event begins and a later one ends. */
function beginningOf(event: Event): Point | null {
  const {
    activityTaskScheduledEventAttributes: activity,
    startChildWorkflowExecutionInitiatedEventAttributes: child,
    timerStartedEventAttributes: timer,
    workflowExecutionUpdateAcceptedEventAttributes: update,
  } = event;
  if (activity) return { event: 'activity', name: activity.activityType?.name ?? null };
  if (child) return { event: 'child workflow', name: child.workflowId ?? null };
  if (timer) {
    const seconds = millisecondsOf(timer.startToFireTimeout) / 1_000;
    return { event: 'timer', name: null, detail: `${seconds} s` };
  }
  const request = update?.acceptedRequest?.input;
  return update ? { event: 'update', name: request?.name ?? null, input: request?.args } : null;
}

/** Returns the id of the event that scheduled the started activity or child. */
function starterOf(event: Event): unknown {
  return (
    event.activityTaskStartedEventAttributes?.scheduledEventId ??
    event.childWorkflowExecutionStartedEventAttributes?.initiatedEventId ??
    null
  );
}

/** The events that end a step: the field with its first event's id, and the outcome. */
const ENDS = {
  activityTaskCompletedEventAttributes: ['scheduledEventId', 'completed'],
  activityTaskFailedEventAttributes: ['scheduledEventId', 'failed'],
  activityTaskTimedOutEventAttributes: ['scheduledEventId', 'timed out'],
  activityTaskCanceledEventAttributes: ['scheduledEventId', 'canceled'],
  startChildWorkflowExecutionFailedEventAttributes: ['initiatedEventId', 'not started'],
  childWorkflowExecutionCompletedEventAttributes: ['initiatedEventId', 'completed'],
  childWorkflowExecutionFailedEventAttributes: ['initiatedEventId', 'failed'],
  childWorkflowExecutionTerminatedEventAttributes: ['initiatedEventId', 'terminated'],
  childWorkflowExecutionTimedOutEventAttributes: ['initiatedEventId', 'timed out'],
  childWorkflowExecutionCanceledEventAttributes: ['initiatedEventId', 'canceled'],
  timerFiredEventAttributes: ['startedEventId', 'fired'],
  timerCanceledEventAttributes: ['startedEventId', 'canceled'],
  workflowExecutionUpdateCompletedEventAttributes: ['acceptedEventId', 'completed'],
} as const satisfies Partial<Record<keyof Event, readonly [string, string]>>;

function endOf(event: Event): End | null {
  for (const name of Object.keys(ENDS) as (keyof typeof ENDS)[]) {
    const end = event[name] as EndAttributes | null | undefined;
    if (!end) continue;
    const [reference, outcome] = ENDS[name];
    const { result, outcome: update } = end;
    const failure = update?.failure ?? end.failure;
    return {
      begunBy: end[reference],
      outcome: update?.failure ? 'failed' : outcome,
      result,
      failure,
      ...(outcome === 'not started' ? { reason: 'a workflow of that id is running' } : {}),
    };
  }
  return null;
}

type EndAttributes = Partial<Record<(typeof ENDS)[keyof typeof ENDS][0], unknown>> & {
  result?: Payloads;
  failure?: ProtoFailure | null;
  /** The outcome of an update. */
  outcome?: { failure?: ProtoFailure | null } | null;
};

/** Returns a step that consists of one event. */
function pointOf(event: Event): Point | null {
  const {
    workflowExecutionStartedEventAttributes: started,
    workflowExecutionSignaledEventAttributes: signal,
    workflowTaskFailedEventAttributes: taskFailed,
    workflowTaskTimedOutEventAttributes: taskLate,
    workflowExecutionCompletedEventAttributes: completed,
    workflowExecutionFailedEventAttributes: failed,
    workflowExecutionTerminatedEventAttributes: terminated,
    workflowExecutionContinuedAsNewEventAttributes: continued,
  } = event;
  if (started) {
    const { workflowType, attempt, input, continuedFailure: cause } = started;
    const name = workflowType?.name ?? null;
    return { event: 'workflow started', name, attempt: attempt ?? null, input, cause };
  }
  if (signal) return { event: 'signal', name: signal.signalName ?? null, input: signal.input };
  if (taskFailed) {
    const cause = proto.temporal.api.enums.v1.WorkflowTaskFailedCause[taskFailed.cause ?? 0];
    return {
      event: 'workflow task',
      name: null,
      outcome: 'failed',
      detail: wordsOf(cause, 'WORKFLOW_TASK_FAILED_CAUSE_'),
      cause: taskFailed.failure,
    };
  }
  if (taskLate) return { event: 'workflow task', name: null, outcome: 'timed out' };
  if (completed) return { event: 'workflow completed', name: null, input: completed.result };
  if (failed) return { event: 'workflow failed', name: null, cause: failed.failure };
  if (terminated) {
    const { identity, reason } = terminated;
    return { event: 'workflow terminated', name: identity ?? null, failure: reason ?? null };
  }
  if (!continued) return null;
  const detail = `run ${continued.newExecutionRunId}`;
  return { event: 'workflow continued as new', name: null, detail };
}

const { EventType } = proto.temporal.api.enums.v1;
const QUIET: ReadonlySet<number> = new Set([
  EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
  EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
  EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
  EventType.EVENT_TYPE_MARKER_RECORDED,
  EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
  EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
]);

/** Returns milliseconds; seconds are a Long from Temporal and a number from JSON. */
export function millisecondsOf(
  time: { seconds?: unknown; nanos?: number | null } | null | undefined,
): number {
  return Number(time?.seconds ?? 0) * 1_000 + Math.floor((time?.nanos ?? 0) / 1_000_000);
}

/** Returns `EVENT_TYPE_TIMER_STARTED` as `timer started`. */
function wordsOf(name: string | undefined, prefix: string): string {
  return (name ?? 'unknown').replace(prefix, '').toLowerCase().replaceAll('_', ' ');
}
