/**
 * Lists workflow runs in Temporal and reads their status and histories. Payloads are not decoded,
 * so no keys are needed. Throws the client's own errors.
 */
import type { Client } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { optionalTsToMs } from '@temporalio/common/lib/time.js';
import proto from '@temporalio/proto';
import { batchWorkflowId, lineageWorkflowId } from '../workflows/contract.ts';

type HistoryPage = proto.temporal.api.workflowservice.v1.IGetWorkflowExecutionHistoryResponse;
type HistoryRequest = proto.temporal.api.workflowservice.v1.IGetWorkflowExecutionHistoryRequest;
type HistoryEvent = proto.temporal.api.history.v1.IHistoryEvent;
type ListPage = proto.temporal.api.workflowservice.v1.IListWorkflowExecutionsResponse;

export type History = proto.temporal.api.history.v1.IHistory;
export type ProtoFailure = proto.temporal.api.failure.v1.IFailure;

export interface WorkflowRun {
  workflowId: string;
  runId: string;
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
  /** 1 for the first attempt. */
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

/** Returns the query for a lineage's workflows: itself, its batches and its undos. */
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

/** Returns the lineage of a workflow, or null. */
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
  constructor(private readonly client: Client) {}

  /** Lists the runs that match a visibility query, last ended first. */
  async *list(query: string, runsMax = Number.MAX_SAFE_INTEGER): AsyncIterable<WorkflowRun> {
    let nextPageToken: Uint8Array | null = null;
    let given = 0;
    do {
      const pageSize = Math.min(PAGE_RUNS_MAX, runsMax - given);
      const page: ListPage = await this.#call(({ workflowService }, namespace) =>
        workflowService.listWorkflowExecutions({ namespace, query, pageSize, nextPageToken }),
      );
      for (const info of page.executions ?? []) {
        yield runOf(info);
        if (++given >= runsMax) return;
      }
      nextPageToken = page.nextPageToken ?? null;
    } while (nextPageToken?.length);
  }

  /**
   * Describes a run (by default the latest), its pending activities, and the attempts of its
   * pending workflow task; null for an unknown run.
   */
  async describe(workflowId: string, runId: string | null = null) {
    const execution = { workflowId, runId };
    const found = await this.#found(({ workflowService }, namespace) =>
      workflowService.describeWorkflowExecution({ namespace, execution }),
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
    const events: HistoryEvent[] = [];
    let nextPageToken: Uint8Array | null = null;
    for (let page = 0; page < HISTORY_PAGES_MAX; page++) {
      const answer = await this.#historyPage(workflowId, runId, { nextPageToken });
      if (answer === null) return null;
      events.push(...(answer.history?.events ?? []));
      if (!answer.nextPageToken?.length) return { events };
      ({ nextPageToken } = answer);
    }
    throw new RangeError(`the history of ${workflowId} has more than ${HISTORY_PAGES_MAX} pages`);
  }

  /** Returns a run's first event and, once it is closed, its last; null for an unknown run. */
  async ends(workflowId: string, runId: string) {
    const { HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT: historyEventFilterType } =
      proto.temporal.api.enums.v1.HistoryEventFilterType;
    const first = await this.#historyPage(workflowId, runId, { maximumPageSize: 1 });
    const last = await this.#historyPage(workflowId, runId, { historyEventFilterType });
    if (first === null || last === null) return null;
    return {
      first: first.history?.events?.[0] ?? null,
      last: last.history?.events?.at(-1) ?? null,
    };
  }

  /** Returns the last time that a worker polled a queue; null if none did in the last minutes. */
  async lastAsked(taskQueue: string, kind: 'workflow' | 'activity'): Promise<number | null> {
    const { TASK_QUEUE_TYPE_WORKFLOW, TASK_QUEUE_TYPE_ACTIVITY } =
      proto.temporal.api.enums.v1.TaskQueueType;
    const answer = await this.#call(({ workflowService }, namespace) =>
      workflowService.describeTaskQueue({
        namespace,
        taskQueue: { name: taskQueue },
        taskQueueType: kind === 'workflow' ? TASK_QUEUE_TYPE_WORKFLOW : TASK_QUEUE_TYPE_ACTIVITY,
      }),
    );
    const times = (answer.pollers ?? []).map(
      ({ lastAccessTime }) => optionalTsToMs(lastAccessTime) ?? 0,
    );
    return times.length === 0 ? null : Math.max(...times);
  }

  async #historyPage(
    workflowId: string,
    runId: string,
    options: HistoryRequest,
  ): Promise<HistoryPage | null> {
    const execution = { workflowId, runId };
    return await this.#found(({ workflowService }, namespace) =>
      workflowService.getWorkflowExecutionHistory({ namespace, execution, ...options }),
    );
  }

  async #call<Answer>(call: Call<Answer>): Promise<Answer> {
    const { client } = this;
    return await client.withDeadline(Date.now() + CALL_WAIT_MS, () =>
      call(client, client.options.namespace),
    );
  }

  async #found<Answer>(call: Call<Answer>): Promise<Answer | null> {
    return await this.#call(call).catch((error) => {
      if (isNotFound(error)) return null;
      throw error;
    });
  }
}

type Call<Answer> = (client: Client, namespace: string) => Promise<Answer>;

/** Serialises a history as Temporal's own tools do, without white space. */
export function jsonOfHistory(history: History): string {
  return JSON.stringify(JSON.parse(historyToJSON(history)));
}

/** Tells whether Temporal never knew the run, or has deleted it. */
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
