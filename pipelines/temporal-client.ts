/** The lineage workflows, as their callers see them. The one file that talks to Temporal's front end. */
import {
  Client,
  Connection,
  WithStartWorkflowOperation,
  ServiceError,
  WorkflowIdConflictPolicy,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  type ConnectionOptions,
} from '@temporalio/client';
import { ApplicationFailure, type DataConverter } from '@temporalio/common';
import { ErrataFailure } from '../schemas/failures.ts';
import type { LineageSettings } from '../schemas/settings.ts';
import type { AcceptAnswer } from './ingest.ts';
import { payloadConverter } from './payload-codec.ts';
import { inShort, refusalOf, type Channel } from './refused-channel.ts';
import {
  ACCEPT_UPDATE,
  CONFIGURE_SIGNAL,
  FLUSH_SIGNAL,
  FORGET_POSITIONS_SIGNAL,
  FREEZE_SIGNAL,
  LINEAGE_WORKFLOW,
  RECORDS_MISSING,
  RESUME_SIGNAL,
  STATUS_QUERY,
  WORKFLOW_TASK_QUEUE,
  lineageWorkflowId,
  partitionKey,
  type Acceptance,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
} from './workflows/contract.ts';

/** An answer to an update that is longer in coming is asked for again, under the same update id. */
const ANSWER_WAIT_MS = 20_000;
const QUERY_WAIT_MS = 10_000;

export class TemporalLineages {
  readonly client: Client;
  readonly #connection: Connection;
  readonly #channel: Channel;
  readonly #taskQueue: string;

  private constructor(connection: Connection, channel: Channel, namespace: string, dataConverter: DataConverter, taskQueue: string) {
    this.#connection = connection;
    this.#channel = channel;
    this.#taskQueue = taskQueue;
    this.client = new Client({ connection, namespace, dataConverter });
  }

  /**
   * Connects when it is first needed, so that a process may start before Temporal does. The converter (`payloadConverter`)
   * is that of the workers. Throws `ChannelRefused` for a certificate and key that do not go together.
   */
  static connect(options: ConnectionOptions, namespace: string, dataConverter: DataConverter = payloadConverter([]), taskQueue = WORKFLOW_TASK_QUEUE): TemporalLineages {
    const channel = temporalChannel(options);
    try {
      return new TemporalLineages(Connection.lazy(options), channel, namespace, dataConverter, taskQueue);
    } catch (error) {
      throw refusalOf(error, channel) ?? error;
    }
  }

  /**
   * Hands a chunk to the lineage, which is started if it is not there. Never throws: an outage is an answer. Tries of one
   * `attempt` are one: the second is answered as the first was.
   */
  async accept(lineage: string, settings: LineageSettings, chunk: RevisionChunk, attempt = ''): Promise<AcceptAnswer> {
    try {
      const deadline = Date.now() + ANSWER_WAIT_MS;
      // Without a run it would not be refused for want of room, and every start of a sender would add to a full buffer.
      const run = chunk.run ?? (await this.client.withDeadline(deadline, () => this.#runOf(lineage)));
      const acceptance = await this.client.withDeadline(deadline, () =>
        this.client.workflow.executeUpdateWithStart<(input: LineageInput) => Promise<void>, Acceptance, [RevisionChunk]>(ACCEPT_UPDATE, {
          // The same for every try of these records, so that a lost answer does not make a second chunk.
          updateId: `${partitionKey(chunk)}-${chunk.firstOffset}-${attempt}`,
          args: [{ ...chunk, ...(run === undefined ? {} : { run }) }],
          startWorkflowOperation: new WithStartWorkflowOperation(LINEAGE_WORKFLOW, this.#startOptions(lineage, settings)),
        }),
      );
      return { kind: 'accepted', acceptance };
    } catch (error) {
      const refusal = error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure ? error.cause : null;
      if (refusal?.type === RECORDS_MISSING) return { kind: 'behind', throughOffset: refusal.details?.[0] as string };
      if (refusal !== null) return { kind: 'refused', type: refusal.type ?? 'Refused', message: refusal.message };
      const reason = this.#told(error);
      return { kind: 'unavailable', message: reason instanceof ErrataFailure ? `${reason.message}. ${reason.hint}` : reason instanceof Error ? reason.message : String(reason) };
    }
  }

  /** What the lineage is doing; null where it was never started. Needs a workflow worker. */
  async status(lineage: string): Promise<LineageStatus | null> {
    try {
      return await this.client.withDeadline(Date.now() + QUERY_WAIT_MS, () => this.client.workflow.getHandle(lineageWorkflowId(lineage)).query<LineageStatus>(STATUS_QUERY));
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return null;
      throw this.#told(error);
    }
  }

  /** Sets the lineage's settings from the next batch on; starts the lineage if it is not there. */
  async configure(lineage: string, settings: LineageSettings): Promise<void> {
    try {
      await this.client.workflow.signalWithStart<(input: LineageInput) => Promise<void>, [LineageSettings]>(LINEAGE_WORKFLOW, {
        ...this.#startOptions(lineage, settings),
        signal: CONFIGURE_SIGNAL,
        signalArgs: [settings],
      });
    } catch (error) {
      throw this.#told(error);
    }
  }

  /** What waits is edited at once. */
  async flush(lineage: string): Promise<void> {
    await this.client.workflow.getHandle(lineageWorkflowId(lineage)).signal(FLUSH_SIGNAL);
  }

  /** No batch starts until `resume`; the running one is finished. */
  async freeze(lineage: string, reason: string): Promise<void> {
    await this.client.workflow.getHandle(lineageWorkflowId(lineage)).signal(FREEZE_SIGNAL, reason);
  }

  async resume(lineage: string): Promise<void> {
    await this.client.workflow.getHandle(lineageWorkflowId(lineage)).signal(RESUME_SIGNAL);
  }

  /** For a corrections topic that was deleted and made anew, whose offsets begin again. */
  async forgetPositions(lineage: string): Promise<void> {
    await this.client.workflow.getHandle(lineageWorkflowId(lineage)).signal(FORGET_POSITIONS_SIGNAL);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /** The lineage's latest run; undefined where it was never started. */
  async #runOf(lineage: string): Promise<string | undefined> {
    try {
      return (await this.client.workflow.getHandle(lineageWorkflowId(lineage)).describe()).runId;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw error;
    }
  }

  /** What the client met, where it says only what it was asked for. */
  #told(error: unknown): unknown {
    const refusal = refusalOf(error, this.#channel);
    if (refusal !== null) return refusal;
    return error instanceof ServiceError ? new Error(`Temporal does not answer: ${inShort(error)}`, { cause: error }) : error;
  }

  #startOptions(lineage: string, settings: LineageSettings) {
    return {
      workflowId: lineageWorkflowId(lineage),
      taskQueue: this.#taskQueue,
      workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
      args: [{ lineage, settings, carried: null }] as [LineageInput],
    };
  }
}

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
