/** Temporal workers inside the test's process, shut down afterwards. */
import { NativeConnection, Worker, type WorkerOptions } from '@temporalio/worker';
import { createEditActivities } from '../../activities/index.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import { editTaskQueue, WORKFLOW_TASK_QUEUE } from '../../pipelines/workflows/contract.ts';
import type { Versions } from '../../versions/versions.ts';
import { afterwards } from './clean-up.ts';
import { FakeEngine } from './fake-engine.ts';
import { quietRuntime } from './time-skipping.ts';

export interface TestWorker {
  /** Resolves when the worker has ended. */
  stop(): Promise<void>;
}

interface Server {
  address: string;
  namespace: string;
}

export async function startWorker(
  { address, namespace }: Server,
  options: Omit<WorkerOptions, 'connection' | 'namespace'>,
): Promise<TestWorker> {
  quietRuntime();
  const connection = await NativeConnection.connect({ address });
  const worker = await Worker.create({ ...options, connection, namespace });
  const done = worker.run();
  const stop = async (): Promise<void> => {
    if (worker.getState() === 'RUNNING') worker.shutdown();
    await done;
    await connection.close();
  };
  let stopping: Promise<void> | undefined;
  const stopOnce = () => (stopping ??= stop());
  afterwards(stopOnce);
  return { stop: stopOnce };
}

/** Starts an edit worker of a lineage on an engine without a model. */
export async function startEditWorker(
  server: Server,
  lineage: string,
  versions: Versions,
  more: Partial<WorkerOptions> = {},
): Promise<TestWorker> {
  return await startWorker(server, {
    taskQueue: editTaskQueue(lineage),
    activities: createEditActivities({ engine: new FakeEngine(), versions }),
    maxConcurrentActivityTaskExecutions: 1,
    ...more,
  });
}

/** Starts a worker of the workflows with some of their activities. */
export async function startWorkflowWorker(
  server: Server,
  activities: object,
  more: Partial<WorkerOptions> = {},
): Promise<TestWorker> {
  return await startWorker(server, {
    taskQueue: WORKFLOW_TASK_QUEUE,
    workflowBundle: await bundleWorkflows(),
    activities,
    ...more,
  });
}
