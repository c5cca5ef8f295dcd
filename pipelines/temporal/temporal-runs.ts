/**
 * Runs of workflows in Temporal: their list, status and histories. Payloads are not decoded, so
 * that no keys are needed. Throws the client's own errors.
 */
import type { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { optionalTsToMs } from '@temporalio/common/lib/time.js';
import proto from '@temporalio/proto';
import { batchWorkflowId, lineageWorkflowId } from '../workflows/contract.ts';

type HistoryPage = proto.temporal.api.workflowservice.v1.IGetWorkflowExecutionHistoryResponse;
type ListPage = proto.temporal.api.workflowservice.v1.IListWorkflowExecutionsResponse;

export type History = proto.temporal.api.history.v1.IHistory;
export type ProtoFailure = proto.temporal.api.failure.v1.IFailure;

export interface WorkflowRun {
  workflowId: string;
  runId: string;
  /** The workflow's type. */
  type: string;
  /** RUNNING, COMPLETED, FAILED, CANCELED, TERMINATED, CONTINUED_AS_NEW, TIMED_OUT. */
  status: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  closedAt: number | null;
}

/** An activity that a run is waiting for. */
export interface PendingActivity {
  activity: string;
  taskQueue: string | null;
  /** 1 at first. */
  attempt: number;
  /** Whether a worker is running it. */
  started: boolean;
  /** Milliseconds since 1970. */
  scheduledAt: number | null;
  lastStartedAt: number | null;
  nextAttemptAt: number | null;
  lastFailure: ProtoFailure | null;
}

const CALL_WAIT_MS = 10_000;
const PAGE_RUNS_MAX = 100;
/** Temporal ends a run at some 50,000 events, and a page has at least a hundred. */
const HISTORY_PAGES_MAX = 1_000;
const GRPC_NOT_FOUND = 5;

/** The query for a lineage's workflows: itself, its batches and its undos. */
export function workflowsOf(lineage: string): string {
  const itself = `WorkflowId = ${quoted(lineageWorkflowId(lineage))}`;
  return `(${itself} OR ${batchesOf(lineage)} OR ${undosOf(lineage)})`;
}

export function batchesOf(lineage: string): string {
  return `WorkflowId STARTS_WITH ${quoted(`edit-batch/${lineage}/`)}`;
}

export function undosOf(lineage: string): string {
  return `WorkflowId STARTS_WITH ${quoted(`undo/${lineage}/`)}`;
}

/** Returns the lineage that a workflow belongs to, or null. */
export function lineageOfWorkflow(workflowId: string): string | null {
  return (
    /^(?:lineage\/([^/]+)|(?:edit-batch|undo)\/([^/]+)\/[^/]+)$/
      .exec(workflowId)
      ?.slice(1)
      .find((name) => name !== undefined) ?? null
  );
}

/** Returns the workflow of a batch or of a part of one; null for other ids. */
export function workflowOfBatch(lineage: string, batchId: string): string | null {
  const sequence = /^(\d{6,})-[0-9a-f]+(\..*)?$/.exec(batchId)?.[1];
  return sequence === undefined ? null : batchWorkflowId(lineage, Number(sequence));
}

export class TemporalRuns {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Lists the runs that a visibility query finds, those that ended last first. */
  async *list(query: string, runsMax = Number.MAX_SAFE_INTEGER): AsyncIterable<WorkflowRun> {
    let nextPageToken: Uint8Array | null = null;
    let given = 0;
    do {
      const page: ListPage = await this.#call(() =>
        this.#client.workflowService.listWorkflowExecutions({
          namespace: this.#namespace,
          query,
          pageSize: Math.min(PAGE_RUNS_MAX, runsMax - given),
          ...(nextPageToken === null ? {} : { nextPageToken }),
        }),
      );
      for (const info of page.executions ?? []) {
        yield runOf(info);
        if (++given >= runsMax) return;
      }
      nextPageToken = page.nextPageToken?.length ? page.nextPageToken : null;
    } while (nextPageToken !== null);
  }

  /**
   * Describes a run (by default the latest), its pending activities, and the attempts of its
   * pending workflow task; null for an unknown run.
   */
  async describe(
    workflowId: string,
    runId?: string,
  ): Promise<{ run: WorkflowRun; pending: PendingActivity[]; taskAttempts: number } | null> {
    const found = await this.#found(() =>
      this.#client.workflowService.describeWorkflowExecution({
        namespace: this.#namespace,
        execution: { workflowId, ...(runId === undefined ? {} : { runId }) },
      }),
    );
    if (!found?.workflowExecutionInfo) return null;
    return {
      run: runOf(found.workflowExecutionInfo),
      pending: (found.pendingActivities ?? []).map(pendingOf),
      taskAttempts: found.pendingWorkflowTask?.attempt ?? 0,
    };
  }

  /** Returns the whole history of a run; null for an unknown run. */
  async history(workflowId: string, runId: string): Promise<History | null> {
    const events: proto.temporal.api.history.v1.IHistoryEvent[] = [];
    let nextPageToken: Uint8Array | null = null;
    for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
      const answer: HistoryPage | null = await this.#found(() =>
        this.#client.workflowService.getWorkflowExecutionHistory({
          namespace: this.#namespace,
          execution: { workflowId, runId },
          ...(nextPageToken === null ? {} : { nextPageToken }),
        }),
      );
      if (answer === null) return null;
      events.push(...(answer.history?.events ?? []));
      if (!answer.nextPageToken?.length) return { events };
      nextPageToken = answer.nextPageToken;
    }
    throw new RangeError(`the history of ${workflowId} has more than ${HISTORY_PAGES_MAX} pages`);
  }

  /** Returns a run's first event and, once it is closed, its last; null for an unknown run. */
  async ends(
    workflowId: string,
    runId: string,
  ): Promise<{
    first: proto.temporal.api.history.v1.IHistoryEvent | null;
    last: proto.temporal.api.history.v1.IHistoryEvent | null;
  } | null> {
    const execution = { workflowId, runId };
    const { HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT } =
      proto.temporal.api.enums.v1.HistoryEventFilterType;
    const first = await this.#found(() =>
      this.#client.workflowService.getWorkflowExecutionHistory({
        namespace: this.#namespace,
        execution,
        maximumPageSize: 1,
      }),
    );
    const last = await this.#found(() =>
      this.#client.workflowService.getWorkflowExecutionHistory({
        namespace: this.#namespace,
        execution,
        historyEventFilterType: HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
      }),
    );
    return first === null || last === null
      ? null
      : { first: first.history?.events?.[0] ?? null, last: last.history?.events?.at(-1) ?? null };
  }

  /** Returns when a worker last polled a queue; null where none did in the last minutes. */
  async lastAsked(taskQueue: string, kind: 'workflow' | 'activity'): Promise<number | null> {
    const { TASK_QUEUE_TYPE_WORKFLOW, TASK_QUEUE_TYPE_ACTIVITY } =
      proto.temporal.api.enums.v1.TaskQueueType;
    const answer = await this.#call(() =>
      this.#client.workflowService.describeTaskQueue({
        namespace: this.#namespace,
        taskQueue: { name: taskQueue },
        taskQueueType: kind === 'workflow' ? TASK_QUEUE_TYPE_WORKFLOW : TASK_QUEUE_TYPE_ACTIVITY,
      }),
    );
    const times = (answer.pollers ?? []).map(
      ({ lastAccessTime }) => optionalTsToMs(lastAccessTime) ?? 0,
    );
    return times.length === 0 ? null : Math.max(...times);
  }

  get #namespace(): string {
    return this.#client.options.namespace;
  }

  async #call<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    return await this.#client.withDeadline(Date.now() + CALL_WAIT_MS, ask);
  }

  async #found<Answer>(ask: () => Promise<Answer>): Promise<Answer | null> {
    try {
      return await this.#call(ask);
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }
}

/** Writes a history as Temporal's own tools do, without white space. */
export function jsonOfHistory(history: History): string {
  return JSON.stringify(JSON.parse(historyToJSON(history)));
}

/** Whether Temporal does not know the run (any more). */
function isNotFound(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    error.code === GRPC_NOT_FOUND &&
    !error.message.includes('Namespace')
  );
}

function runOf(info: proto.temporal.api.workflow.v1.IWorkflowExecutionInfo): WorkflowRun {
  const status = proto.temporal.api.enums.v1.WorkflowExecutionStatus[info.status ?? 0] ?? 'UNKNOWN';
  return {
    workflowId: info.execution?.workflowId ?? '',
    runId: info.execution?.runId ?? '',
    type: info.type?.name ?? '',
    status: status.replace('WORKFLOW_EXECUTION_STATUS_', ''),
    startedAt: optionalTsToMs(info.startTime) ?? 0,
    closedAt: optionalTsToMs(info.closeTime) ?? null,
  };
}

function pendingOf(pending: proto.temporal.api.workflow.v1.IPendingActivityInfo): PendingActivity {
  const { PENDING_ACTIVITY_STATE_STARTED } = proto.temporal.api.enums.v1.PendingActivityState;
  return {
    activity: pending.activityType?.name ?? '',
    taskQueue: pending.activityOptions?.taskQueue?.name ?? null,
    attempt: pending.attempt ?? 1,
    started: pending.state === PENDING_ACTIVITY_STATE_STARTED,
    scheduledAt: optionalTsToMs(pending.scheduledTime) ?? null,
    lastStartedAt: optionalTsToMs(pending.lastStartedTime) ?? null,
    nextAttemptAt: optionalTsToMs(pending.nextAttemptScheduleTime) ?? null,
    lastFailure: pending.lastFailure ?? null,
  };
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', '')}"`;
}
