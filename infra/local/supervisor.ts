/**
 * The whole system on one machine: an embedded Kafka and Temporal unless the configuration names
 * others, and the four processes, each kept running. In production a container platform does this.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { childEnvironment, type Configuration } from '../config/configuration.ts';
import { engineOptions } from '../config/engine-options.ts';
import { homeAt, PROJECT_ROOT } from '../config/home.ts';
import { ExclusiveTimeout, holdExclusively, type Exclusive } from '../setup/exclusive.mjs';
import { EmbeddedServers, type Report } from './embedded-servers.ts';
import { endProcess, isRunning, markOf } from './process-mark.ts';
import { freePort } from './server-process.ts';
import {
  DEFAULT_RESTART_POLICY,
  KeptProcess,
  type ProcessSpecification,
  type RestartPolicy,
} from './supervised-process.ts';
import {
  forgetSystem,
  lastSystem,
  writeSystem,
  type SupervisedProcess,
  type SystemState,
} from './system-state.ts';

/** In stopping order, so that no new work arrives during the stop. */
export const PROCESS_NAMES = ['ingest', 'workflow-worker', 'edit-worker', 'serve'] as const;
export type ProcessName = (typeof PROCESS_NAMES)[number];

export interface SystemOptions {
  /** Environment for the processes, from command-line flags. */
  overlay?: Record<string, string>;
  /** Receives a message for every event worth reporting. */
  report?: Report;
  /** Receives the whole state when a process changes. */
  changed?: (state: SystemState) => void;
  /** Interrupts the start; anything started is stopped again. */
  signal?: AbortSignal;
  /** For tests: replaces the four processes. */
  processes?: (environment: NodeJS.ProcessEnv) => ProcessSpecification[];
  policy?: RestartPolicy;
}

export interface RunningSystem {
  readonly state: SystemState;
  /** Stops everything in order. May be called twice. */
  stop(): Promise<void>;
}

/** Another supervisor holds this data folder. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError';
  readonly hint =
    '`errata status` shows it, `errata down` stops it. A second system needs another ERRATA_HOME.';
  constructor(readonly home: string) {
    super(`A system of ${home} is running.`);
  }
}

/** The caller's signal interrupted the start. */
export class StartInterrupted extends Error {
  override readonly name = 'StartInterrupted';
  constructor() {
    super('The start was interrupted.');
  }
}

/** Long enough for an edit step to end and for consumers to leave their group. */
const PROCESS_STOP_WAIT_MS = 20_000;
const ORPHAN_STOP_WAIT_MS = 10_000;
const LOCK_WAIT_MS = 300;

/**
 * Starts everything and resolves when all of it works. On failure it stops what it started and
 * throws `AlreadyRunningError`, `EmbeddedServerError`, `ProcessStartError` or `StartInterrupted`.
 */
export async function startSystem(
  configuration: Configuration,
  options: SystemOptions = {},
): Promise<RunningSystem> {
  const system = new System(configuration, options, await holdHome(configuration.home));
  try {
    await system.start();
    return system;
  } catch (error) {
    await system.stop();
    throw error;
  }
}

class System implements RunningSystem {
  readonly state: SystemState;
  readonly #configuration: Configuration;
  readonly #options: SystemOptions;
  readonly #lock: Exclusive;
  readonly #report: Report;
  readonly #servers: EmbeddedServers;
  readonly #kept: KeptProcess[] = [];
  #servePort = 0;
  #startingKafka: Promise<unknown> | null = null;
  #stopped: Promise<void> | null = null;

  constructor(configuration: Configuration, options: SystemOptions, lock: Exclusive) {
    this.#configuration = configuration;
    this.#options = options;
    this.#lock = lock;
    this.#report = options.report ?? (() => {});
    this.#servers = new EmbeddedServers(configuration, this.#report);
    const { lineages, kafka, temporal } = configuration;
    const supervisor = markOf(process.pid);
    if (supervisor === null)
      throw new Error('This process has no entry in /proc: `errata up` needs Linux.');
    this.state = {
      format: 1,
      state: 'starting',
      supervisor,
      startedAt: new Date().toISOString(),
      lineages,
      kafka: { brokers: kafka.brokers, embedded: kafka.embedded, pid: null },
      temporal: {
        address: temporal.address,
        namespace: temporal.namespace,
        embedded: temporal.embedded,
        pid: null,
        uiUrl: null,
      },
      serveUrl: null,
      processes: [],
    };
  }

  async start(): Promise<void> {
    const { state } = this;
    const { home, serve, given } = this.#configuration;
    await endOrphans(home, this.#report);
    const startingKafka = this.#servers.kafka();
    startingKafka.catch(() => {});
    this.#startingKafka = startingKafka;
    [state.temporal, this.#servePort] = await Promise.all([
      this.#servers.temporal(),
      given.has('serve.port') ? serve.port : freePort(serve.port),
    ]);
    this.#write();
    // The edit worker does not use Kafka, so its model loads while Kafka starts.
    this.#keep((name) => name === 'edit-worker');
    state.kafka = await startingKafka;
    // At the first start both would spend minutes computing the key statistics. The edit worker
    // computes them, then serve reads them.
    const statistics = statisticsAreThere(this.#configuration);
    this.#keep((name) => name !== 'edit-worker' && (statistics || name !== 'serve'));
    if (!statistics) {
      await this.#ready();
      this.#keep((name) => name === 'serve');
    }
    await this.#ready();
    noteStatistics(this.#configuration);
    if (state.processes.some(({ name }) => name === 'serve'))
      state.serveUrl ??= this.#urlAt(this.#servePort);
    state.state = 'ready';
    this.#write();
    this.#servers.watch(state, () => this.#write());
  }

  stop(): Promise<void> {
    return (this.#stopped ??= this.#stopAll());
  }

  async #stopAll(): Promise<void> {
    const { home } = this.#configuration;
    // A server that is still starting cannot be stopped cleanly.
    await Promise.allSettled([this.#startingKafka]);
    await this.#servers.endWatch();
    this.state.state = 'stopping';
    if (this.#kept.length > 0) this.#write();
    const rank = ({ status }: KeptProcess) =>
      (PROCESS_NAMES as readonly string[]).indexOf(status.name);
    for (const process of this.#kept.toSorted((a, b) => rank(a) - rank(b))) {
      this.#report(process.status.name, 'stopping');
      await process.stop(PROCESS_STOP_WAIT_MS);
    }
    await this.#servers.stop();
    forgetSystem(home);
    await this.#lock.release();
  }

  /** Starts the processes selected by `wanted`. */
  #keep(wanted: (name: string) => boolean): void {
    const policy = this.#options.policy ?? DEFAULT_RESTART_POLICY;
    for (const specification of this.#specifications()) {
      if (!wanted(specification.name)) continue;
      if (this.#options.signal?.aborted === true) throw new StartInterrupted();
      const process = new KeptProcess(specification, policy, (...change) => this.#note(...change));
      this.#kept.push(process);
      this.state.processes.push(process.status);
    }
  }

  #specifications(): ProcessSpecification[] {
    const { home } = this.#configuration;
    const { kafka, temporal } = this.state;
    const brokers = kafka.brokers.join(',');
    const environment = childEnvironment({
      ...this.#options.overlay,
      ERRATA_HOME: home,
      ...(brokers === '' ? {} : { ERRATA_KAFKA_BROKERS: brokers }),
      ERRATA_TEMPORAL_ADDRESS: temporal.address,
      ERRATA_TEMPORAL_NAMESPACE: temporal.namespace,
      ERRATA_PORT: String(this.#servePort),
    });
    return (
      this.#options.processes?.(environment) ??
      PROCESS_NAMES.map((name) => processSpecification(name, home, environment))
    );
  }

  /** Resolves when every process has been ready; rejects on failure and on the caller's signal. */
  async #ready(): Promise<void> {
    const { signal } = this.#options;
    const interrupted = new Promise<never>((_, reject) => {
      const interrupt = () => reject(new StartInterrupted());
      if (signal?.aborted === true) interrupt();
      else signal?.addEventListener('abort', interrupt, { once: true });
    });
    await Promise.race([Promise.all(this.#kept.map(({ firstReady }) => firstReady)), interrupted]);
  }

  #note({ name, port }: SupervisedProcess, event: string | null): void {
    if (event !== null) this.#report(name, event);
    if (name === 'serve' && port !== null) this.state.serveUrl = this.#urlAt(port);
    if (this.state.state !== 'stopping') this.#write();
    this.#options.changed?.(this.state);
  }

  #write(): void {
    writeSystem(this.#configuration.home, this.state);
  }

  /** Returns the address of `serve` from this machine, even if it binds all interfaces. */
  #urlAt(port: number): string {
    const { host } = this.#configuration.serve;
    if (host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`;
    return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }
}

async function holdHome(home: string): Promise<Exclusive> {
  try {
    return await holdExclusively(`system of ${home}`, LOCK_WAIT_MS);
  } catch (error) {
    if (error instanceof ExclusiveTimeout) throw new AlreadyRunningError(home);
    throw error;
  }
}

/** Ends processes left by a killed supervisor: they stop on their own, but one may hang. */
async function endOrphans(home: string, report: Report): Promise<void> {
  const processes = lastSystem(home)?.processes ?? [];
  await Promise.all(
    processes.map(async ({ name, mark }) => {
      if (mark === null || !isRunning(mark)) return;
      report(name, `left over from an earlier start (pid ${mark.pid}): ending it`);
      await endProcess(mark, ORPHAN_STOP_WAIT_MS);
    }),
  );
}

/** Tells whether the last complete start used the same model and editor. */
function statisticsAreThere(configuration: Configuration): boolean {
  try {
    return readFileSync(editorFile(configuration), 'utf8') === editorOf(configuration);
  } catch {
    return false;
  }
}

function noteStatistics(configuration: Configuration): void {
  const file = editorFile(configuration);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, editorOf(configuration));
}

function editorFile({ home }: Configuration): string {
  return join(homeAt(home).keyStatistics, 'taken-for.json');
}

function editorOf(configuration: Configuration): string {
  const { modelPath, textFile, parameters } = engineOptions(configuration);
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  return JSON.stringify({ errata: version, modelPath, textFile, parameters });
}

/** Specifies how to run one of our processes; its log is in the data folder's `logs`. */
export function processSpecification(
  name: ProcessName,
  home: string,
  environment: NodeJS.ProcessEnv,
): ProcessSpecification {
  const program = join(PROJECT_ROOT, 'infra', 'processes', `${name}.ts`);
  return {
    name,
    executable: process.execPath,
    // A URL, because a package name would be resolved from the working directory.
    args: ['--import', import.meta.resolve('tsx'), program],
    environment,
    // Relative paths in the environment are resolved from the user's working directory.
    workingDirectory: process.cwd(),
    log: join(home, 'logs', `${name}.log`),
  };
}
