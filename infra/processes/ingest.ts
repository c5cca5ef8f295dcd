/** The ingest process: reads the corrections topics and signals the lineages' workflows. */
import pRetry from 'p-retry';
import type { Logger } from 'pino';
import { startIngest } from '../../pipelines/ingest/ingest.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { INGEST_GROUP, topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { partitionKey } from '../../pipelines/workflows/contract.ts';
import { registrationCure } from '../../pipelines/temporal/search-attributes.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { reasonAndHint } from '../../schemas/failures.ts';
import type { LineageSettings } from '../../schemas/settings.ts';
import type { Configuration } from '../config/configuration.ts';
import { kafkaSettings, recordFormat, temporalLineages } from '../config/connections.ts';
import { runProcess } from './run-process.ts';

const TRY_AGAIN_MS = 2_000;

runProcess('ingest', async ({ configuration, log, step }) => {
  const { lineages } = configuration;
  const kafka = new KafkaCluster(kafkaSettings(configuration), log);
  step('creating the topics');
  const created = await kafka.ensureTopics(
    lineages.flatMap((lineage) => topicSpecifications(lineage, configuration.kafka)),
  );
  if (created.length > 0) log.info({ topics: created }, 'Topics created');

  const temporal = temporalLineages(configuration);
  let reason = '';
  /** Retries while Temporal is unavailable; each reason is logged once. */
  const untilItAnswers = <T>(work: () => Promise<T>): Promise<T> =>
    pRetry(work, {
      retries: Number.POSITIVE_INFINITY,
      factor: 1,
      minTimeout: TRY_AGAIN_MS,
      onFailedAttempt({ error }) {
        if (reasonAndHint(error) === reason) return;
        reason = reasonAndHint(error);
        log.warn({ reason }, 'Temporal does not answer yet');
        step(`waiting for Temporal: ${reason}`);
      },
    });
  step('checking the search attributes');
  const settings = await untilItAnswers(() => settingsFor(configuration, temporal, log));
  step('sending the lineages their settings');
  for (const lineage of lineages) {
    await untilItAnswers(() => temporal.configure(lineage, settings[lineage]!));
  }

  step('joining the consumer group');
  const deadLetters = await kafka.sender();
  const ingest = await startIngest(lineages, {
    read: (topics, onBatch) => kafka.read(INGEST_GROUP, topics, onBatch),
    deadLetters,
    accept: (lineage, chunk, attempt) =>
      temporal.accept(lineage, settings[lineage]!, chunk, attempt),
    beginning: async (topic, partition) =>
      (await kafka.lagOf(INGEST_GROUP, [topic])).find((one) => one.partition === partition)
        ?.beginning ?? '0',
    async progress(lineage) {
      const topic = topicsOf(lineage).corrections;
      // Kafka first: everything that it has committed was already in the workflow.
      const partitions = await kafka.lagOf(INGEST_GROUP, [topic]);
      const highWater = (await temporal.status(lineage))?.highWater ?? {};
      return partitions.map(({ partition, beginning, committed }) => ({
        partition,
        beginning,
        committed,
        throughOffset: highWater[partitionKey({ topic, partition })] ?? '-1',
      }));
    },
    format: recordFormat(configuration),
    logger: log,
  });
  await ingest.ready;
  return {
    ended: ingest.ended,
    async stop() {
      await ingest.stop();
      await Promise.allSettled([deadLetters.close(), temporal.close()]);
      log.info(ingest.health(), 'Ingest drained');
    },
  };
});

/**
 * Returns the lineages' settings. Workflows may use search attributes only if they are registered.
 */
async function settingsFor(
  { lineages, settings, temporal: { searchAttributes, namespace } }: Configuration,
  temporal: TemporalLineages,
  log: Logger,
): Promise<Record<string, LineageSettings>> {
  if (!searchAttributes) return settings;
  const registration = await temporal.registerSearchAttributes();
  if (registration.usable)
    return Object.fromEntries(
      lineages.map((lineage) => [lineage, { ...settings[lineage]!, findable: true }]),
    );
  const { missing, mistyped, reason } = registration;
  log.warn(
    { namespace, missing, mistyped, reason, mend: registrationCure(registration, namespace) },
    'Workflows cannot be found by search attributes: they are not registered',
  );
  return settings;
}
