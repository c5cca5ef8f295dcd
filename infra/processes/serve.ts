/** The HTTP process, with its own model and the versions as they are committed. */
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { RecordSender } from '../../pipelines/kafka/records.ts';
import { submitCorrections, submitRetractions } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { topicsOf } from '../../pipelines/kafka/topics.ts';
import { messageOf } from '../../schemas/failures.ts';
import { knownUsers } from '../../serving/access/users.ts';
import { createServing } from '../../serving/server.ts';
import { kafkaSettings, recordFormat, temporalLineages } from '../config/connections.ts';
import { openVersions } from '../config/open-versions.ts';
import { requireUsers } from '../config/require-users.ts';
import { openEngine, registerSchemas } from './connect.ts';
import { runProcess } from './run-process.ts';

/** Wait before following announced versions again. The log is polled in any case. */
const FOLLOW_AGAIN_MS = 10_000;

runProcess('serve', async (context) => {
  const { configuration, log } = context;
  const { lineages, settings, kafka, temporal, serve } = configuration;
  const cluster =
    kafka.brokers.length === 0 ? null : new KafkaCluster(kafkaSettings(configuration), log);
  const format = recordFormat(configuration);
  if (cluster !== null)
    await registerSchemas(
      format,
      lineages.map((lineage) => ['fact-correction', topicsOf(lineage).corrections] as const),
      log,
    );
  requireUsers(configuration);
  const engine = await openEngine(context);
  const kafkaClients = cluster === null ? null : { cluster, format, sender: lazySender(cluster) };
  const workflows = temporal.address === '' ? null : temporalLineages(configuration);
  const serving = createServing({
    engine,
    versions: openVersions(configuration),
    logger: log,
    lineages,
    users: knownUsers(serve, log),
    ...(kafkaClients === null ? {} : submission(kafkaClients)),
    ...(workflows === null ? {} : { operations: { workflows, settings } }),
  });
  await serving.server.listen({ host: serve.host, port: serve.port });
  await serving.start();
  const onVersion = () => void serving.notify();
  const following =
    kafkaClients === null ? null : followVersions(kafkaClients, lineages, onVersion, log);
  return {
    port: (serving.server.server.address() as AddressInfo).port,
    async stop() {
      await serving.close();
      await Promise.allSettled([
        following?.stop(),
        kafkaClients?.sender.close(),
        Promise.resolve(workflows?.close()),
      ]);
    },
  };
});

interface KafkaClients {
  cluster: KafkaCluster;
  format: RecordFormat;
  sender: ReturnType<typeof lazySender>;
}

function submission({ format, sender }: KafkaClients) {
  return {
    submit: async (correction: Parameters<typeof submitCorrections>[2][number]) =>
      (await submitCorrections(await sender.get(), format, [correction]))[0]!.position,
    retract: async (lineage: string, factKey: string) =>
      (await submitRetractions(await sender.get(), lineage, [factKey]))[0]!,
  };
}

/** Creates the producer with the first correction; after a failure, the next one tries again. */
function lazySender(cluster: KafkaCluster) {
  let sender: Promise<RecordSender> | null = null;
  return {
    get(): Promise<RecordSender> {
      sender ??= cluster.sender().catch((fault: unknown) => {
        sender = null;
        throw fault;
      });
      return sender;
    },
    async close(): Promise<void> {
      await (await sender)?.close();
    },
  };
}

/** Calls `onVersion` for each announced version, earlier than polling the log would find it. */
function followVersions(
  { cluster, format }: KafkaClients,
  lineages: readonly string[],
  onVersion: () => void,
  log: Logger,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
  const onWait = (reason: string) => log.debug({ reason }, 'Announced versions cannot be read yet');
  const followOnce = async (): Promise<void> => {
    const reader = await tail(cluster, lineages, { from: 'end', format, onWait }, ({ kind }) => {
      if (kind === 'version') onVersion();
    });
    const fault = await Promise.race([reader.ended, stopped]);
    await reader.stop();
    if (fault !== undefined) throw fault;
  };
  const follow = async (): Promise<void> => {
    while (!signal.aborted) {
      try {
        await followOnce();
      } catch (fault) {
        const fields = { reason: messageOf(fault), againInMs: FOLLOW_AGAIN_MS };
        log.warn(fields, 'Announced versions are not followed for now');
        await delay(FOLLOW_AGAIN_MS, undefined, { signal, ref: false }).catch(() => {});
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
