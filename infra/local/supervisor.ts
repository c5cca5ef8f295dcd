/**
 * The whole system on one machine: an embedded Kafka and Temporal where the configuration names
 * none, and the four processes, each kept running. In production a container platform does this
 * instead.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { childEnvironment, type Configuration } from '../config/configuration.ts';
import { startEmbeddedKafka, stopEmbeddedKafka, findEmbeddedKafka } from './kafka.ts';
import { startEmbeddedTemporal, stopEmbeddedTemporal, findEmbeddedTemporal } from './temporal.ts';
import { freePort, isFree } from './server-process.ts';
import { engineOptions, statisticsFolder } from '../config/engine-options.ts';
import { ExclusiveTimeout, holdExclusively, type Exclusive } from '../setup/exclusive.mjs';
import { homeAt, PROJECT_ROOT } from '../config/home.ts';
import {
  DEFAULT_RESTART_POLICY,
  keepRunning,
  type KeptProcess,
  type ProcessSpecification,
  type RestartPolicy,
} from './supervised-process.ts';
import {
  forgetSystem,
  isRunning,
  lastSystem,
  markOf,
  writeSystem,
  type ProcessMark,
  type SupervisedProcess,
  type SystemState,
} from './system-state.ts';

/** In the order in which they are stopped, so that nothing new comes in while the rest ends. */
export const PROCESS_NAMES = ['ingest', 'workflow-worker', 'edit-worker', 'serve'] as const;
export type ProcessName = (typeof PROCESS_NAMES)[number];

export interface SystemOptions {
  /** Environment laid over ours for the processes: what flags of the command line said. */
  overlay?: Record<string, string>;
  /** Called on everything worth telling; `event` is in words. */
  report?: (who: string, event: string) => void;
  /** Called when a process changes, with the whole state. */
  changed?: (state: SystemState) => void;
  /** Ends the start; what has begun is stopped again. */
  signal?: AbortSignal;
  /** For tests: other processes than the four. */
  processes?: (environment: NodeJS.ProcessEnv) => ProcessSpecification[];
  policy?: RestartPolicy;
}

export interface RunningSystem {
  readonly state: SystemState;
  /** Stops everything in order. Safe to call twice. */
  stop(): Promise<void>;
}

/** Another supervisor holds this data folder. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError';
  readonly hint =
    '`errata status` shows it, `errata down` stops it. Another ERRATA_HOME is another system.';
  constructor(readonly home: string) {
    super(`A system of ${home} is running.`);
  }
}

/** The start was ended by the signal of its options. */
export class StartInterrupted extends Error {
  override readonly name = 'StartInterrupted';
  constructor() {
    super('The start was interrupted.');
  }
}

/**
 * Starts everything and resolves when all of it works. Throws `AlreadyRunningError`,
 * `EmbeddedServerError`, `ProcessStartError` or `StartInterrupted`; then nothing of it is left
 * running.
 */
export async function startSystem(
  configuration: Configuration,
  options: SystemOptions = {},
): Promise<RunningSystem> {
  const home = configuration.home;
  const report = options.report ?? (() => {});
  const lock = await holdHome(home);
  const kept: KeptProcess[] = [];
  let watch: ServerWatch | undefined;
  let state: SystemState | null = null;
  let stopping: Promise<void> | null = null;

  const stopAll = async (): Promise<void> => {
    await watch?.end();
    if (state !== null) {
      state.state = 'stopping';
      writeSystem(home, state);
    }
    for (const process of [...kept].sort((a, b) => stopRank(a) - stopRank(b))) {
      report(process.status.name, 'stopping');
      await process.stop(PROCESS_STOP_WAIT_MS);
    }
    if (
      configuration.temporal.embedded &&
      (await stopEmbeddedTemporal(homeAt(home).serverData('temporal')))
    )
      report('temporal', 'stopped');
    if (configuration.kafka.embedded && (await stopEmbeddedKafka(homeAt(home).serverData('kafka'))))
      report('kafka', 'stopped');
    forgetSystem(home);
    await lock.release();
  };
  const stop = (): Promise<void> => (stopping ??= stopAll());

  let startingKafka: Promise<SystemState['kafka']> | null = null;
  try {
    await endOrphans(home, report);
    startingKafka = kafkaOf(configuration, report);
    startingKafka.catch(() => {});
    const [temporal, servePort] = await Promise.all([
      temporalOf(configuration, report),
      servePortOf(configuration),
    ]);
    const current: SystemState = {
      format: 1,
      state: 'starting',
      supervisor: ownMark(),
      startedAt: new Date().toISOString(),
      lineages: configuration.lineages,
      kafka: {
        brokers: configuration.kafka.brokers,
        embedded: configuration.kafka.embedded,
        pid: null,
      },
      temporal,
      serveUrl: null,
      processes: [],
    };
    state = current;
    writeSystem(home, current);
    const changed = (process: SupervisedProcess, event: string | null): void => {
      if (event !== null) report(process.name, event);
      if (process.name === 'serve' && process.port !== null)
        current.serveUrl = `http://${reachableHost(configuration.serve.host)}:${process.port}`;
      if (current.state !== 'stopping') writeSystem(home, current);
      options.changed?.(current);
    };
    const specifications = (): ProcessSpecification[] => {
      const environment = childEnvironment({
        ...options.overlay,
        ERRATA_HOME: home,
        ...(current.kafka.brokers.length === 0
          ? {}
          : { ERRATA_KAFKA_BROKERS: current.kafka.brokers.join(',') }),
        ERRATA_TEMPORAL_ADDRESS: temporal.address,
        ERRATA_TEMPORAL_NAMESPACE: temporal.namespace,
        ERRATA_PORT: String(servePort),
      });
      return (
        options.processes?.(environment) ??
        PROCESS_NAMES.map((name) => processSpecification(name, home, environment))
      );
    };
    const keep = (specification: ProcessSpecification): void => {
      if (options.signal?.aborted === true) throw new StartInterrupted();
      const process = keepRunning(specification, options.policy ?? DEFAULT_RESTART_POLICY, changed);
      kept.push(process);
      current.processes.push(process.status);
    };
    const ready = (): Promise<unknown> =>
      Promise.race([
        Promise.all(kept.map((process) => process.firstReady)),
        interruption(options.signal),
      ]);

    // The edit worker does not talk to Kafka: its model loads while Kafka starts.
    specifications()
      .filter(({ name }) => name === 'edit-worker')
      .forEach(keep);
    current.kafka = await startingKafka;
    const rest = specifications().filter(({ name }) => name !== 'edit-worker');
    // On a first start both would take the key statistics, which is minutes of work: one does, the
    // other reads them.
    const later = statisticsAreThere(configuration)
      ? []
      : rest.filter(({ name }) => name === 'serve');
    rest.filter((specification) => !later.includes(specification)).forEach(keep);
    if (later.length > 0) await ready();
    later.forEach(keep);
    await ready();
    noteStatistics(configuration);
    current.serveUrl ??= current.processes.some((process) => process.name === 'serve')
      ? `http://${reachableHost(configuration.serve.host)}:${servePort}`
      : null;
    current.state = 'ready';
    writeSystem(home, current);
    watch = watchServers(configuration, current, report);
    return { state: current, stop };
  } catch (error) {
    // A server in the middle of its start cannot be stopped cleanly.
    await Promise.allSettled([startingKafka]);
    await stop();
    throw error;
  }
}

/** Long enough for an edit step to end and for consumers to leave their group. */
const PROCESS_STOP_WAIT_MS = 20_000;
const ORPHAN_STOP_WAIT_MS = 10_000;
const ORPHAN_PROBE_MS = 50;
const LOCK_WAIT_MS = 300;
const SERVER_WATCH_MS = 2_000;

/** Rejects when the signal comes; else never settles. */
function interruption(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const interrupt = (): void => reject(new StartInterrupted());
    if (signal?.aborted === true) interrupt();
    else signal?.addEventListener('abort', interrupt, { once: true });
  });
}

function stopRank(process: KeptProcess): number {
  return (PROCESS_NAMES as readonly string[]).indexOf(process.status.name);
}

async function holdHome(home: string): Promise<Exclusive> {
  try {
    return await holdExclusively(`system of ${home}`, LOCK_WAIT_MS);
  } catch (error) {
    if (error instanceof ExclusiveTimeout) throw new AlreadyRunningError(home);
    throw error;
  }
}

/** Ends processes of a supervisor that was killed: they see it themselves, but one may hang. */
async function endOrphans(
  home: string,
  report: (who: string, event: string) => void,
): Promise<void> {
  const orphans = (lastSystem(home)?.processes ?? []).flatMap((process) =>
    isRunning(process.mark) ? [{ name: process.name, mark: process.mark! }] : [],
  );
  for (const { name, mark } of orphans) {
    report(name, `left over from an earlier start (pid ${mark.pid}): ending it`);
    signal(mark, 'SIGTERM');
  }
  const deadlineMs = performance.now() + ORPHAN_STOP_WAIT_MS;
  while (orphans.some(({ mark }) => isRunning(mark)) && performance.now() < deadlineMs)
    await new Promise((resolve) => setTimeout(resolve, ORPHAN_PROBE_MS));
  for (const { mark } of orphans) signal(mark, 'SIGKILL');
}

function signal(mark: ProcessMark, name: NodeJS.Signals): void {
  if (!isRunning(mark)) return;
  try {
    process.kill(mark.pid, name);
  } catch (error) {
    // It ended in between.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function kafkaOf(
  configuration: Configuration,
  report: (who: string, event: string) => void,
): Promise<SystemState['kafka']> {
  if (!configuration.kafka.embedded)
    return { brokers: configuration.kafka.brokers, embedded: false, pid: null };
  const home = homeAt(configuration.home);
  report('kafka', 'starting');
  const kafka = await startEmbeddedKafka({
    folder: home.serverData('kafka'),
    libs: home.kafka.libs,
    port: configuration.kafka.port,
  });
  report('kafka', kafka.found ? 'found running' : 'ready');
  return { brokers: [...kafka.brokers], embedded: true, pid: kafka.pid };
}

async function temporalOf(
  configuration: Configuration,
  report: (who: string, event: string) => void,
): Promise<SystemState['temporal']> {
  const { namespace, address } = configuration.temporal;
  if (!configuration.temporal.embedded)
    return { address, namespace, embedded: false, pid: null, uiUrl: null };
  const home = homeAt(configuration.home);
  const { port, uiPort, retentionDays } = configuration.temporal;
  report('temporal', 'starting');
  const temporal = await startEmbeddedTemporal({
    folder: home.serverData('temporal'),
    executable: home.temporal.executable,
    namespace,
    port,
    retentionDays,
    // The default is a wish, a port that was asked for is a demand.
    uiPort: configuration.given.has('temporal.uiPort') || (await isFree(uiPort)) ? uiPort : 0,
  });
  report('temporal', temporal.found ? 'found running' : 'ready');
  return {
    address: temporal.address,
    namespace: temporal.namespace,
    embedded: true,
    pid: temporal.pid,
    uiUrl: temporal.uiUrl,
  };
}

async function servePortOf(configuration: Configuration): Promise<number> {
  const { port } = configuration.serve;
  return configuration.given.has('serve.port') ? port : freePort(port);
}

/** Whether the last start that came to its end was of this very model and editor. */
function statisticsAreThere(configuration: Configuration): boolean {
  try {
    return readFileSync(takenForFile(configuration), 'utf8') === editorOf(configuration);
  } catch {
    return false;
  }
}

function noteStatistics(configuration: Configuration): void {
  mkdirSync(statisticsFolder(configuration.home), { recursive: true });
  writeFileSync(takenForFile(configuration), editorOf(configuration));
}

function takenForFile({ home }: Configuration): string {
  return join(statisticsFolder(home), 'taken-for.json');
}

function editorOf(configuration: Configuration): string {
  const { modelPath, textFile, parameters } = engineOptions(configuration);
  return JSON.stringify({ errata: VERSION, modelPath, textFile, parameters });
}

const VERSION = (
  JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string }
).version;

/** How one of our processes is run; its log goes to `logs` in the home. */
export function processSpecification(
  name: ProcessName,
  home: string,
  environment: NodeJS.ProcessEnv,
): ProcessSpecification {
  return {
    name,
    executable: process.execPath,
    // By address, not by name: a name is looked up from the working directory, which may be
    // anywhere.
    args: [
      '--import',
      import.meta.resolve('tsx'),
      join(PROJECT_ROOT, 'infra', 'processes', `${name}.ts`),
    ],
    environment,
    // Relative paths in the environment are relative to where the command was typed.
    workingDirectory: process.cwd(),
    log: join(home, 'logs', `${name}.log`),
  };
}

/**
 * The servers are not our children, so nobody tells us when one dies: look, and start it again
 * where it was.
 */
function watchServers(
  configuration: Configuration,
  state: SystemState,
  report: (who: string, event: string) => void,
): ServerWatch {
  const home = homeAt(configuration.home);
  let looking: Promise<void> | null = null;
  const look = async (): Promise<void> => {
    if (configuration.kafka.embedded && findEmbeddedKafka(home.serverData('kafka')) === undefined) {
      report('kafka', 'ended; starting it again');
      const port = Number(state.kafka.brokers[0]?.split(':').at(-1) ?? 0);
      state.kafka = await kafkaOf(
        { ...configuration, kafka: { ...configuration.kafka, port } },
        report,
      );
    }
    if (
      configuration.temporal.embedded &&
      findEmbeddedTemporal(home.serverData('temporal')) === undefined
    ) {
      report('temporal', 'ended; starting it again');
      const port = Number(state.temporal.address.split(':').at(-1));
      state.temporal = await temporalOf(
        { ...configuration, temporal: { ...configuration.temporal, port } },
        report,
      );
    }
    writeSystem(configuration.home, state);
  };
  const timer = setInterval(() => {
    looking ??= look()
      .catch((error: unknown) =>
        report('servers', error instanceof Error ? error.message : String(error)),
      )
      .finally(() => (looking = null));
  }, SERVER_WATCH_MS);
  return {
    // A restart in progress is awaited: a server that comes up after we stopped would stay.
    async end() {
      clearInterval(timer);
      await looking;
    },
  };
}

interface ServerWatch {
  end(): Promise<void>;
}

function ownMark(): ProcessMark {
  const mark = markOf(process.pid);
  if (mark === null)
    throw new Error('This process is not to be found under /proc. `errata up` needs Linux.');
  return mark;
}

/** An address that binds everywhere is reached on this machine. */
function reachableHost(host: string): string {
  return host === '0.0.0.0' || host === '::'
    ? '127.0.0.1'
    : host.includes(':')
      ? `[${host}]`
      : host;
}
