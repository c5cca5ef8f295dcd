/** Calls the lineage workflows by updates, signals and queries, and explains their failures. */
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
import { ErrataFailure, messageOf } from '../../schemas/failures.ts';
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

/** Longest wait for an update's answer; it is then requested again under the same update id. */
const ANSWER_WAIT_MS = 20_000;
const QUERY_WAIT_MS = 10_000;
const SIGNAL_WAIT_MS = 10_000;
/**
 * Longest wait for an undo's answer. Without a workflow worker the undo is then sent as a signal,
 * which Temporal keeps.
 */
const UNDO_ANSWER_WAIT_MS = 5_000;

/** `left`: no workflow worker answered, so the undo waits in the lineage's history. */
export type UndoTaken =
  | ({ kind: 'taken' } & UndoAccepted)
  | { kind: 'left'; workflowId: string }
  | { kind: 'refused'; type: string; message: string };

/** `unknown`: the undo has no workflow; it still waits or was never requested. */
export type UndoProgress =
  | { kind: 'ended'; result: UndoResult }
  | { kind: 'failed'; reason: string }
  | { kind: 'running' }
  | { kind: 'unknown' };

/** The lineage's workflow was never started, or Temporal's data was lost. */
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
  private constructor(
    readonly client: Client,
    private readonly connection: Connection,
    private readonly channel: Channel,
    private readonly taskQueue: string,
  ) {}

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
   * Sends a chunk to the lineage, which is started if necessary. Never throws: an outage is an
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
      // A chunk without a run is never refused for lack of room, so every start of a sender would
      // add to a full buffer.
      const run =
        chunk.run ?? (await this.client.withDeadline(deadline, () => this.#runOf(lineage)));
      const acceptance = await this.client.withDeadline(deadline, () =>
        this.client.workflow.executeUpdateWithStart(acceptUpdate, {
          // The same for every try of these records, so that a lost answer does not make a second
          // chunk.
          updateId: `${partitionKey(chunk)}-${chunk.firstOffset}-${attempt}`,
          args: [{ ...chunk, run }],
          startWorkflowOperation: this.#start(lineage, settings),
        }),
      );
      return { kind: 'accepted', acceptance };
    } catch (error) {
      const refusal = updateRefusal(error);
      if (refusal?.type === RECORDS_MISSING)
        return { kind: 'behind', throughOffset: refusal.details?.[0] as string };
      if (refusal !== null) return refused(refusal);
      const reason = this.explained(error);
      const message = messageOf(reason);
      return {
        kind: 'unavailable',
        message: reason instanceof ErrataFailure ? `${message}. ${reason.hint}` : message,
      };
    }
  }

  /** Returns a lineage's status; null if it was never started. Needs a workflow worker. */
  async status(lineage: string, waitMs = QUERY_WAIT_MS): Promise<LineageStatus | null> {
    const handle = this.client.workflow.getHandle(lineageWorkflowId(lineage));
    return await this.#call(waitMs, () => handle.query(statusQuery)).catch(nullIfUnknown);
  }

  /** Changes the settings from the next batch on; starts the lineage if necessary. */
  async configure(lineage: string, settings: LineageSettings): Promise<void> {
    await this.#signalWithStart(lineage, settings, configureSignal, settings).catch(this.#raise);
  }

  /** Registers missing search attributes and returns whether workflows may use them. */
  async registerSearchAttributes(): Promise<Registration> {
    const { namespace } = this.client.options;
    return await registerSearchAttributes(this.connection, namespace).catch(this.#raise);
  }

  /** Starts a batch of the waiting revisions. */
  async flush(lineage: string): Promise<void> {
    await this.#signal(lineage, flushSignal);
  }

  /** Starts no batch until `resume`; the running one is finished. */
  async freeze(lineage: string, reason: string): Promise<void> {
    await this.#signal(lineage, freezeSignal, reason);
  }

  async resume(lineage: string): Promise<void> {
    await this.#signal(lineage, resumeSignal);
  }

  /**
   * Needed for a corrections topic that was deleted and created again, since its offsets restart.
   */
  async forgetPositions(lineage: string): Promise<void> {
    await this.#signal(lineage, forgetPositionsSignal);
  }

  /** Sends an undo to the lineage, which is started if necessary. Repeating it has no effect. */
  async undo(lineage: string, settings: LineageSettings, order: UndoOrder): Promise<UndoTaken> {
    try {
      const accepted = await this.client.withDeadline(Date.now() + UNDO_ANSWER_WAIT_MS, () =>
        this.client.workflow.executeUpdateWithStart(undoUpdate, {
          args: [order],
          startWorkflowOperation: this.#start(lineage, settings),
        }),
      );
      return { kind: 'taken', ...accepted };
    } catch (error) {
      const refusal = updateRefusal(error);
      if (refusal !== null) return refused(refusal);
      if (!(error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) && !isUnanswered(error))
        throw this.explained(error);
    }
    await this.#call(SIGNAL_WAIT_MS, () =>
      this.#signalWithStart(lineage, settings, undoSignal, order),
    );
    return { kind: 'left', workflowId: undoWorkflowId(lineage, order.request.id) };
  }

  /** Reads the progress of an undo from its own workflow. */
  async undoProgress(lineage: string, id: string): Promise<UndoProgress> {
    const handle = this.client.workflow.getHandle<(input: unknown) => Promise<UndoResult>>(
      undoWorkflowId(lineage, id),
    );
    try {
      return await this.#call(QUERY_WAIT_MS, async (): Promise<UndoProgress> => {
        const { status } = await handle.describe();
        if (status.name === 'RUNNING') return { kind: 'running' };
        return { kind: 'ended', result: await handle.result() };
      });
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return { kind: 'unknown' };
      if (error instanceof WorkflowFailedError)
        return { kind: 'failed', reason: rootCause(error) ?? error.message };
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.connection.close();
  }

  async #signal<Args extends unknown[]>(
    lineage: string,
    signal: SignalDefinition<Args>,
    ...args: Args
  ): Promise<void> {
    const handle = this.client.workflow.getHandle(lineageWorkflowId(lineage));
    await this.#call(SIGNAL_WAIT_MS, () => handle.signal(signal, ...args)).catch((error) => {
      throw error instanceof WorkflowNotFoundError ? new LineageNotStarted(lineage) : error;
    });
  }

  async #signalWithStart<Argument>(
    lineage: string,
    settings: LineageSettings,
    signal: SignalDefinition<[Argument]>,
    argument: Argument,
  ): Promise<void> {
    await this.client.workflow.signalWithStart<LineageWorkflow, [Argument]>(LINEAGE_WORKFLOW, {
      ...this.#startOptions(lineage, settings),
      signal,
      signalArgs: [argument],
    });
  }

  /** Returns the lineage's latest run; null if it was never started. */
  async #runOf(lineage: string): Promise<string | null> {
    const handle = this.client.workflow.getHandle(lineageWorkflowId(lineage));
    return await handle.describe().then(({ runId }) => runId, nullIfUnknown);
  }

  async #call<Answer>(waitMs: number, call: () => Promise<Answer>): Promise<Answer> {
    return await this.client.withDeadline(Date.now() + waitMs, call).catch(this.#raise);
  }

  readonly #raise = (error: unknown): never => {
    const isAnswer = error instanceof WorkflowNotFoundError || error instanceof WorkflowFailedError;
    throw isAnswer ? error : this.explained(error);
  };

  /** Turns an error of `client` into a refusal with its fix, or names the failed call. */
  explained(error: unknown): unknown {
    const refusal = refusalOf(error, this.channel);
    if (refusal !== null) return refusal;
    return error instanceof ServiceError ||
      (error instanceof Error && 'code' in error && typeof error.code === 'number')
      ? new Error(`Temporal does not answer: ${inShort(error)}`, { cause: error })
      : error;
  }

  #start(lineage: string, settings: LineageSettings) {
    return new WithStartWorkflowOperation(LINEAGE_WORKFLOW, this.#startOptions(lineage, settings));
  }

  #startOptions(lineage: string, settings: LineageSettings) {
    return {
      workflowId: lineageWorkflowId(lineage),
      taskQueue: this.taskQueue,
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

type LineageWorkflow = (input: LineageInput) => Promise<void>;

/** Returns the workflow's own refusal of an update; null for another failure. */
function updateRefusal(error: unknown): ApplicationFailure | null {
  const cause = error instanceof WorkflowUpdateFailedError ? error.cause : null;
  return cause instanceof ApplicationFailure ? cause : null;
}

function refused({ type, message }: ApplicationFailure) {
  return { kind: 'refused', type: type ?? 'Refused', message } as const;
}

function nullIfUnknown(error: unknown): null {
  if (error instanceof WorkflowNotFoundError) return null;
  throw error;
}

/**
 * Tells whether Temporal was reached but no worker answered: the call took too long, or Temporal
 * holds updates back until a worker has resumed the workflow, for example after a reset.
 */
function isUnanswered(error: unknown): boolean {
  const cause: unknown = error instanceof ServiceError ? error.cause : error;
  return (
    cause instanceof Error &&
    'code' in cause &&
    (cause.code === DEADLINE_EXCEEDED || cause.code === FAILED_PRECONDITION)
  );
}

/** gRPC status codes. */
const DEADLINE_EXCEEDED = 4;
const FAILED_PRECONDITION = 9;

/** Returns how clients and workers authenticate with these options. */
export function temporalChannel(options: Pick<ConnectionOptions, 'tls' | 'apiKey'>): Channel {
  const { tls } = options;
  return {
    to: 'Temporal',
    tls: tls !== undefined && tls !== null && tls !== false,
    certificate: typeof tls === 'object' && tls !== null && tls.clientCertPair !== undefined,
    credential: options.apiKey !== undefined,
  };
}
