/**
 * What Temporal tells: lineages that stand still, batches and undos that ended badly, activities
 * that try in vain, queues that nobody works.
 */
import type { DataConverter } from '@temporalio/common';
import { revisionId } from '../../schemas/correction.ts';
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
import { nothingFound, type Failure, type Findings } from './failure.ts';

/** Runs that ended badly and are looked at, the newest. */
const FAILED_RUNS_MAX = 100;
const RUNNING_MAX = 20;
/** A worker asks its queue at least once a minute, while it has nothing to do. */
const ASKS_WITHIN_MS = 90_000;
/** An activity that no worker took for so long waits for one. */
const TAKEN_WITHIN_MS = 20_000;
/** A workflow's next step that fails so often does not pass by itself. */
const TASK_ATTEMPTS_MIN = 3;

export interface WorkflowSource {
  lineages: TemporalLineages;
  dataConverter: DataConverter;
  log: VersionLog;
}

/** Throws the client's errors where Temporal does not answer. */
export async function workflowFailures(
  source: WorkflowSource,
  now = Date.now(),
): Promise<Findings & { status: LineageStatus | null }> {
  return await new Look(source, now).all();
}

class Look {
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
    const status = await this.#lineageItself();
    for await (const run of this.#runs.list(
      `(${batchesOf(this.#lineage)} OR ${undosOf(this.#lineage)}) AND ExecutionStatus = "Running"`,
      RUNNING_MAX,
    ))
      await this.#running(run);
    await this.#ended(status);
    return { ...this.#findings, status };
  }

  /** How the lineage stands by its own word; null where it cannot say. */
  async #lineageItself(): Promise<LineageStatus | null> {
    const lineage = await this.#runs.describe(lineageWorkflowId(this.#lineage));
    if (lineage === null) return null;
    this.#stuckSteps(lineage.run, lineage.taskAttempts);
    if (lineage.run.status !== 'RUNNING') {
      await this.#lineageEnded(lineage.run);
      return null;
    }
    if (!(await this.#isWorked(WORKFLOW_TASK_QUEUE, 'workflow'))) {
      this.#nobodyWorks(WORKFLOW_TASK_QUEUE, 'workflow-worker', lineage.run.startedAt);
      return null;
    }
    // One that cannot go on gives no answer to wait for.
    const status = lineage.taskAttempts < TASK_ATTEMPTS_MIN ? await this.#status() : null;
    if (status?.frozen) this.#frozen(status);
    return status;
  }

  async #status(): Promise<LineageStatus | null> {
    try {
      return await this.#source.lineages.status(this.#lineage);
    } catch (error) {
      this.#findings.unseen.push(
        `lineage ${this.#lineage}: whether it is frozen: ${error instanceof Error ? error.message : String(error)}`,
      );
      return null;
    }
  }

  async #lineageEnded(run: WorkflowRun): Promise<void> {
    this.#found({
      kind: 'lineage ended',
      subject: run.workflowId,
      since: run.closedAt,
      cause: `the workflow was ${run.status.toLowerCase()}: ${(await this.#causeOf(run))?.text ?? 'no reason was given'}`,
      heal: `errata replay lineage --lineage ${this.#lineage}`,
    });
  }

  #frozen({ frozen, held, waiting }: LineageStatus): void {
    const { since, reason } = frozen!;
    this.#found({
      kind: 'frozen',
      subject: held === null ? this.#lineage : `batch ${held.batchId}`,
      since,
      cause: `${reason}${held === null ? '' : `; the batch is kept, with ${held.revisions} revisions, after ${held.attempts} attempts`}; ${waiting} wait`,
      heal: `errata resume --lineage ${this.#lineage}`,
    });
  }

  async #running(run: WorkflowRun): Promise<void> {
    const described = await this.#runs.describe(run.workflowId, run.runId);
    if (described === null) return;
    this.#stuckSteps(run, described.taskAttempts);
    for (const pending of described.pending) {
      if (pending.attempt > 1 && pending.lastFailure !== null) await this.#retried(run, pending);
      else if (await this.#waitsForWorker(pending, described.pending)) {
        const queue = pending.taskQueue ?? editTaskQueue(this.#lineage);
        this.#nobodyWorks(
          queue,
          queue === WORKFLOW_TASK_QUEUE ? 'workflow-worker' : 'edit-worker',
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
    // One that has an activity in hand need not ask for more.
    return (
      !all.some((other) => other.started && other.taskQueue === pending.taskQueue) &&
      !(await this.#isWorked(queue, 'activity'))
    );
  }

  async #retried(run: WorkflowRun, pending: PendingActivity): Promise<void> {
    const cause = (await this.#reader.cause(pending.lastFailure))!;
    const next =
      pending.nextAttemptAt === null
        ? ''
        : `, again at ${new Date(pending.nextAttemptAt).toISOString()}`;
    this.#found({
      kind: 'activity',
      subject: `${pending.activity} of ${run.workflowId}`,
      since: pending.scheduledAt ?? run.startedAt,
      cause: `${cause.text} (attempt ${pending.attempt}${next})`,
      heal:
        CURES[cause.className]?.(this.#lineage) ??
        `errata history ${run.workflowId} --lineage ${this.#lineage}`,
    });
  }

  #stuckSteps(run: WorkflowRun, attempts: number): void {
    if (attempts < TASK_ATTEMPTS_MIN) return;
    this.#found({
      kind: 'workflow step',
      subject: run.workflowId,
      since: run.startedAt,
      cause: `its next step was tried ${attempts} times in vain: the workers' release may not be the one that it began with`,
      heal:
        run.workflowId === lineageWorkflowId(this.#lineage)
          ? `errata replay lineage --lineage ${this.#lineage}`
          : `errata replay batch ${run.workflowId} --lineage ${this.#lineage}`,
    });
  }

  #nobodyWorks(
    queue: string,
    process: 'workflow-worker' | 'edit-worker',
    since: number | null,
    cause?: string,
  ): void {
    if (
      this.#findings.failures.some(
        ({ kind, subject }) => kind === 'no worker' && subject === `queue ${queue}`,
      )
    )
      return;
    this.#found({
      kind: 'no worker',
      subject: `queue ${queue}`,
      since,
      cause: `${cause === undefined ? '' : `${cause}: `}no ${process} asked for work in the last ${ASKS_WITHIN_MS / 1_000} s`,
      heal: 'errata up',
    });
  }

  async #isWorked(queue: string, kind: 'workflow' | 'activity'): Promise<boolean> {
    const asked = await this.#runs.lastAsked(queue, kind);
    return asked !== null && this.#now - asked <= ASKS_WITHIN_MS;
  }

  /** Batches and undos that ended badly and were not settled by a later run. */
  async #ended(status: LineageStatus | null): Promise<void> {
    const seen = new Set<string>();
    const query = `(${batchesOf(this.#lineage)} OR ${undosOf(this.#lineage)}) AND ExecutionStatus IN ("Failed", "TimedOut", "Terminated", "Canceled")`;
    let looked = 0;
    for await (const run of this.#runs.list(query, FAILED_RUNS_MAX + 1)) {
      if (++looked > FAILED_RUNS_MAX) {
        this.#findings.unseen.push(
          `lineage ${this.#lineage}: runs that ended badly before the last ${FAILED_RUNS_MAX}`,
        );
        return;
      }
      const isUndo = run.workflowId.startsWith('undo/');
      const input = isUndo ? null : await this.#inputOf(run);
      // After a lineage was begun anew, another batch may have the same workflow id.
      const name = isUndo ? run.workflowId : (input?.batchId ?? run.workflowId);
      if (seen.has(name)) continue;
      seen.add(name);
      const latest = (await this.#runs.describe(run.workflowId))?.run;
      const runsNow = latest?.status === 'RUNNING';
      const settled =
        input === null ? latest?.status === 'COMPLETED' : await this.#isSettled(input);
      if (settled || runsNow) this.#findings.healed++;
      else if (isUndo) await this.#undoFailed(run);
      // A frozen lineage that keeps it was told of already, and one that is not frozen tries it
      // again.
      else if (status?.held?.batchId !== name && status?.running?.batchId !== name)
        await this.#batchFailed(run, name);
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

  async #batchFailed(run: WorkflowRun, batchId: string): Promise<void> {
    const sequence = run.workflowId.split('/').at(-1)!;
    this.#found({
      kind: 'batch',
      subject: batchId,
      since: run.closedAt,
      cause: `${run.workflowId} ${ENDED[run.status] ?? run.status.toLowerCase()}: ${(await this.#causeOf(run))?.text ?? 'no reason was given'}`,
      heal: `errata replay batch ${sequence} --lineage ${this.#lineage}`,
    });
  }

  async #undoFailed(run: WorkflowRun): Promise<void> {
    this.#found({
      kind: 'undo',
      subject: run.workflowId,
      since: run.closedAt,
      cause: `${ENDED[run.status] ?? run.status.toLowerCase()}: ${(await this.#causeOf(run))?.text ?? 'no reason was given'}`,
      heal: `errata replay batch ${run.workflowId} --lineage ${this.#lineage}`,
    });
  }

  async #inputOf(run: WorkflowRun): Promise<EditBatchInput | null> {
    const first = (await this.#runs.ends(run.workflowId, run.runId))?.first
      ?.workflowExecutionStartedEventAttributes;
    const value = await this.#reader.value(first?.input);
    return typeof value === 'object' && value !== null ? (value as EditBatchInput) : null;
  }

  async #causeOf(run: WorkflowRun): Promise<{ text: string } | null> {
    const last = (await this.#runs.ends(run.workflowId, run.runId))?.last;
    const terminated = last?.workflowExecutionTerminatedEventAttributes;
    if (terminated) return { text: terminated.reason || 'no reason was given' };
    return await this.#reader.cause(last?.workflowExecutionFailedEventAttributes?.failure);
  }

  #found(failure: Omit<Failure, 'lineage'>): void {
    this.#findings.failures.push({ lineage: this.#lineage, ...failure });
  }
}

const ENDED: Record<string, string> = {
  FAILED: 'failed',
  TIMED_OUT: 'timed out',
  TERMINATED: 'was terminated',
  CANCELED: 'was canceled',
};

/** What mends a failure that an activity meets again and again, by its class. */
const CURES: Partial<Record<string, (lineage: string) => string>> = {
  BaseChanged: (lineage) =>
    `errata up (with the ERRATA_MODEL and hyper-parameters that \`errata show head --lineage ${lineage}\` names)`,
  VersionLogDamaged: (lineage) => `errata verify --lineage ${lineage}`,
  BlobMissing: (lineage) => `errata verify --lineage ${lineage}`,
  StoreUnavailable: () => 'errata doctor',
  StoreRefused: () => 'errata doctor',
  ChannelRefused: () => 'errata doctor',
  PayloadUnreadable: () =>
    'errata up (with every key of ERRATA_TEMPORAL_PAYLOAD_KEYS that is still in use)',
  SchemaRegistryUnavailable: () => 'errata status',
  Timeout: () => 'errata status',
};
