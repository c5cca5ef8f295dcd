/** The embedded Kafka and Temporal of a system: starts, watches, restarts and stops them. */
import { messageOf } from '../../schemas/failures.ts';
import type { Configuration } from '../config/configuration.ts';
import { homeAt, type Home } from '../config/home.ts';
import { startEmbeddedKafka, stopEmbeddedKafka } from './kafka.ts';
import { runningServer } from './server-process.ts';
import type { SystemState } from './system-state.ts';
import { startEmbeddedTemporal, stopEmbeddedTemporal } from './temporal.ts';

export type Report = (who: string, event: string) => void;

const WATCH_MS = 2_000;

export class EmbeddedServers {
  readonly #configuration: Configuration;
  readonly #home: Home;
  readonly #report: Report;
  #timer: NodeJS.Timeout | undefined;
  #restarting: Promise<void> | null = null;

  constructor(configuration: Configuration, report: Report) {
    this.#configuration = configuration;
    this.#home = homeAt(configuration.home);
    this.#report = report;
  }

  /** Starts the broker or finds it running, unless the configuration names another cluster. */
  async kafka(lastPort?: number): Promise<SystemState['kafka']> {
    const { embedded, brokers, port: preferredPort } = this.#configuration.kafka;
    // The default port is only a preference; a given one is required.
    const port = lastPort ?? (this.#configuration.given.has('kafka.port') ? preferredPort : 0);
    if (!embedded) return { brokers, embedded, pid: null };
    this.#report('kafka', 'starting');
    const folder = this.#home.serverData('kafka');
    const { libs } = this.#home.kafka;
    const kafka = await startEmbeddedKafka({ folder, libs, port, preferredPort });
    this.#report('kafka', kafka.found ? 'found running' : 'ready');
    return { brokers: [...kafka.brokers], embedded, pid: kafka.pid };
  }

  /** Starts the Temporal server or finds it running, unless the configuration names another one. */
  async temporal(port = this.#configuration.temporal.port): Promise<SystemState['temporal']> {
    const { given, temporal } = this.#configuration;
    const { embedded, address, namespace, uiPort, retentionDays } = temporal;
    if (!embedded) return { address, namespace, embedded, pid: null, uiUrl: null };
    this.#report('temporal', 'starting');
    const server = await startEmbeddedTemporal({
      folder: this.#home.serverData('temporal'),
      executable: this.#home.temporal.executable,
      namespace,
      port,
      retentionDays,
      uiPort: given.has('temporal.uiPort') ? uiPort : 0,
      preferredUiPort: uiPort,
    });
    this.#report('temporal', server.found ? 'found running' : 'ready');
    return { address: server.address, namespace, embedded, pid: server.pid, uiUrl: server.uiUrl };
  }

  /**
   * Restarts a server that exits, on the same port, and calls `changed`. The servers are not child
   * processes, so their exit must be polled.
   */
  watch(state: SystemState, changed: () => void): void {
    this.#timer = setInterval(() => {
      this.#restarting ??= this.#restart(state)
        .then(changed)
        .catch((error: unknown) => this.#report('servers', messageOf(error)))
        .finally(() => (this.#restarting = null));
    }, WATCH_MS);
  }

  /**
   * Ends the watch. Waits for a restart in progress, whose server would otherwise be left running.
   */
  async endWatch(): Promise<void> {
    clearInterval(this.#timer);
    await this.#restarting;
  }

  async stop(): Promise<void> {
    const { kafka, temporal } = this.#configuration;
    const folder = this.#home.serverData;
    if (temporal.embedded && (await stopEmbeddedTemporal(folder('temporal'))))
      this.#report('temporal', 'stopped');
    if (kafka.embedded && (await stopEmbeddedKafka(folder('kafka'))))
      this.#report('kafka', 'stopped');
  }

  async #restart(state: SystemState): Promise<void> {
    if (this.#ended('kafka')) state.kafka = await this.kafka(portOf(state.kafka.brokers[0]));
    if (this.#ended('temporal'))
      state.temporal = await this.temporal(portOf(state.temporal.address));
  }

  #ended(name: 'kafka' | 'temporal'): boolean {
    const { embedded } = this.#configuration[name];
    const ended = embedded && runningServer(this.#home.serverData(name)) === undefined;
    if (ended) this.#report(name, 'ended; restarting it');
    return ended;
  }
}

function portOf(address = ''): number {
  return Number(address.split(':').at(-1));
}
