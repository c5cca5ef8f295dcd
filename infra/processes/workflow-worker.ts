/** The workflow process, which also runs the activities that need no model. */
import { Worker } from '@temporalio/worker';
import { join } from 'node:path';
import { alertActivities, type Webhook } from '../../activities/alert.ts';
import { announceActivities } from '../../activities/announce.ts';
import { createLedgerActivities } from '../../activities/index.ts';
import { withHeartbeat } from '../../activities/heartbeat.ts';
import { announcerTo } from '../../pipelines/kafka/announcements.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { bundleWorkflows } from '../../pipelines/temporal/workflow-bundle.ts';
import { WORKFLOW_TASK_QUEUE } from '../../pipelines/workflows/contract.ts';
import { startArchiver } from './start-archiver.ts';
import { openVersions } from '../config/open-versions.ts';
import type { Configuration } from '../config/configuration.ts';
import { kafkaSettings, recordFormat } from '../config/connections.ts';
import { registerSchemas, workerConnection } from './connect.ts';
import { runProcess } from './run-process.ts';
import { temporalConverter } from '../config/connections.ts';

const ACTIVITIES_AT_ONCE_MAX = 16;
const SHUTDOWN_GRACE_MS = 3_000;
const SHUTDOWN_FORCE_MS = 10_000;

runProcess('workflow-worker', async ({ configuration, log, step }) => {
  step('bundling the workflows');
  const workflowBundle = await bundleWorkflows(
    join(configuration.home, 'workflow-bundle'),
    temporalConverter(configuration),
  );
  step('connecting to Kafka and Temporal');
  const kafka = new KafkaCluster(kafkaSettings(configuration), log);
  await kafka.ensureTopics(
    configuration.lineages.flatMap((lineage) => topicSpecifications(lineage, configuration.kafka)),
  );
  const sender = await kafka.sender();
  const format = recordFormat(configuration);
  step('registering the schemas');
  await registerSchemas(
    format,
    configuration.lineages.map(topicsOf).flatMap(
      ({ outcomes, versions }) =>
        [
          ['correction-outcome', outcomes],
          ['hook-version', versions],
        ] as const,
    ),
    log,
  );
  const temporal = await workerConnection(configuration);
  const versions = openVersions(configuration);
  const worker = await Worker.create({
    ...temporal,
    taskQueue: WORKFLOW_TASK_QUEUE,
    workflowBundle,
    activities: withHeartbeat({
      ...createLedgerActivities({ versions }),
      ...announceActivities({ announcer: announcerTo(sender, format), versions }),
      ...alertActivities(webhookOf(configuration)),
    }),
    maxConcurrentActivityTaskExecutions: ACTIVITIES_AT_ONCE_MAX,
    shutdownGraceTime: SHUTDOWN_GRACE_MS,
    shutdownForceTime: SHUTDOWN_FORCE_MS,
  });
  const ended = worker.run();
  const archiver = configuration.archiveHistories
    ? startArchiver(configuration, versions, log)
    : null;
  return {
    ended,
    async stop() {
      if (worker.getState() === 'RUNNING') worker.shutdown();
      await Promise.allSettled([ended, archiver?.stop()]);
      await Promise.allSettled([temporal.connection.close(), sender.close()]);
    },
  };
});

function webhookOf({ alert }: Configuration): Webhook | null {
  return alert === null
    ? null
    : { url: alert.url.reveal(), secret: alert.secret?.reveal() ?? null };
}
