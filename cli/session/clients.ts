/** Kafka and Temporal clients for commands that talk to a running system. */
import { kafkaSettings, recordFormat } from '../../infra/config/connections.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import { temporalLineages } from '../../infra/config/connections.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { PartitionLag, RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';

export interface Clients {
  cluster: KafkaCluster;
  format: RecordFormat;
  lineages: TemporalLineages;
  /** Opened at most once; `close` closes it. */
  sender: () => Promise<RecordSender>;
  /** Returns how far ingest is behind on the lineage's corrections. */
  lag(lineage: string): Promise<PartitionLag[]>;
  close(): Promise<void>;
}

export function clientsOf(configuration: Configuration): Clients {
  const cluster = new KafkaCluster(kafkaSettings(configuration), SILENT);
  const lineages = temporalLineages(configuration);
  let sender: Promise<RecordSender> | null = null;
  return {
    cluster,
    format: recordFormat(configuration),
    lineages,
    sender: () => (sender ??= cluster.sender()),
    lag: (lineage) => cluster.lagOf(INGEST_GROUP, [topicsOf(lineage).corrections]),
    async close() {
      await (await sender)?.close();
      await lineages.close();
    },
  };
}

/** Commands report failures themselves. */
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
