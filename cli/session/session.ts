/** The context of every command: output, configuration, lineage and the running system. */
import { resolve } from 'node:path';
import { readConfiguration, type Configuration } from '../../infra/config/configuration.ts';
import { attached, findSystem, type SystemState } from '../../infra/local/system-state.ts';
import { openVersions } from '../../infra/config/open-versions.ts';
import type { VersionLog } from '../../versions/log/version-log.ts';
import type { Versions } from '../../versions/versions.ts';
import { misused, notRunning } from '../terminal/command-failure.ts';
import { Output, type Surroundings } from '../terminal/output.ts';
import type { Clients } from './clients.ts';

export type { Surroundings };

/** The configuration and lineage of a command. */
export interface Opened {
  /** Includes the addresses of the running system, if any. */
  configuration: Configuration;
  lineage: string;
  versions: Versions;
  log: VersionLog;
}

export class Session {
  readonly output: Output;

  constructor(
    readonly surroundings: Surroundings,
    json: boolean,
  ) {
    this.output = new Output(surroundings, json, surroundings.environment);
  }

  /** Returns the configuration; command-line flags override the environment. */
  configuration(overlay: Record<string, string> = {}): Configuration {
    const configuration = readConfiguration(
      { ...this.surroundings.environment, ...overlay },
      this.surroundings.workingDirectory,
    );
    for (const notice of configuration.notices) this.output.warning(notice);
    return configuration;
  }

  system(configuration: Configuration): SystemState | null {
    return findSystem(configuration.home);
  }

  /** Returns the configuration with the running system's addresses. */
  attached(): Configuration {
    const own = this.configuration();
    return attached(own, this.system(own));
  }

  /** Like `attached`; fails if no system runs and no brokers are configured. */
  connected(): { configuration: Configuration } {
    const configuration = this.attached();
    if (configuration.kafka.brokers.length === 0) throw notRunning(configuration.home);
    return { configuration };
  }

  /** Returns the lineage named by `--lineage`, else the first. Fails if it does not exist. */
  lineage(configuration: Configuration, name: string | undefined): string {
    const lineage = name ?? configuration.lineages[0]!;
    if (configuration.lineages.includes(lineage)) return lineage;
    throw misused(
      `there is no lineage "${lineage}"`,
      `ERRATA_LINEAGES names ${configuration.lineages.join(', ')}.`,
    );
  }

  /** Returns the named lineage, or all of them if none is named. */
  lineages(configuration: Configuration, name: string | undefined): string[] {
    return name === undefined ? configuration.lineages : [this.lineage(configuration, name)];
  }

  /** Opens the version log of the lineage named by `--lineage`. */
  open(name: string | undefined, configuration = this.attached()): Opened {
    const lineage = this.lineage(configuration, name);
    const versions = openVersions(configuration);
    return { configuration, lineage, versions, log: versions.log(lineage) };
  }

  /** Runs the work with Kafka and Temporal clients, then closes them. */
  async withClients<T>(
    configuration: Configuration,
    work: (clients: Clients) => Promise<T>,
  ): Promise<T> {
    // Loaded on demand, because the clients load slowly.
    const clients = (await import('./clients.ts')).clientsOf(configuration);
    try {
      return await work(clients);
    } finally {
      await clients.close();
    }
  }

  path(file: string): string {
    return resolve(this.surroundings.workingDirectory, file);
  }
}
