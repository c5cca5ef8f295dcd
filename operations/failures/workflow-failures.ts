/**
 * Finds failures in Temporal: frozen or ended lineages, failed batches and undos, activities that
 * fail repeatedly, task queues without a worker.
 */
import type { DataConverter } from '@temporalio/common';
import { revisionId } from '../../schemas/correction.ts';
import { messageOf } from '../../schemas/failures.ts';
import { Reader } from '../../pipelines/temporal/history-timeline.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import {
  TemporalRuns,
  batchesOf,
  undosOf,
  type PendingActivity,
  type WorkflowRun,
} from '../../pipelines/temporal/temporal-runs.ts';
import {
  WORKFLOW_TASK_QUEUE,
  editTaskQueue,
  lineageWorkflowId,
  type EditBatchInput,
  type LineageStatus,
} from '../../pipelines/workflows/contract.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import {
  failure,
  nothingFound,
  type Failure,
  type FailureFacts,
  type FailureKind,
  type Findings,
} from './failure.ts';

/** Failed runs that are examined, the newest. */
const FAILED_RUNS_MAX = 100;
const RUNNING_MAX = 20;
/** Longest time between polls; an idle worker polls its queue at least once a minute. */
const POLLS_WITHIN_MS = 90_000;
/** Time after which an activity that no worker took counts as waiting for one. */
const TAKEN_WITHIN_MS = 20_000;
/** Failed attempts of a workflow's next step after which it needs an operator. */
const TASK_ATTEMPTS_MIN = 3;

interface WorkflowSource {
  lineages: TemporalLineages;
  dataConverter: DataConverter;
  log: VersionLog;
}

/** Finds the open failures. Throws the client's errors where Temporal does not answer. */
export async function workflowFailures(
  source: WorkflowSource,
  now = Date.now(),
): Promise<Findings & { status: LineageStatus | null }> {
  return await new WorkflowSearch(source, now).all();
}

class WorkflowSearch {
  readonly #lineage: string;
  readonly #source: WorkflowSource;
  readonly #runs: TemporalRuns;
  readonly #reader: Reader;
  readonly #now: number;
  readonly #findings = nothingFound();

  constructor(source: WorkflowSource, now: number) {
    this.#source = source;
    this.#lineage = source.log.lineage;
    this.#runs = new TemporalRuns(source.lineages.client);
    this.#reader = new Reader(source.dataConverter);
    this.#now = now;
  }

  async all(): Promise<Findings & { status: LineageStatus | null }> {
    const status = await this.#lineageWorkflow();
    const running = `${this.#children} AND ExecutionStatus = "Running"`;
    for await (const run of this.#runs.list(running, RUNNING_MAX)) await this.#running(run);
    await this.#ended(status);
    return { ...this.#findings, status };
  }

  get #children(): string {
    return `(${batchesOf(this.#lineage)} OR ${undosOf(this.#lineage)})`;
  }

  /** Examines the lineage's own workflow; null where it does not answer. */
  async #lineageWorkflow(): Promise<LineageStatus | null> {
    const lineage = await this.#runs.describe(lineageWorkflowId(this.#lineage));
    if (lineage === null) return null;
    this.#stuckSteps(lineage.run, lineage.taskAttempts);
    if (lineage.run.status !== 'RUNNING') {
      await this.#lineageEnded(lineage.run);
      return null;
    }
    if (!(await this.#isWorked(WORKFLOW_TASK_QUEUE, 'workflow'))) {
      this.#withoutWorker(WORKFLOW_TASK_QUEUE, lineage.run.startedAt);
      return null;
    }
    // A stuck workflow answers no query.
    const status = lineage.taskAttempts < TASK_ATTEMPTS_MIN ? await this.#status() : null;
    if (status?.frozen) this.#frozen(status);
    return status;
  }

  async #status(): Promise<LineageStatus | null> {
    try {
      return await this.#source.lineages.status(this.#lineage);
    } catch (error) {
      const unseen = `lineage ${this.#lineage}: whether it is frozen: ${messageOf(error)}`;
      this.#findings.unseen.push(unseen);
      return null;
    }
  }

  async #lineageEnded(run: WorkflowRun): Promise<void> {
    const ended = `was ${run.status.toLowerCase()}: ${await this.#reasonOf(run)}`;
    this.#add({ subject: run.workflowId, since: run.closedAt }, 'lineage ended', { ended });
  }

  #frozen({ frozen, held, waiting }: LineageStatus): void {
    const { since, reason } = frozen!;
    const subject = held === null ? this.#lineage : `batch ${held.batchId}`;
    this.#add({ subject, since }, 'frozen', { reason, held, waiting });
  }

  async #running(run: WorkflowRun): Promise<void> {
    const described = await this.#runs.describe(run.workflowId, run.runId);
    if (described === null) return;
    this.#stuckSteps(run, described.taskAttempts);
    for (const pending of described.pending) {
      if (pending.attempt > 1 && pending.lastFailure !== null) await this.#retried(run, pending);
      else if (await this.#waitsForWorker(pending, described.pending)) {
        this.#withoutWorker(
          pending.taskQueue ?? editTaskQueue(this.#lineage),
          pending.scheduledAt,
          `${pending.activity} of ${run.workflowId} waits`,
        );
      }
    }
  }

  async #waitsForWorker(
    pending: PendingActivity,
    all: readonly PendingActivity[],
  ): Promise<boolean> {
    if (
      pending.started ||
      pending.scheduledAt === null ||
      this.#now - pending.scheduledAt < TAKEN_WITHIN_MS
    )
      return false;
    const queue = pending.taskQueue ?? editTaskQueue(this.#lineage);
    // A worker that is busy with an activity does not poll.
    return (
      !all.some((other) => other.started && other.taskQueue === pending.taskQueue) &&
      !(await this.#isWorked(queue, 'activity'))
    );
  }

  async #retried(
    { workflowId, startedAt }: WorkflowRun,
    { activity, attempt, lastFailure, nextAttemptAt, scheduledAt }: PendingActivity,
  ): Promise<void> {
    const { className, text } = (await this.#reader.cause(lastFailure))!;
    const again =
      nextAttemptAt === null ? '' : `, again at ${new Date(nextAttemptAt).toISOString()}`;
    this.#add(
      { subject: `${activity} of ${workflowId}`, since: scheduledAt ?? startedAt },
      'activity',
      { workflowId, className, problem: `${text} (attempt ${attempt}${again})` },
    );
  }

  #stuckSteps({ workflowId, startedAt: since }: WorkflowRun, attempts: number): void {
    if (attempts < TASK_ATTEMPTS_MIN) return;
    this.#add({ subject: workflowId, since }, 'workflow step', { workflowId, attempts });
  }

  #withoutWorker(queue: string, since: number | null, waiting: string | null = null): void {
    const subject = `queue ${queue}`;
    const { failures } = this.#findings;
    if (failures.some((one) => one.kind === 'no worker' && one.subject === subject)) return;
    const process = queue === WORKFLOW_TASK_QUEUE ? 'workflow-worker' : 'edit-worker';
    const seconds = POLLS_WITHIN_MS / 1_000;
    this.#add({ subject, since }, 'no worker', { waiting, process, seconds });
  }

  async #isWorked(queue: string, kind: 'workflow' | 'activity'): Promise<boolean> {
    const polled = await this.#runs.lastAsked(queue, kind);
    return polled !== null && this.#now - polled <= POLLS_WITHIN_MS;
  }

  /** Examines batches and undos that failed and were not settled by a later run. */
  async #ended(status: LineageStatus | null): Promise<void> {
    const seen = new Set<string>();
    const query =
      `${this.#children} AND ` +
      'ExecutionStatus IN ("Failed", "TimedOut", "Terminated", "Canceled")';
    let examined = 0;
    for await (const run of this.#runs.list(query, FAILED_RUNS_MAX + 1)) {
      if (++examined > FAILED_RUNS_MAX) {
        this.#findings.unseen.push(
          `lineage ${this.#lineage}: failed runs before the last ${FAILED_RUNS_MAX}`,
        );
        return;
      }
      const isUndo = run.workflowId.startsWith('undo/');
      const input = isUndo ? null : await this.#inputOf(run);
      // After a lineage was restarted, another batch may have the same workflow id.
      const name = isUndo ? run.workflowId : (input?.batchId ?? run.workflowId);
      if (seen.has(name)) continue;
      seen.add(name);
      const latest = (await this.#runs.describe(run.workflowId))?.run;
      const runsNow = latest?.status === 'RUNNING';
      const settled =
        input === null ? latest?.status === 'COMPLETED' : await this.#isSettled(input);
      if (settled || runsNow) this.#findings.healed++;
      else if (isUndo) await this.#runFailed(run, 'undo', name);
      // A frozen lineage that holds it was reported already; any other lineage tries it again.
      else if (status?.held?.batchId !== name && status?.running?.batchId !== name)
        await this.#runFailed(run, 'batch', name);
    }
  }

  async #isSettled({ revisions, settled }: EditBatchInput): Promise<boolean> {
    const ids = [
      ...revisions.map(revisionId),
      ...settled
        .filter(({ status }) => status !== 'DUPLICATE')
        .map((outcome) => outcome.revisionId),
    ];
    const decided = await this.#source.log.registered.outcomesOf(ids);
    return ids.every((id) => decided.has(id));
  }

  async #runFailed(run: WorkflowRun, kind: 'batch' | 'undo', subject: string): Promise<void> {
    const { workflowId, status, closedAt: since } = run;
    const ended = `${ENDED[status] ?? status.toLowerCase()}: ${await this.#reasonOf(run)}`;
    this.#add({ subject, since }, kind, { workflowId, ended });
  }

  async #inputOf(run: WorkflowRun): Promise<EditBatchInput | null> {
    const first = (await this.#runs.ends(run.workflowId, run.runId))?.first
      ?.workflowExecutionStartedEventAttributes;
    const value = await this.#reader.value(first?.input);
    return typeof value === 'object' && value !== null ? (value as EditBatchInput) : null;
  }

  async #reasonOf(run: WorkflowRun): Promise<string> {
    const last = (await this.#runs.ends(run.workflowId, run.runId))?.last;
    const terminated = last?.workflowExecutionTerminatedEventAttributes;
    const failed = last?.workflowExecutionFailedEventAttributes?.failure;
    const reason = terminated ? terminated.reason : await this.#reader.failure(failed);
    return reason || 'no reason was given';
  }

  #add<Kind extends FailureKind>(
    about: Pick<Failure, 'subject' | 'since'>,
    kind: Kind,
    facts: FailureFacts[Kind],
  ): void {
    const { failures } = this.#findings;
    failures.push(failure({ lineage: this.#lineage, ...about }, kind, facts));
  }
}

const ENDED: Record<string, string> = {
  FAILED: 'failed',
  TIMED_OUT: 'timed out',
  TERMINATED: 'was terminated',
  CANCELED: 'was canceled',
};
