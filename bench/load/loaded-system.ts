/**
 * A system for one measurement: embedded Kafka and Temporal in a temporary folder, our processes as
 * in production. What the set-up built is borrowed from the data folder.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { childEnvironment } from '../../infra/config/configuration.ts';
import { startEmbeddedKafka, type EmbeddedKafka } from '../../infra/local/kafka.ts';
import { freePort, runningServer } from '../../infra/local/server-process.ts';
import { startEmbeddedTemporal, type EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { homeAt } from '../../infra/config/home.ts';
import { DEFAULT_RESTART_POLICY, KeptProcess } from '../../infra/local/supervised-process.ts';
import { processSpecification, type ProcessName } from '../../infra/local/supervisor.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import type { RecordSender } from '../../pipelines/kafka/records.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { INGEST_GROUP, topicsOf, topicSpecifications } from '../../pipelines/kafka/topics.ts';
import { lineageWorkflowId, type LineageStatus } from '../../pipelines/workflows/contract.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import { figuresOf, type ProcessFigures } from './process-figures.ts';

export interface LoadedSystemOptions {
  /** The data folder whose set-up is borrowed. */
  home: string;
  lineages: readonly string[];
  partitions: number;
  /** On top of the settings that every process gets. */
  environment: Record<string, string>;
}

const BORROWED = ['kafka', 'temporal', 'tensorflow', 'models', 'key-statistics'];
const STOP_WAIT_MS = 20_000;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

interface Started {
  folder: string;
  servers: { kafka: EmbeddedKafka; temporal: EmbeddedTemporal };
  kafka: KafkaCluster;
  sender: RecordSender;
  servePort: number;
}

export class LoadedSystem {
  readonly folder: string;
  readonly lineages: readonly string[];
  readonly kafka: KafkaCluster;
  readonly temporal: TemporalLineages;
  readonly servePort: number;
  readonly #sender: RecordSender;
  readonly #servers: Started['servers'];
  readonly #environment: NodeJS.ProcessEnv;
  readonly #processes = new Map<ProcessName, KeptProcess>();

  private constructor(
    { lineages, environment }: LoadedSystemOptions,
    { folder, servers, kafka, sender, servePort }: Started,
  ) {
    this.folder = folder;
    this.lineages = lineages;
    this.#servers = servers;
    this.kafka = kafka;
    this.#sender = sender;
    this.servePort = servePort;
    this.temporal = TemporalLineages.connect(
      { address: servers.temporal.address },
      servers.temporal.namespace,
    );
    this.#environment = childEnvironment({
      ...environment,
      ERRATA_HOME: folder,
      ERRATA_VERSIONS: path.join(folder, 'versions'),
      ERRATA_LINEAGES: lineages.join(','),
      ERRATA_KAFKA_BROKERS: servers.kafka.brokers.join(','),
      ERRATA_TEMPORAL_ADDRESS: servers.temporal.address,
      ERRATA_TEMPORAL_NAMESPACE: servers.temporal.namespace,
      ERRATA_PORT: String(servePort),
    });
  }

  /** Starts the servers and makes the topics; processes are started by `run`. */
  static async start(options: LoadedSystemOptions): Promise<LoadedSystem> {
    const folder = mkdtempSync(path.join(tmpdir(), 'errata-load-'));
    mkdirSync(path.join(folder, 'versions'));
    for (const name of BORROWED)
      if (existsSync(path.join(options.home, name)))
        symlinkSync(path.join(options.home, name), path.join(folder, name));
    const home = homeAt(folder);
    removeOnExit(folder);
    const [kafka, temporal] = await Promise.all([
      startEmbeddedKafka({ folder: home.serverData('kafka'), libs: home.kafka.libs }),
      startEmbeddedTemporal({
        folder: home.serverData('temporal'),
        executable: home.temporal.executable,
      }),
    ]);
    const cluster = new KafkaCluster(
      { brokers: [...kafka.brokers], clientId: 'errata-load', tls: null, sasl: null },
      SILENT,
    );
    await cluster.ensureTopics(
      options.lineages.flatMap((lineage) =>
        topicSpecifications(lineage, { partitions: options.partitions, replicationFactor: 1 }),
      ),
    );
    return new LoadedSystem(options, {
      folder,
      servers: { kafka, temporal },
      kafka: cluster,
      sender: await cluster.sender(),
      servePort: await freePort(),
    });
  }

  async submit(corrections: readonly FactCorrection[]): Promise<void> {
    await submitCorrections(this.#sender, SINGLE_OBJECT_FORMAT, corrections);
  }

  /** Starts the process and waits until it is ready. */
  async run(name: ProcessName): Promise<void> {
    const kept = new KeptProcess(
      processSpecification(name, this.folder, this.#environment),
      DEFAULT_RESTART_POLICY,
      () => {},
    );
    this.#processes.set(name, kept);
    await kept.firstReady;
  }

  async end(name: ProcessName): Promise<void> {
    await this.#processes.get(name)?.stop(STOP_WAIT_MS);
    this.#processes.delete(name);
  }

  pids(): Record<string, number> {
    const ours = [...this.#processes].flatMap(([name, { status }]) =>
      status.mark === null ? [] : [[name, status.mark.pid] as const],
    );
    return {
      kafka: this.#servers.kafka.pid,
      temporal: this.#servers.temporal.pid,
      ...Object.fromEntries(ours),
    };
  }

  figures(): Record<string, ProcessFigures> {
    return Object.fromEntries(
      Object.entries(this.pids()).map(([name, pid]) => [name, figuresOf(pid)]),
    );
  }

  /** Records that Kafka holds and no workflow has taken yet. */
  async lag(lineages = this.lineages): Promise<number> {
    const lags = await this.kafka.lagOf(
      INGEST_GROUP,
      lineages.map((lineage) => topicsOf(lineage).corrections),
    );
    return lags.reduce((sum, { lag }) => sum + lag, 0);
  }

  async statuses(): Promise<LineageStatus[]> {
    const statuses = await Promise.all(
      this.lineages.map((lineage) => this.temporal.status(lineage)),
    );
    return statuses.flatMap((status) => (status === null ? [] : [status]));
  }

  /** The size of each lineage's history, as Temporal counts it. */
  async histories(): Promise<{ lineage: string; events: number; bytes: number }[]> {
    return await Promise.all(
      this.lineages.map(async (lineage) => {
        const { historyLength, historySize } = await this.temporal.client.workflow
          .getHandle(lineageWorkflowId(lineage))
          .describe();
        return { lineage, events: historyLength, bytes: historySize ?? 0 };
      }),
    );
  }

  /** Stops everything and removes the folder. */
  async stop(): Promise<void> {
    await Promise.allSettled([...this.#processes.values()].map((kept) => kept.stop(STOP_WAIT_MS)));
    await Promise.allSettled([this.#sender.close(), this.temporal.close()]);
    await Promise.allSettled([this.#servers.kafka.stop(), this.#servers.temporal.stop()]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Servers are not our children, so an interruption would leave them running. */
function removeOnExit(folder: string): void {
  process.once('exit', () => {
    for (const server of ['kafka', 'temporal'] as const) {
      const running = runningServer(homeAt(folder).serverData(server));
      if (running !== undefined) process.kill(running.pid, 'SIGKILL');
    }
    rmSync(folder, { recursive: true, force: true });
  });
  for (const end of ['SIGINT', 'SIGTERM'] as const) process.once(end, () => process.exit(1));
}
