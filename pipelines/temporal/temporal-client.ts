/**
 * The lineage workflows, as their callers see them. It connects to Temporal's front end;
 * `temporal-runs.ts` asks it about runs.
 */
import {
  Client,
  Connection,
  WithStartWorkflowOperation,
  ServiceError,
  WorkflowFailedError,
  WorkflowIdConflictPolicy,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type ConnectionOptions,
} from '@temporalio/client';
import {
  ApplicationFailure,
  rootCause,
  type DataConverter,
  type SignalDefinition,
} from '@temporalio/common';
import { ErrataFailure } from '../../schemas/failures.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { UndoResult } from '../../schemas/undo.ts';
import type { AcceptAnswer } from '../ingest/ingest.ts';
import { payloadConverter } from './payload-codec.ts';
import { inShort, refusalOf, type Channel } from '../refused-channel.ts';
import { registerSearchAttributes, type Registration } from './search-attributes.ts';
import {
  LINEAGE_WORKFLOW,
  RECORDS_MISSING,
  WORKFLOW_TASK_QUEUE,
  lineageWorkflowId,
  partitionKey,
  undoWorkflowId,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
  type UndoAccepted,
  type UndoOrder,
} from '../workflows/contract.ts';
import {
  acceptUpdate,
  configureSignal,
  flushSignal,
  forgetPositionsSignal,
  freezeSignal,
  resumeSignal,
  statusQuery,
  undoSignal,
  undoUpdate,
} from '../workflows/messages.ts';

/** An answer to an update that is longer in coming is asked for again, under the same update id. */
const ANSWER_WAIT_MS = 20_000;
const QUERY_WAIT_MS = 10_000;
const SIGNAL_WAIT_MS = 10_000;
/**
 * Without a workflow worker nobody answers an update: after this the undo is left for it as a
 * signal, which Temporal keeps.
 */
const UNDO_ANSWER_WAIT_MS = 5_000;

/**
 * `left`: no workflow worker answered, and the undo waits in the lineage's history for the next
 * one.
 */
export type UndoTaken =
  | ({ kind: 'taken' } & UndoAccepted)
  | { kind: 'left'; workflowId: string }
  | { kind: 'refused'; type: string; message: string };

/**
 * How far an undo is; `unknown`: Temporal knows no workflow of it, so that it waits, or was never
 * asked for.
 */
export type UndoProgress =
  | { kind: 'ended'; result: UndoResult }
  | { kind: 'failed'; reason: string }
  | { kind: 'running' }
  | { kind: 'unknown' };

/** The lineage's workflow was never started, or Temporal's data is not the data that it was. */
export class LineageNotStarted extends ErrataFailure {
  override readonly name = 'LineageNotStarted';
  constructor(lineage: string) {
    super(
      `the workflow of lineage "${lineage}" was never started in this Temporal`,
      { lineage },
      'Ingest starts it: `errata up`, or the ingest process of this lineage.',
    );
  }
}

export class TemporalLineages {
  readonly client: Client;
  readonly #connection: Connection;
  readonly #channel: Channel;
  readonly #taskQueue: string;

  private constructor(client: Client, connection: Connection, channel: Channel, taskQueue: string) {
    this.client = client;
    this.#connection = connection;
    this.#channel = channel;
    this.#taskQueue = taskQueue;
  }

  /**
   * Connects at the first call, so that a process may start before Temporal does. The converter
   * (`payloadConverter`) must be the workers'. Throws `ChannelRefused` for a certificate and key
   * that do not match.
   */
  static connect(
    options: ConnectionOptions,
    namespace: string,
    dataConverter: DataConverter = payloadConverter([]),
    taskQueue = WORKFLOW_TASK_QUEUE,
  ): TemporalLineages {
    const channel = temporalChannel(options);
    try {
      const connection = Connection.lazy(options);
      const client = new Client({ connection, namespace, dataConverter });
      return new TemporalLineages(client, connection, channel, taskQueue);
    } catch (error) {
      throw refusalOf(error, channel) ?? error;
    }
  }

  /**
   * Hands a chunk to the lineage, which is started if necessary. Never throws: an outage is an
   * answer. Repetitions with the same `attempt` get the first one's answer.
   */
  async accept(
    lineage: string,
    settings: LineageSettings,
    chunk: RevisionChunk,
    attempt = '',
  ): Promise<AcceptAnswer> {
    try {
      const deadline = Date.now() + ANSWER_WAIT_MS;
      // Without a run it would not be refused for want of room, and every start of a sender would
      // add to a full buffer.
      const run =
        chunk.run ?? (await this.client.withDeadline(deadline, () => this.#runOf(lineage)));
      const acceptance = await this.client.withDeadline(deadline, () =>
        this.client.workflow.executeUpdateWithStart(acceptUpdate, {
          // The same for every try of these records, so that a lost answer does not make a second
          // chunk.
          updateId: `${partitionKey(chunk)}-${chunk.firstOffset}-${attempt}`,
          args: [{ ...chunk, run }],
          startWorkflowOperation: new WithStartWorkflowOperation(
            LINEAGE_WORKFLOW,
            this.#startOptions(lineage, settings),
          ),
        }),
      );
      return { kind: 'accepted', acceptance };
    } catch (error) {
      const refusal =
        error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure
          ? error.cause
          : null;
      if (refusal?.type === RECORDS_MISSING)
        return { kind: 'behind', throughOffset: refusal.details?.[0] as string };
      if (refusal !== null)
        return { kind: 'refused', type: refusal.type ?? 'Refused', message: refusal.message };
      const reason = this.explained(error);
      return {
        kind: 'unavailable',
        message:
          reason instanceof ErrataFailure
            ? `${reason.message}. ${reason.hint}`
            : reason instanceof Error
              ? reason.message
              : String(reason),
      };
    }
  }

  /** Returns a lineage's status; null where it was never started. Needs a workflow worker. */
  async status(lineage: string, waitMs = QUERY_WAIT_MS): Promise<LineageStatus | null> {
    try {
      return await this.client.withDeadline(Date.now() + waitMs, () =>
        this.client.workflow.getHandle(lineageWorkflowId(lineage)).query(statusQuery),
      );
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return null;
      throw this.explained(error);
    }
  }

  /** Sets the lineage's settings from the next batch on; starts the lineage if it is not there. */
  async configure(lineage: string, settings: LineageSettings): Promise<void> {
    try {
      await this.client.workflow.signalWithStart<
        (input: LineageInput) => Promise<void>,
        [LineageSettings]
      >(LINEAGE_WORKFLOW, {
        ...this.#startOptions(lineage, settings),
        signal: configureSignal,
        signalArgs: [settings],
      });
    } catch (error) {
      throw this.explained(error);
    }
  }

  /**
   * Registers the search attributes in the namespace, where this client may, and says whether
   * workflows may carry them.
   */
  async registerSearchAttributes(): Promise<Registration> {
    try {
      return await registerSearchAttributes(this.#connection, this.client.options.namespace);
    } catch (error) {
      throw this.explained(error);
    }
  }

  /** What waits is edited at once. */
  async flush(lineage: string): Promise<void> {
    await this.#signal(lineage, flushSignal);
  }

  /** No batch starts until `resume`; the running one is finished. */
  async freeze(lineage: string, reason: string): Promise<void> {
    await this.#signal(lineage, freezeSignal, reason);
  }

  async resume(lineage: string): Promise<void> {
    await this.#signal(lineage, resumeSignal);
  }

  /** For a corrections topic that was deleted and made anew, whose offsets begin again. */
  async forgetPositions(lineage: string): Promise<void> {
    await this.#signal(lineage, forgetPositionsSignal);
  }

  /**
   * Hands an undo to the lineage, which is started if it is not there. What is handed over twice is
   * done once.
   */
  async undo(lineage: string, settings: LineageSettings, order: UndoOrder): Promise<UndoTaken> {
    const start = this.#startOptions(lineage, settings);
    try {
      const accepted = await this.client.withDeadline(Date.now() + UNDO_ANSWER_WAIT_MS, () =>
        this.client.workflow.executeUpdateWithStart(undoUpdate, {
          args: [order],
          startWorkflowOperation: new WithStartWorkflowOperation(LINEAGE_WORKFLOW, start),
        }),
      );
      return { kind: 'taken', ...accepted };
    } catch (error) {
      const refusal =
        error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure
          ? error.cause
          : null;
      if (refusal !== null)
        return { kind: 'refused', type: refusal.type ?? 'Refused', message: refusal.message };
      if (!(error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) && !isUnanswered(error))
        throw this.explained(error);
    }
    try {
      await this.client.withDeadline(Date.now() + SIGNAL_WAIT_MS, () =>
        this.client.workflow.signalWithStart<(input: LineageInput) => Promise<void>, [UndoOrder]>(
          LINEAGE_WORKFLOW,
          { ...start, signal: undoSignal, signalArgs: [order] },
        ),
      );
    } catch (error) {
      throw this.explained(error);
    }
    return { kind: 'left', workflowId: undoWorkflowId(lineage, order.request.id) };
  }

  /** How far an undo is, from its own workflow. */
  async undoProgress(lineage: string, id: string): Promise<UndoProgress> {
    const handle = this.client.workflow.getHandle<(input: unknown) => Promise<UndoResult>>(
      undoWorkflowId(lineage, id),
    );
    try {
      return await this.client.withDeadline(
        Date.now() + QUERY_WAIT_MS,
        async (): Promise<UndoProgress> => {
          const { status } = await handle.describe();
          return status.name === 'RUNNING'
            ? { kind: 'running' }
            : { kind: 'ended', result: await handle.result() };
        },
      );
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return { kind: 'unknown' };
      if (error instanceof WorkflowFailedError)
        return { kind: 'failed', reason: rootCause(error) ?? error.message };
      throw this.explained(error);
    }
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  async #signal<Args extends unknown[]>(
    lineage: string,
    signal: SignalDefinition<Args>,
    ...args: Args
  ): Promise<void> {
    try {
      await this.client.withDeadline(Date.now() + SIGNAL_WAIT_MS, () =>
        this.client.workflow.getHandle(lineageWorkflowId(lineage)).signal(signal, ...args),
      );
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) throw new LineageNotStarted(lineage);
      throw this.explained(error);
    }
  }

  /** The lineage's latest run; null where it was never started. */
  async #runOf(lineage: string): Promise<string | null> {
    try {
      return (await this.client.workflow.getHandle(lineageWorkflowId(lineage)).describe()).runId;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return null;
      throw error;
    }
  }

  /** Turns an error of `client` into a refusal with its fix, or names what failed. */
  explained(error: unknown): unknown {
    const refusal = refusalOf(error, this.#channel);
    if (refusal !== null) return refusal;
    return error instanceof ServiceError ||
      (error instanceof Error && 'code' in error && typeof error.code === 'number')
      ? new Error(`Temporal does not answer: ${inShort(error)}`, { cause: error })
      : error;
  }

  #startOptions(lineage: string, settings: LineageSettings) {
    return {
      workflowId: lineageWorkflowId(lineage),
      taskQueue: this.#taskQueue,
      workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
      args: [{ lineage, settings, carried: null }] as [LineageInput],
      ...(settings.findable
        ? {
            staticSummary: `Lineage ${lineage}`,
            staticDetails:
              'Takes the corrections of this lineage, edits them batch by batch (`edit-batch/…`) ' +
              'and carries out undos (`undo/…`), for good.',
          }
        : {}),
    };
  }
}

/**
 * Whether an update found Temporal, and no worker that answers it: it took too long, or Temporal
 * holds updates back until a worker has taken up the workflow again, after a reset for one.
 */
function isUnanswered(error: unknown): boolean {
  const cause: unknown = error instanceof ServiceError ? error.cause : error;
  return (
    cause instanceof Error &&
    'code' in cause &&
    (cause.code === DEADLINE_EXCEEDED || cause.code === FAILED_PRECONDITION)
  );
}

/** gRPC's numbers for them. */
const DEADLINE_EXCEEDED = 4;
const FAILED_PRECONDITION = 9;

/** How clients and workers prove themselves with these options. */
export function temporalChannel(options: Pick<ConnectionOptions, 'tls' | 'apiKey'>): Channel {
  const { tls } = options;
  return {
    to: 'Temporal',
    tls: tls !== undefined && tls !== null && tls !== false,
    certificate: typeof tls === 'object' && tls !== null && tls.clientCertPair !== undefined,
    credential: options.apiKey !== undefined,
  };
}
