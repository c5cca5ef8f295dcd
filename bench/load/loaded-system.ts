/**
 * A system for one measurement: embedded Kafka and Temporal in a temporary folder, with Errata's
 * processes run as in production. Installed parts are symlinks into the data folder.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { childEnvironment } from '../../infra/config/configuration.ts';
import { homeAt } from '../../infra/config/home.ts';
import { startEmbeddedKafka, type EmbeddedKafka } from '../../infra/local/kafka.ts';
import { freePort, runningServer } from '../../infra/local/server-process.ts';
import { DEFAULT_RESTART_POLICY, KeptProcess } from '../../infra/local/supervised-process.ts';
import { processSpecification, type ProcessName } from '../../infra/local/supervisor.ts';
import { startEmbeddedTemporal, type EmbeddedTemporal } from '../../infra/local/temporal.ts';
import { KafkaCluster } from '../../pipelines/kafka/kafka.ts';
import { SINGLE_OBJECT_FORMAT } from '../../pipelines/kafka/record-format.ts';
import type { RecordReader, RecordSender } from '../../pipelines/kafka/records.ts';
import { submitCorrections } from '../../pipelines/kafka/submit.ts';
import { tail } from '../../pipelines/kafka/tail.ts';
import { INGEST_GROUP, topicsOf, topicSpecifications } from '../../pipelines/kafka/topics.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import { lineageWorkflowId, type LineageStatus } from '../../pipelines/workflows/contract.ts';
import type { FactCorrection } from '../../schemas/correction.ts';
import type { Outcome } from '../../schemas/outcome.ts';
import { loadCorrections } from './load-corrections.ts';
import { figuresOf, type ProcessFigures } from './process-figures.ts';

export interface LoadedSystemOptions {
  /** The data folder that holds the installed parts. */
  home: string;
  lineages: readonly string[];
  partitions: number;
  /** Added to the settings that every process gets. */
  environment: Record<string, string>;
}

const INSTALLED = ['kafka', 'temporal', 'tensorflow', 'models', 'key-statistics'];
const STOP_WAIT_MS = 20_000;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

interface Parts {
  folder: string;
  servers: [EmbeddedKafka, EmbeddedTemporal];
  sender: RecordSender;
  environment: NodeJS.ProcessEnv;
}

export class LoadedSystem {
  readonly #processes = new Map<ProcessName, KeptProcess>();

  private constructor(
    readonly lineages: readonly string[],
    readonly kafka: KafkaCluster,
    readonly temporal: TemporalLineages,
    private readonly parts: Parts,
  ) {}

  /** Starts the servers and creates the topics; `run` starts processes. */
  static async start(options: LoadedSystemOptions): Promise<LoadedSystem> {
    const { lineages, partitions } = options;
    const folder = mkdtempSync(path.join(tmpdir(), 'errata-load-'));
    mkdirSync(path.join(folder, 'versions'));
    for (const name of INSTALLED)
      if (existsSync(path.join(options.home, name)))
        symlinkSync(path.join(options.home, name), path.join(folder, name));
    const home = homeAt(folder);
    removeOnExit(folder);
    const { executable } = home.temporal;
    const servers = await Promise.all([
      startEmbeddedKafka({ folder: home.serverData('kafka'), libs: home.kafka.libs }),
      startEmbeddedTemporal({ folder: home.serverData('temporal'), executable }),
    ]);
    const [{ brokers }, { address, namespace }] = servers;
    const settings = { brokers: [...brokers], clientId: 'errata-load', tls: null, sasl: null };
    const kafka = new KafkaCluster(settings, SILENT);
    await kafka.ensureTopics(
      lineages.flatMap((name) => topicSpecifications(name, { partitions, replicationFactor: 1 })),
    );
    const environment = childEnvironment({
      ...options.environment,
      ERRATA_HOME: folder,
      ERRATA_VERSIONS: path.join(folder, 'versions'),
      ERRATA_LINEAGES: lineages.join(','),
      ERRATA_KAFKA_BROKERS: brokers.join(','),
      ERRATA_TEMPORAL_ADDRESS: address,
      ERRATA_TEMPORAL_NAMESPACE: namespace,
      ERRATA_PORT: String(await freePort()),
    });
    const temporal = TemporalLineages.connect({ address }, namespace);
    const sender = await kafka.sender();
    return new LoadedSystem(lineages, kafka, temporal, { folder, servers, sender, environment });
  }

  get serveUrl(): string {
    return `http://127.0.0.1:${this.parts.environment['ERRATA_PORT']}`;
  }

  async submit(corrections: readonly FactCorrection[]): Promise<void> {
    await submitCorrections(this.parts.sender, SINGLE_OBJECT_FORMAT, corrections);
  }

  async submitToEach(lineages: readonly string[], count: number, from = 0): Promise<void> {
    for (const lineage of lineages) await this.submit(loadCorrections(lineage, from, count));
  }

  /** Reads the outcomes of all lineages until the reader is stopped. */
  async outcomes(
    from: 'beginning' | 'end',
    onOutcome: (outcome: Outcome) => void,
  ): Promise<RecordReader> {
    const options = { from, format: SINGLE_OBJECT_FORMAT };
    return await tail(this.kafka, this.lineages, options, (event) => {
      if (event.kind === 'outcome') onOutcome(event.outcome);
    });
  }

  async run(name: ProcessName): Promise<void> {
    const { folder, environment } = this.parts;
    const specification = processSpecification(name, folder, environment);
    const kept = new KeptProcess(specification, DEFAULT_RESTART_POLICY, () => {});
    this.#processes.set(name, kept);
    await kept.firstReady;
  }

  async end(name: ProcessName): Promise<void> {
    await this.#processes.get(name)?.stop(STOP_WAIT_MS);
    this.#processes.delete(name);
  }

  pids(): Record<string, number> {
    const [kafka, temporal] = this.parts.servers;
    const pids: Record<string, number> = { kafka: kafka.pid, temporal: temporal.pid };
    for (const [name, { status }] of this.#processes)
      if (status.mark !== null) pids[name] = status.mark.pid;
    return pids;
  }

  figures(): Record<string, ProcessFigures> {
    const pids = Object.entries(this.pids());
    return Object.fromEntries(pids.map(([name, pid]) => [name, figuresOf(pid)]));
  }

  /** Counts the records in Kafka that no workflow has taken yet. */
  async lag(lineages = this.lineages): Promise<number> {
    const topics = lineages.map((lineage) => topicsOf(lineage).corrections);
    const lags = await this.kafka.lagOf(INGEST_GROUP, topics);
    return lags.reduce((sum, { lag }) => sum + lag, 0);
  }

  async statuses(): Promise<LineageStatus[]> {
    const statuses = await Promise.all(this.lineages.map((name) => this.temporal.status(name)));
    return statuses.filter((status) => status !== null);
  }

  /** Returns the size of each lineage's history as reported by Temporal. */
  async histories(): Promise<{ lineage: string; events: number; bytes: number }[]> {
    const { workflow } = this.temporal.client;
    return await Promise.all(
      this.lineages.map(async (lineage) => {
        const description = await workflow.getHandle(lineageWorkflowId(lineage)).describe();
        const { historyLength: events, historySize: bytes = 0 } = description;
        return { lineage, events, bytes };
      }),
    );
  }

  async stop(): Promise<void> {
    const { folder, servers, sender } = this.parts;
    await Promise.allSettled([...this.#processes.values()].map((kept) => kept.stop(STOP_WAIT_MS)));
    await Promise.allSettled([sender.close(), this.temporal.close()]);
    await Promise.allSettled(servers.map((server) => server.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The servers are not child processes, so an interruption would leave them running. */
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
