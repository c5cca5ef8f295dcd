/**
 * The whole system on one machine: a real broker, a real Temporal server, and our four processes as
 * in production, with a tiny model. Every killed part is restarted on its data.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEmbeddedKafka, stopEmbeddedKafka } from '../../../infra/local/kafka.ts';
import { runningServer } from '../../../infra/local/server-process.ts';
import {
  EMBEDDED_NAMESPACE,
  startEmbeddedTemporal,
  stopEmbeddedTemporal,
} from '../../../infra/local/temporal.ts';
import { homeFromEnvironment } from '../../../infra/config/home.ts';
import { KafkaCluster } from '../../../pipelines/kafka/kafka.ts';
import type { Logger } from '../../../pipelines/logger.ts';
import { TemporalLineages } from '../../../pipelines/temporal/temporal-client.ts';
import { topicSpecifications } from '../../../pipelines/kafka/topics.ts';
import { DEFAULT_LINEAGE_SETTINGS, type LineageSettings } from '../../../schemas/settings.ts';
import { goldenPath } from '../../golden/read-golden.ts';
import { KeptProcess, PROCESS_NAMES, type ProcessName } from './kept-process.ts';

export const LINEAGE = 'faults';
export const PARTITIONS = 3;

/** Lenient thresholds: a model of random numbers learns at the cost of everything else. */
export const SETTINGS: LineageSettings = {
  ...DEFAULT_LINEAGE_SETTINGS,
  batch: {
    ...DEFAULT_LINEAGE_SETTINGS.batch,
    batchEditsMax: 8,
    batchWaitMs: 300,
    bufferEditsMax: 24,
    shardEditsMax: 4,
  },
  verdict: { ...DEFAULT_LINEAGE_SETTINGS.verdict, generalisationMin: 0, editNormMax: 3 },
};
const HYPER_PARAMETERS = {
  layers: [3],
  stepsMax: 40,
  learningRate: 0.5,
  contexts: 0,
  contextsPerStep: 0,
  lossTarget: 0.05,
  clamp: 20,
  klFactor: 0,
  weightDecay: 0,
  lambda: 1,
  targetTokensMax: 4,
};

/** Ports below the ephemeral range, where a client could take the port of a stopped server. */
const PORTS = { from: 20_000, to: 32_000 };
const START_ATTEMPTS_MAX = 5;
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

export type ServerName = 'kafka' | 'temporal';

/** A server that is restarted on its data and its port whenever it is killed. */
export class KeptServer {
  readonly #folder: string;
  readonly #start: () => Promise<unknown>;
  #back: Promise<void> = Promise.resolve();

  constructor(folder: string, start: () => Promise<unknown>) {
    this.#folder = folder;
    this.#start = start;
    process.once('exit', () => this.signal('SIGKILL'));
  }

  signal(signal: NodeJS.Signals): void {
    const running = runningServer(this.#folder);
    if (running !== undefined) process.kill(running.pid, signal);
  }

  start(): Promise<void> {
    this.#back = this.#back.then(() => this.#startPatiently());
    return this.#back;
  }

  /** Kills the server; resolves when it runs again. */
  kill(): Promise<void> {
    this.signal('SIGKILL');
    return this.start();
  }

  ready(): Promise<void> {
    return this.#back;
  }

  async #startPatiently(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#start();
        return;
      } catch (error) {
        if (attempt === START_ATTEMPTS_MAX) throw error;
      }
    }
  }
}

export class System {
  readonly folder: string;
  readonly versionsFolder: string;
  /** The folder where disk-faults.mjs finds its orders. */
  readonly orders: string;
  readonly brokers: string[];
  readonly servers: Record<ServerName, KeptServer>;
  readonly processes: Record<ProcessName, KeptProcess>;
  readonly cluster: KafkaCluster;
  readonly temporal: TemporalLineages;

  private constructor(folder: string, ports: { kafka: number; temporal: number; ui: number }) {
    this.folder = folder;
    const inside = (name: string): string => path.join(folder, name);
    this.versionsFolder = inside('versions');
    this.orders = inside('orders');
    for (const name of ['versions', 'orders', 'logs', 'kafka', 'temporal']) mkdirSync(inside(name));
    const home = homeFromEnvironment();
    // Only the built TensorFlow is shared with the data folder.
    symlinkSync(path.join(home.root, 'tensorflow'), inside('tensorflow'));
    this.brokers = [`127.0.0.1:${ports.kafka}`];
    const address = `127.0.0.1:${ports.temporal}`;
    this.servers = {
      kafka: new KeptServer(inside('kafka'), () =>
        startEmbeddedKafka({ folder: inside('kafka'), libs: home.kafka.libs, port: ports.kafka }),
      ),
      temporal: new KeptServer(inside('temporal'), () =>
        startEmbeddedTemporal({
          folder: inside('temporal'),
          executable: home.temporal.executable,
          port: ports.temporal,
          uiPort: ports.ui,
        }),
      ),
    };
    const environment: NodeJS.ProcessEnv = {
      ...process.env,
      ERRATA_HOME: folder,
      ERRATA_VERSIONS: this.versionsFolder,
      ERRATA_LINEAGES: LINEAGE,
      ERRATA_MODEL: goldenPath('tiny', 'llama'),
      ERRATA_HYPER_PARAMETERS: JSON.stringify(HYPER_PARAMETERS),
      ERRATA_KAFKA_BROKERS: this.brokers.join(','),
      ERRATA_TEMPORAL_ADDRESS: address,
      ERRATA_TEMPORAL_NAMESPACE: EMBEDDED_NAMESPACE,
      ERRATA_PORT: '0',
      ...settingsAsEnvironment(SETTINGS),
    };
    this.processes = Object.fromEntries(
      PROCESS_NAMES.map((name) => [
        name,
        new KeptProcess(name, {
          environment: {
            ...environment,
            DISK_FAULTS: JSON.stringify({
              folder: this.versionsFolder,
              orders: this.orders,
              process: name,
            }),
          },
          preload: import.meta.resolve('./disk-faults.mjs'),
          logFolder: inside('logs'),
        }),
      ]),
    ) as Record<ProcessName, KeptProcess>;
    this.cluster = new KafkaCluster(
      { brokers: this.brokers, clientId: 'fault-run', tls: null, sasl: null },
      SILENT,
    );
    this.temporal = TemporalLineages.connect({ address }, EMBEDDED_NAMESPACE);
  }

  /** Resolves when everything is ready. */
  static async start(): Promise<System> {
    const [kafka, temporal, ui] = await freePorts(3);
    const system = new System(mkdtempSync(path.join(tmpdir(), 'errata-faults-')), {
      kafka: kafka!,
      temporal: temporal!,
      ui: ui!,
    });
    try {
      await Promise.all(Object.values(system.servers).map((server) => server.start()));
      await system.cluster.ensureTopics(
        topicSpecifications(LINEAGE, { partitions: PARTITIONS, replicationFactor: 1 }),
      );
      for (const one of Object.values(system.processes)) one.start();
      await system.ready();
      return system;
    } catch (error) {
      await system.stop({ keep: true });
      throw error;
    }
  }

  async ready(): Promise<void> {
    await Promise.all(
      [...Object.values(this.servers), ...Object.values(this.processes)].map((one) => one.ready()),
    );
  }

  async stop({ keep }: { keep: boolean }): Promise<void> {
    await Promise.allSettled(Object.values(this.processes).map((one) => one.stop('SIGKILL')));
    await this.temporal.close();
    for (const server of Object.values(this.servers)) server.signal('SIGCONT');
    await Promise.allSettled([
      stopEmbeddedKafka(path.join(this.folder, 'kafka')),
      stopEmbeddedTemporal(path.join(this.folder, 'temporal')),
    ]);
    if (!keep) rmSync(this.folder, { recursive: true, force: true });
  }
}

function settingsAsEnvironment({ batch, verdict }: LineageSettings): Record<string, string> {
  const settings = {
    ERRATA_BATCH_EDITS_MAX: batch.batchEditsMax,
    ERRATA_BATCH_WAIT_MS: batch.batchWaitMs,
    ERRATA_BUFFER_EDITS_MAX: batch.bufferEditsMax,
    ERRATA_BUFFER_BYTES_MAX: batch.bufferBytesMax,
    ERRATA_SHARD_EDITS_MAX: batch.shardEditsMax,
    ERRATA_REQUIRE_EFFECTIVE: verdict.requireEffective,
    ERRATA_GENERALISATION_MIN: verdict.generalisationMin,
    ERRATA_LOCALITY_MIN: verdict.localityMin,
    ERRATA_RETENTION_MIN: verdict.retentionMin,
    ERRATA_CANARY_RATIO_MAX: verdict.canaryRatioMax,
    ERRATA_EDIT_NORM_MAX: verdict.editNormMax,
    ERRATA_RETENTION_SAMPLE: verdict.retentionSample,
  };
  return Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)]));
}

async function freePorts(count: number): Promise<number[]> {
  const free = new Set<number>();
  while (free.size < count) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    if (await isFree(port)) free.add(port);
  }
  return [...free];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1' }, () => server.close(() => resolve(true)));
  });
}
