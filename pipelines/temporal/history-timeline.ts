/**
 * A workflow's history as somebody reads it: one step per thing that was done, with what came of
 * it.
 */
import { ApplicationFailure, TimeoutFailure, type DataConverter } from '@temporalio/common';
import {
  decodeArrayFromPayloads,
  decodeOptionalFailureToOptionalError,
} from '@temporalio/common/lib/internal-non-workflow/codec-helpers.js';
import { loadDataConverter } from '@temporalio/common/lib/internal-non-workflow/data-converter-helpers.js';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import proto from '@temporalio/proto';
import type { History, ProtoFailure } from './temporal-runs.ts';

export interface TimelineStep {
  /** The event that it began with. */
  eventId: number;
  /** Milliseconds since 1970. */
  at: number;
  /** `workflow started`, `activity`, `child workflow`, `signal`, `update`, `timer`, ... */
  event: string;
  /** Of the activity, child, signal or update; null where the event has none. */
  name: string | null;
  /** Of an activity that began; more than 1 after failures. */
  attempt: number | null;
  /**
   * From the start of the last attempt, or of the child, to its end; null where that is not known.
   */
  tookMs: number | null;
  /** completed, failed, timed out, canceled, pending, ... */
  outcome: string | null;
  /** What it was given or gave, decoded; null where there is nothing. */
  detail: unknown;
  /** Why it failed, or the attempt before the last. */
  failure: string | null;
}

type Event = proto.temporal.api.history.v1.IHistoryEvent;
type Payloads = proto.temporal.api.common.v1.IPayloads | null | undefined;

/** Reads the JSON that Temporal's tools write. Throws where it is none. */
export function historyOf(json: string): History {
  return historyFromJSON(JSON.parse(json));
}

/**
 * The steps of a history, in the order in which they began. What cannot be decoded here says so in
 * its place.
 */
export async function timelineOf(
  history: History,
  dataConverter: DataConverter,
): Promise<TimelineStep[]> {
  const timeline = new Timeline(new Reader(dataConverter));
  for (const event of history.events ?? []) await timeline.take(event);
  return timeline.steps;
}

/** Decodes payloads and failures, and never throws: who lacks a key reads that it is lacking. */
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

  /** The one value where there is one, else all. */
  async value(payloads: Payloads): Promise<unknown> {
    const values = await this.values(payloads);
    return values.length > 1 ? values : (values[0] ?? null);
  }

  /** The innermost failure, `<class>: <message>`; null where there is none. */
  async failure(failure: ProtoFailure | null | undefined): Promise<string | null> {
    return (await this.cause(failure))?.text ?? null;
  }

  /** The innermost failure with the class that it had where it was thrown. */
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
    const className =
      error instanceof ApplicationFailure
        ? (error.type ?? 'Error')
        : error instanceof TimeoutFailure
          ? 'Timeout'
          : error instanceof Error
            ? error.name
            : 'Error';
    const message = messageOf(error);
    return { className, message, text: `${className}: ${message}` };
  }
}

class Timeline {
  readonly steps: TimelineStep[] = [];
  readonly #reader: Reader;
  /** By the id of the event that they began with. */
  readonly #open = new Map<string, TimelineStep>();
  readonly #startedAt = new Map<TimelineStep, number>();

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  async take(event: Event): Promise<void> {
    const reader = this.#reader;
    const has = <Name extends keyof Event>(name: Name): NonNullable<Event[Name]> | null =>
      event[name] ?? null;

    const started = has('workflowExecutionStartedEventAttributes');
    if (started !== null) {
      const step = this.#add(event, 'workflow started', started.workflowType?.name ?? null, {
        attempt: started.attempt ?? null,
        detail: await reader.value(started.input),
      });
      step.failure = await reader.failure(started.continuedFailure);
      return;
    }
    const scheduled = has('activityTaskScheduledEventAttributes');
    if (scheduled !== null)
      return this.#begin(event, 'activity', scheduled.activityType?.name ?? null);
    const begun = has('activityTaskStartedEventAttributes');
    if (begun !== null) {
      const step = this.#open.get(String(begun.scheduledEventId));
      if (step === undefined) return;
      step.attempt = begun.attempt ?? 1;
      step.failure = await reader.failure(begun.lastFailure);
      this.#startedAt.set(step, timeOf(event));
      return;
    }
    const completed = has('activityTaskCompletedEventAttributes');
    if (completed !== null)
      return this.#end(event, completed.scheduledEventId, 'completed', {
        detail: await reader.value(completed.result),
      });
    const failed = has('activityTaskFailedEventAttributes');
    if (failed !== null)
      return this.#end(event, failed.scheduledEventId, 'failed', {
        failure: await reader.failure(failed.failure),
      });
    const late = has('activityTaskTimedOutEventAttributes');
    if (late !== null)
      return this.#end(event, late.scheduledEventId, 'timed out', {
        failure: await reader.failure(late.failure),
      });
    const canceled = has('activityTaskCanceledEventAttributes');
    if (canceled !== null) return this.#end(event, canceled.scheduledEventId, 'canceled', {});

    const child = has('startChildWorkflowExecutionInitiatedEventAttributes');
    if (child !== null) return this.#begin(event, 'child workflow', child.workflowId ?? null);
    const childStarted = has('childWorkflowExecutionStartedEventAttributes');
    if (childStarted !== null) {
      const step = this.#open.get(String(childStarted.initiatedEventId));
      if (step !== undefined) this.#startedAt.set(step, timeOf(event));
      return;
    }
    const notStarted = has('startChildWorkflowExecutionFailedEventAttributes');
    if (notStarted !== null)
      return this.#end(event, notStarted.initiatedEventId, 'not started', {
        failure: 'a workflow of that id runs already',
      });
    const childCompleted = has('childWorkflowExecutionCompletedEventAttributes');
    if (childCompleted !== null)
      return this.#end(event, childCompleted.initiatedEventId, 'completed', {
        detail: await reader.value(childCompleted.result),
      });
    const childFailed = has('childWorkflowExecutionFailedEventAttributes');
    if (childFailed !== null)
      return this.#end(event, childFailed.initiatedEventId, 'failed', {
        failure: await reader.failure(childFailed.failure),
      });
    for (const [ended, outcome] of [
      [has('childWorkflowExecutionTerminatedEventAttributes'), 'terminated'],
      [has('childWorkflowExecutionTimedOutEventAttributes'), 'timed out'],
      [has('childWorkflowExecutionCanceledEventAttributes'), 'canceled'],
    ] as const) {
      if (ended !== null) return this.#end(event, ended.initiatedEventId, outcome, {});
    }

    const timer = has('timerStartedEventAttributes');
    if (timer !== null)
      return this.#begin(
        event,
        'timer',
        null,
        `${millisecondsOf(timer.startToFireTimeout) / 1_000} s`,
      );
    const fired = has('timerFiredEventAttributes');
    if (fired !== null) return this.#end(event, fired.startedEventId, 'fired', {});
    const timerCanceled = has('timerCanceledEventAttributes');
    if (timerCanceled !== null)
      return this.#end(event, timerCanceled.startedEventId, 'canceled', {});

    const signal = has('workflowExecutionSignaledEventAttributes');
    if (signal !== null)
      return void this.#add(event, 'signal', signal.signalName ?? null, {
        detail: await reader.value(signal.input),
      });
    const update = has('workflowExecutionUpdateAcceptedEventAttributes');
    if (update !== null)
      return this.#begin(
        event,
        'update',
        update.acceptedRequest?.input?.name ?? null,
        await reader.value(update.acceptedRequest?.input?.args),
      );
    const updated = has('workflowExecutionUpdateCompletedEventAttributes');
    if (updated !== null) {
      const failure = await reader.failure(updated.outcome?.failure);
      return this.#end(event, updated.acceptedEventId, failure === null ? 'completed' : 'failed', {
        failure,
      });
    }
    const taskFailed = has('workflowTaskFailedEventAttributes');
    if (taskFailed !== null) {
      return void this.#add(event, 'workflow task', null, {
        outcome: 'failed',
        failure: await reader.failure(taskFailed.failure),
        detail: wordsOf(
          proto.temporal.api.enums.v1.WorkflowTaskFailedCause[taskFailed.cause ?? 0],
          'WORKFLOW_TASK_FAILED_CAUSE_',
        ),
      });
    }
    const taskLate = has('workflowTaskTimedOutEventAttributes');
    if (taskLate !== null)
      return void this.#add(event, 'workflow task', null, { outcome: 'timed out' });

    const done = has('workflowExecutionCompletedEventAttributes');
    if (done !== null)
      return void this.#add(event, 'workflow completed', null, {
        detail: await reader.value(done.result),
      });
    const broken = has('workflowExecutionFailedEventAttributes');
    if (broken !== null)
      return void this.#add(event, 'workflow failed', null, {
        failure: await reader.failure(broken.failure),
      });
    const terminated = has('workflowExecutionTerminatedEventAttributes');
    if (terminated !== null)
      return void this.#add(event, 'workflow terminated', terminated.identity ?? null, {
        failure: terminated.reason ?? null,
      });
    const onward = has('workflowExecutionContinuedAsNewEventAttributes');
    if (onward !== null)
      return void this.#add(event, 'workflow continued as new', null, {
        detail: `run ${onward.newExecutionRunId}`,
      });

    // What the workflow's machinery notes for itself says nothing to a reader.
    if (!QUIET.has(event.eventType ?? 0))
      this.#add(
        event,
        wordsOf(proto.temporal.api.enums.v1.EventType[event.eventType ?? 0], 'EVENT_TYPE_'),
        null,
        {},
      );
  }

  #begin(event: Event, kind: string, name: string | null, detail: unknown = null): void {
    this.#open.set(
      String(event.eventId),
      this.#add(event, kind, name, { outcome: 'pending', detail }),
    );
  }

  #end(
    event: Event,
    begunBy: unknown,
    outcome: string,
    more: Partial<Pick<TimelineStep, 'detail' | 'failure'>>,
  ): void {
    const step = this.#open.get(String(begunBy));
    if (step === undefined) return;
    const from = this.#startedAt.get(step) ?? (step.event === 'activity' ? null : step.at);
    Object.assign(step, {
      outcome,
      tookMs: from === null ? null : timeOf(event) - from,
      detail: more.detail ?? step.detail,
      failure: more.failure ?? step.failure,
    });
  }

  #add(event: Event, kind: string, name: string | null, more: Partial<TimelineStep>): TimelineStep {
    const step: TimelineStep = {
      eventId: Number(event.eventId),
      at: timeOf(event),
      event: kind,
      name,
      attempt: null,
      tookMs: null,
      outcome: null,
      detail: null,
      failure: null,
      ...more,
    };
    this.steps.push(step);
    return step;
  }
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

function timeOf(event: Event): number {
  return millisecondsOf(event.eventTime);
}

/** Seconds are a Long as they come from Temporal, and a number as they come from JSON. */
function millisecondsOf(
  time: { seconds?: unknown; nanos?: number | null } | null | undefined,
): number {
  return Number(time?.seconds ?? 0) * 1_000 + Math.floor((time?.nanos ?? 0) / 1_000_000);
}

/** `EVENT_TYPE_TIMER_STARTED` as `timer started`. */
function wordsOf(name: string | undefined, prefix: string): string {
  return (name ?? 'unknown').replace(prefix, '').toLowerCase().replaceAll('_', ' ');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
