/**
 * Runs the workflows on a Temporal test server, with the real activities on an engine without a
 * model and a version log in memory. A test replaces single activities to break them.
 */
import { Worker } from '@temporalio/worker';
import {
  Client,
  WithStartWorkflowOperation,
  WorkflowIdConflictPolicy,
  WorkflowUpdateFailedError,
  type WorkflowHandle,
} from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { AlertActivities } from '../../activities/alert.ts';
import type { AnnounceActivities } from '../../activities/announce.ts';
import type { EditActivities, LedgerActivities } from '../../activities/index.ts';
import {
  LINEAGE_WORKFLOW,
  editTaskQueue,
  lineageWorkflowId,
  undoWorkflowId,
  type Acceptance,
  type LineageInput,
  type LineageStatus,
  type RevisionChunk,
  type UndoAccepted,
  type UndoOrder,
} from '../../pipelines/workflows/contract.ts';
import { acceptUpdate, statusQuery, undoUpdate } from '../../pipelines/workflows/messages.ts';
import type { Engine } from '../../model/engine/engine.ts';
import {
  factKeyOf,
  retractionId,
  type CorrectionRevision,
  type FactCorrection,
  type FactRevision,
  type RetractionRevision,
} from '../../schemas/correction.ts';
import type { Alert } from '../../schemas/alert.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../schemas/settings.ts';
import type { UndoResult, UndoTarget } from '../../schemas/undo.ts';
import { Versions } from '../../versions/versions.ts';
import { afterwards } from './clean-up.ts';
import { FakeEngine } from './fake-engine.ts';
import { stepActivities } from './test-lineage.ts';
import type { TimeSkippingServer } from './time-skipping.ts';
import { MemoryStore } from './memory-store.ts';

export type Activities = EditActivities & LedgerActivities & AnnounceActivities & AlertActivities;

export interface WorldOptions {
  /** Sets search attributes, which the server must know. */
  findable?: boolean;
  settings?: {
    batch?: Partial<LineageSettings['batch']>;
    verdict?: Partial<LineageSettings['verdict']>;
    failures?: Partial<LineageSettings['failures']>;
  };
  historyEventsMax?: number;
  /** Defaults to an engine without a model. */
  engine?: Engine;
  /** Replaces activities; the replacements may call the real ones. */
  replace?: (real: Activities, world: World) => Partial<Activities>;
}

/** Starts a world that ends with the test. */
export async function startWorld(
  server: TimeSkippingServer,
  options: WorldOptions = {},
): Promise<World> {
  const world = new World(server, options);
  afterwards(() => world.stop());
  await world.start();
  return world;
}

let worlds = 0;

/** A lineage of its own on the server, with its workers. */
export class World {
  readonly lineage: string;
  readonly settings: LineageSettings;
  /** Used unless the test has an engine of its own. */
  readonly engine = new FakeEngine();
  readonly store = new MemoryStore();
  readonly versions = new Versions(this.store);
  readonly alerts: Alert[] = [];
  readonly announced: { outcomes: Outcome[]; version: number | null }[] = [];
  readonly #server: TimeSkippingServer;
  readonly #options: WorldOptions;
  readonly #listeners = new Set<() => void>();
  readonly #workers: { worker: Worker; done: Promise<void> }[] = [];
  #offset = 0;
  #run: string | null = null;

  constructor(server: TimeSkippingServer, options: WorldOptions = {}) {
    this.#server = server;
    this.#options = options;
    this.lineage = `l${(worlds++).toString()}`;
    this.settings = {
      batch: { ...DEFAULT_LINEAGE_SETTINGS.batch, ...options.settings?.batch },
      verdict: { ...DEFAULT_LINEAGE_SETTINGS.verdict, ...options.settings?.verdict },
      failures: {
        ...DEFAULT_LINEAGE_SETTINGS.failures,
        alert: options.settings?.failures !== undefined,
        ...options.settings?.failures,
      },
      findable: options.findable === true,
    };
  }

  get topic(): string {
    return `errata.${this.lineage}.corrections`;
  }

  get handle(): WorkflowHandle {
    return this.#server.environment.client.workflow.getHandle(lineageWorkflowId(this.lineage));
  }

  get log() {
    return this.versions.log(this.lineage);
  }

  async run(test: () => Promise<void>): Promise<void> {
    try {
      await this.start();
      await test();
    } finally {
      await this.stop();
    }
  }

  async start(): Promise<void> {
    const engine = this.#options.engine ?? this.engine;
    const notify = (): void => {
      for (const listener of this.#listeners) listener();
    };
    const real: Activities = {
      ...stepActivities(engine, this.versions),
      announce: async ({ outcomes, version }) => {
        const settled = await (await this.log.register()).settle(outcomes);
        this.announced.push({ outcomes: settled, version });
        notify();
        return settled;
      },
      alert: async (alert) => {
        this.alerts.push(alert);
        notify();
        return { told: true };
      },
    };
    const activities: Activities = { ...real, ...this.#options.replace?.(real, this) };
    const { computeTargets, stageUpdate, runProbes, stageUndo, probeUndo, ...light } = activities;
    const heavy = { computeTargets, stageUpdate, runProbes, stageUndo, probeUndo };
    await this.#work(this.#taskQueue, light, true);
    await this.#work(editTaskQueue(this.lineage), heavy, false);
  }

  /** Ends its workers, and its workflows, which would hold the server's clock back. */
  async stop(): Promise<void> {
    const status = await this.status().catch(() => null);
    if (status !== null) {
      await this.handle.terminate('the test is over');
      for (const child of [status.undos.running, status.running])
        if (child !== null)
          await this.#server.environment.client.workflow
            .getHandle(child.workflowId)
            .terminate('the test is over')
            .catch(() => undefined);
    }
    for (const { worker } of this.#workers) if (worker.getState() === 'RUNNING') worker.shutdown();
    await Promise.allSettled(this.#workers.map(({ done }) => done));
  }

  correction(id: string, more: Partial<FactCorrection> = {}): FactCorrection {
    const subject = more.subject ?? `Subject ${id}.`;
    return {
      id,
      lineage: this.lineage,
      subject,
      relation: null,
      prompt: `${subject} is in`,
      target: 'Lyon',
      previousAnswer: null,
      paraphrases: [`One finds ${subject} in`],
      neighbourhood: [`Neighbour of ${id} is in`],
      source: 'test',
      issuedAt: 1_000,
      ...more,
    };
  }

  /** Returns revisions as from the topic, at the next offsets. */
  revisions(
    ...items: (FactCorrection | { retract: FactCorrection; issuedAt: number })[]
  ): FactRevision[] {
    return items.map((item): CorrectionRevision | RetractionRevision => {
      const position = { topic: this.topic, partition: 0, offset: String(this.#offset++) };
      if ('retract' in item)
        return {
          kind: 'retraction',
          factKey: factKeyOf(item.retract),
          position,
          id: retractionId(position),
          issuedAt: item.issuedAt,
        };
      return { kind: 'correction', factKey: factKeyOf(item), position, correction: item };
    });
  }

  chunk(revisions: FactRevision[]): RevisionChunk {
    return {
      topic: this.topic,
      partition: 0,
      firstOffset: revisions[0]!.position.offset,
      throughOffset: revisions.at(-1)!.position.offset,
      endOffset: '1000000',
      readFrom: '0',
      run: this.#run,
      revisions,
    };
  }

  /** Hands a chunk to the lineage; resolves to the type of its refusal if it refuses. */
  async accept(chunk: RevisionChunk, updateId?: string): Promise<Acceptance | string> {
    const input: LineageInput = {
      lineage: this.lineage,
      settings: this.settings,
      carried: null,
      ...(this.#options.historyEventsMax === undefined
        ? {}
        : { historyEventsMax: this.#options.historyEventsMax }),
    };
    try {
      const { workflow } = this.#server.environment.client;
      const acceptance = await workflow.executeUpdateWithStart(acceptUpdate, {
        args: [{ ...chunk, run: this.#run }],
        ...(updateId === undefined ? {} : { updateId }),
        startWorkflowOperation: new WithStartWorkflowOperation(LINEAGE_WORKFLOW, {
          workflowId: lineageWorkflowId(this.lineage),
          taskQueue: this.#taskQueue,
          workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
          args: [input],
        }),
      });
      this.#run = acceptance.run;
      return acceptance;
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure)
        return error.cause.type ?? 'refused';
      throw error;
    }
  }

  async submit(...items: Parameters<World['revisions']>): Promise<FactRevision[]> {
    const revisions = this.revisions(...items);
    await this.accept(this.chunk(revisions));
    return revisions;
  }

  order(id: string, target: UndoTarget, releaseAlias: string | null = null): UndoOrder {
    return {
      request: { id, target, reason: 'it was wrong', requestedBy: 'test', requestedAt: 1_000 },
      releaseAlias,
    };
  }

  /** Hands an undo to the lineage; resolves to the type of its refusal if it refuses. */
  async requestUndo(order: UndoOrder): Promise<UndoAccepted | string> {
    try {
      return await this.handle.executeUpdate(undoUpdate, { args: [order] });
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError && error.cause instanceof ApplicationFailure)
        return error.cause.type ?? 'refused';
      throw error;
    }
  }

  /** Requests an undo and waits for the result. */
  async undo(
    id: string,
    target: UndoTarget,
    releaseAlias: string | null = null,
  ): Promise<UndoResult> {
    await this.requestUndo(this.order(id, target, releaseAlias));
    await this.statusWhere(({ undos }) => undos.ended.some((ended) => ended.id === id));
    // The environment's own client would let the clock run ahead, past the lineage's time.
    const { connection, namespace } = this.#server.environment;
    return await new Client({ connection, namespace: namespace ?? 'default' }).workflow
      .getHandle<(input: unknown) => Promise<UndoResult>>(undoWorkflowId(this.lineage, id))
      .result();
  }

  async status(): Promise<LineageStatus> {
    return await this.handle.query(statusQuery);
  }

  /** Polls until the status is as wanted; the test's own time limit ends it otherwise. */
  async statusWhere(wanted: (status: LineageStatus) => boolean): Promise<LineageStatus> {
    for (;;) {
      const status = await this.status();
      if (wanted(status)) return status;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Lets the server's clock run ahead. */
  async skip(milliseconds: number): Promise<void> {
    await this.#server.environment.sleep(milliseconds);
  }

  get outcomes(): Outcome[] {
    return this.announced.flatMap((announcement) => announcement.outcomes);
  }

  /** `<id> <status>` of every outcome, sorted. */
  get outcomeLines(): string[] {
    return this.outcomes.map((outcome) => `${outcome.revisionId} ${outcome.status}`).sort();
  }

  get announcedVersions(): number[] {
    return this.announced.flatMap(({ version }) => (version === null ? [] : [version]));
  }

  /** Resolves when this many outcomes were announced. */
  async outcomesCount(count: number): Promise<Outcome[]> {
    await this.until(() => this.outcomes.length >= count);
    return this.outcomes;
  }

  /** Resolves when the condition holds; it is evaluated after every announcement. */
  async until(condition: () => boolean): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve) => {
      const listener = (): void => {
        if (!condition()) return;
        this.#listeners.delete(listener);
        resolve();
      };
      this.#listeners.add(listener);
    });
  }

  get #taskQueue(): string {
    return `workflows-${this.lineage}`;
  }

  async #work(taskQueue: string, activities: object, workflows: boolean): Promise<void> {
    const { nativeConnection: connection, namespace } = this.#server.environment;
    const worker = await Worker.create({
      connection,
      namespace: namespace ?? 'default',
      taskQueue,
      activities,
      ...(workflows ? { workflowBundle: this.#server.bundle } : {}),
    });
    this.#workers.push({ worker, done: worker.run() });
  }
}
