/**
 * The system on real servers, as far as a test needs it: a broker with the lineages' topics, a
 * Temporal server, our processes, an edit worker without a model, and a listener on the topics.
 * Everything ends with the test.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import type { WorkerOptions } from '@temporalio/worker';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordPosition, RecordSender } from '../../pipelines/kafka/records.ts';
import { SINGLE_OBJECT_FORMAT, type RecordFormat } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { INGEST_GROUP, topicSpecifications, topicsOf } from '../../pipelines/kafka/topics.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { versionsInFolder, type Versions } from '../../versions/versions.ts';
import { invoke, type Invocation } from './invocation.ts';
import { afterwards } from './clean-up.ts';
import { HeardOutcomes } from './heard-outcomes.ts';
import { OurProcess, type ProcessName } from './our-process.ts';
import { startTestServers, type TestServers } from './servers/local.ts';
import { SILENT } from './silent-logger.ts';
import { makeHome } from './tiny-engine.ts';
import { startEditWorker, type TestWorker } from './worker.ts';

export interface TestSystemOptions {
  lineages: string[];
  partitions?: number;
  /** Settings added to those of the system. */
  settings?: (servers: TestServers) => Record<string, string>;
  format?: (servers: TestServers) => Promise<RecordFormat>;
}

/** An empty broker and Temporal server, with clients of both. */
export async function startClients() {
  const servers = await startTestServers();
  const { address, namespace } = servers.temporal;
  const kafka = new KafkaCluster(
    { brokers: [...servers.kafka.brokers], clientId: 'test', tls: null, sasl: null },
    SILENT,
  );
  const sender = await kafka.sender();
  afterwards(() => sender.close());
  const temporal = TemporalLineages.connect({ address }, namespace);
  afterwards(() => temporal.close());
  return { servers, kafka, sender, temporal };
}

export class TestSystem {
  readonly servers: TestServers;
  readonly folder: string;
  readonly kafka: KafkaCluster;
  readonly sender: RecordSender;
  readonly temporal: TemporalLineages;
  readonly versions: Versions;
  readonly outcomes = new HeardOutcomes();
  /** The configuration of processes and commands. */
  readonly environment: Record<string, string>;
  readonly #lineages: string[];
  readonly #format: RecordFormat;

  private constructor(
    { servers, kafka, sender, temporal }: Awaited<ReturnType<typeof startClients>>,
    { lineages, settings }: TestSystemOptions,
    format: RecordFormat,
  ) {
    this.servers = servers;
    this.folder = servers.folder;
    this.kafka = kafka;
    this.sender = sender;
    this.temporal = temporal;
    this.#lineages = lineages;
    this.#format = format;
    const versionsFolder = path.join(servers.folder, 'versions');
    mkdirSync(versionsFolder);
    this.versions = versionsInFolder(versionsFolder);
    this.environment = {
      ERRATA_HOME: makeHome(path.join(servers.folder, 'home')),
      ERRATA_VERSIONS: versionsFolder,
      ERRATA_LINEAGES: lineages.join(','),
      ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
      ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
      ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
      ERRATA_BATCH_WAIT_MS: '200',
      // An engine without a model lets the norm grow with every correction.
      ERRATA_EDIT_NORM_MAX: '100',
      ...settings?.(servers),
    };
  }

  /** Starts the servers and the listener; the test starts processes and workers. */
  static async start(options: TestSystemOptions): Promise<TestSystem> {
    const clients = await startClients();
    const { kafka, servers } = clients;
    const format = (await options.format?.(servers)) ?? SINGLE_OBJECT_FORMAT;
    const system = new TestSystem(clients, options, format);
    const topics = { partitions: options.partitions ?? 3, replicationFactor: 1 };
    await kafka.ensureTopics(
      options.lineages.flatMap((lineage) => topicSpecifications(lineage, topics)),
    );
    const following = { from: 'beginning', deadLetters: true, format } as const;
    const reader = await tail(kafka, options.lineages, following, system.outcomes.hear);
    afterwards(() => reader.stop());
    return system;
  }

  process(name: ProcessName, more: Record<string, string> = {}): OurProcess {
    return new OurProcess(name, { ...this.environment, ...more }, this.folder);
  }

  /** Starts an edit worker on an engine without a model. */
  async startEditWorker(
    more: Partial<WorkerOptions> = {},
    lineage = this.#lineages[0]!,
  ): Promise<TestWorker> {
    return await startEditWorker(this.servers.temporal, lineage, this.versions, more);
  }

  /** Runs a command in this process. */
  async errata(...args: string[]): Promise<Invocation> {
    return await invoke(this.folder, args, this.environment);
  }

  /** Sends corrections; resolves to their records' positions. */
  async submit(
    corrections: FactCorrection[],
    {
      format = this.#format,
      unsound = 'refuse',
    }: { format?: RecordFormat; unsound?: 'refuse' | 'send' } = {},
  ): Promise<RecordPosition[]> {
    const submitted = await submitCorrections(this.sender, format, corrections, { unsound });
    return submitted.map(({ position }) => position);
  }

  /** Returns how many records ingest has still to read. */
  async lag(lineage = this.#lineages[0]!): Promise<number> {
    const partitions = await this.kafka.lagOf(INGEST_GROUP, [topicsOf(lineage).corrections]);
    return partitions.reduce((sum, { lag }) => sum + lag, 0);
  }
}
