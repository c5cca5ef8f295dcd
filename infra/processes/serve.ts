/**
 * The process that answers: the HTTP server over a model of its own and the versions as they are
 * committed.
 */
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordSender } from '../../pipelines/kafka/records.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections, submitRetractions } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { createServing, type Serving } from '../../serving/server.ts';
import { openVersions } from '../config/open-versions.ts';
import type { Configuration } from '../config/configuration.ts';
import { kafkaSettings, recordFormat } from '../config/connections.ts';
import { openEngine } from './open-engine.ts';
import { reasonOf } from './process-log.ts';
import { registerSchemas } from './register-schemas.ts';
import { runProcess } from './run-process.ts';
import { temporalLineages } from '../config/connections.ts';
import { requireUsers } from '../config/require-users.ts';
import { knownUsers } from '../../serving/access/users.ts';

/** Between two attempts to follow the versions topic; the log itself is asked all the while. */
const FOLLOW_AGAIN_MS = 10_000;

runProcess('serve', async (context) => {
  const { configuration, log } = context;
  const kafka =
    configuration.kafka.brokers.length === 0
      ? null
      : new KafkaCluster(kafkaSettings(configuration), log);
  const format = recordFormat(configuration);
  if (kafka !== null)
    await registerSchemas(
      format,
      configuration.lineages.map(
        (lineage) => ['fact-correction', topicsOf(lineage).corrections] as const,
      ),
      log,
    );
  requireUsers(configuration);
  const engine = await openEngine(context);
  const sender = kafka === null ? null : senderOf(kafka);
  const temporal = configuration.temporal.address === '' ? null : temporalLineages(configuration);
  const serving = createServing({
    engine,
    versions: openVersions(configuration),
    logger: log,
    lineages: configuration.lineages,
    users: knownUsers(configuration.serve, log),
    ...(sender === null
      ? {}
      : {
          submit: async (correction) =>
            (await submitCorrections(await sender.get(), format, [correction]))[0]!.position,
          retract: async (lineage, factKey) =>
            (await submitRetractions(await sender.get(), lineage, [factKey]))[0]!,
        }),
    ...(temporal === null
      ? {}
      : { operations: { workflows: temporal, settings: configuration.settings } }),
  });
  await serving.server.listen({ host: configuration.serve.host, port: configuration.serve.port });
  await serving.start();
  const following =
    kafka === null ? null : followVersions(kafka, format, configuration, serving, log);
  return {
    port: (serving.server.server.address() as AddressInfo).port,
    async stop() {
      await serving.close();
      await Promise.allSettled([following?.stop(), sender?.close(), temporal?.close()]);
    },
  };
});

/**
 * A producer made with the first correction; where Kafka was out of reach the next correction tries
 * again.
 */
function senderOf(kafka: KafkaCluster): { get(): Promise<RecordSender>; close(): Promise<void> } {
  let sender: Promise<RecordSender> | null = null;
  return {
    get() {
      sender ??= kafka.sender().catch((fault: unknown) => {
        sender = null;
        throw fault;
      });
      return sender;
    },
    async close() {
      await (await sender)?.close();
    },
  };
}

/**
 * Looks at the logs as soon as a version is announced. Without Kafka the poll finds it a little
 * later.
 */
function followVersions(
  kafka: KafkaCluster,
  format: RecordFormat,
  { lineages }: Configuration,
  serving: Serving,
  log: Logger,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const stopped = new Promise<void>((resolve) =>
    stopping.signal.addEventListener('abort', () => resolve()),
  );
  const follow = async () => {
    while (!stopping.signal.aborted) {
      try {
        const reader = await tail(
          kafka,
          lineages,
          {
            from: 'end',
            format,
            onWait: (reason) => log.debug({ reason }, 'Announced versions cannot be read yet'),
          },
          ({ kind }) => {
            if (kind === 'version') void serving.notify();
          },
        );
        const fault = await Promise.race([reader.ended, stopped]);
        await reader.stop();
        if (fault !== undefined) throw fault;
      } catch (fault) {
        log.warn(
          { reason: reasonOf(fault), againInMs: FOLLOW_AGAIN_MS },
          'Announced versions are not followed for now',
        );
        await Promise.race([
          new Promise((resolve) => setTimeout(resolve, FOLLOW_AGAIN_MS).unref()),
          stopped,
        ]);
      }
    }
  };
  const following = follow();
  return {
    async stop() {
      stopping.abort();
      await following;
    },
  };
}
