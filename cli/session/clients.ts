/**
 * Kafka and Temporal, for commands that talk to a running system. Loaded by those commands alone:
 * it takes a while.
 */
import { kafkaSettings, recordFormat } from '../../infra/config/connections.ts';
import type { Configuration } from '../../infra/config/configuration.ts';
import { temporalLineages } from '../../infra/config/connections.ts';
import { KafkaCluster, type PartitionLag, type RecordSender } from '../../pipelines/kafka/kafka.ts';
import type { Logger } from '../../pipelines/logger.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { INGEST_GROUP, topicsOf } from '../../pipelines/kafka/topics.ts';
import type { LineageStatus } from '../../pipelines/workflows/contract.ts';

export interface Clients {
  cluster: KafkaCluster;
  format: RecordFormat;
  lineages: TemporalLineages;
  /** One sender for the whole command; closed by `close`. */
  sender(): Promise<RecordSender>;
  /**
   * Waits itself: a call that its caller gives up is tried again by the client, also after `close`,
   * and then fails where nobody listens.
   */
  lineageStatus(lineage: string, waitMs?: number): Promise<LineageStatus | null>;
  /** How far ingest is behind on the lineage's corrections. */
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
    lineageStatus: (lineage, waitMs) => lineages.status(lineage, waitMs),
    lag: (lineage) => cluster.lagOf(INGEST_GROUP, [topicsOf(lineage).corrections]),
    async close() {
      await (await sender)?.close();
      await lineages.close();
    },
  };
}

/**
 * A command tells of a failed operation itself; what a client logs on the way would only be in the
 * way.
 */
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
