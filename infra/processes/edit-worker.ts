/** The edit process: it owns a model and runs the steps that need it, one at a time. */
import { Worker } from '@temporalio/worker';
import { createEditActivities } from '../../activities/index.ts';
import { provenanceOf } from '../../activities/batch/step-rows.ts';
import { editTaskQueue } from '../../pipelines/workflows/contract.ts';
import { requireSameBase } from '../../versions/log/same-base.ts';
import { openVersions } from '../config/open-versions.ts';
import { openEngine, workerConnection } from './connect.ts';
import { runProcess } from './run-process.ts';

/** A cancelled step ends at once; the remaining time is for reporting to Temporal. */
const SHUTDOWN_GRACE_MS = 1_000;
const SHUTDOWN_FORCE_MS = 10_000;

runProcess('edit-worker', async (context) => {
  const { configuration, step } = context;
  const engine = await openEngine(context);
  const versions = openVersions(configuration);
  // A wrong base must be refused now, not in the middle of every batch.
  for (const lineage of configuration.lineages)
    requireSameBase(await versions.log(lineage).read(), await provenanceOf(engine));
  step('connecting to Temporal');
  const temporal = await workerConnection(configuration);
  const activities = createEditActivities({ engine, versions });
  const workers = await Promise.all(
    configuration.lineages.map((lineage) =>
      Worker.create({
        ...temporal,
        taskQueue: editTaskQueue(lineage),
        activities,
        maxConcurrentActivityTaskExecutions: 1,
        shutdownGraceTime: SHUTDOWN_GRACE_MS,
        shutdownForceTime: SHUTDOWN_FORCE_MS,
      }),
    ),
  );
  const runs = workers.map((worker) => worker.run());
  return {
    ended: Promise.race(runs),
    async stop() {
      for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
      await Promise.allSettled(runs);
      await temporal.connection.close();
    },
  };
});
