/** What every command gets: where to write, the configuration, the lineage, and what runs. */
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

/** The configuration that a command works with, and the lineage that it works on. */
export interface Opened {
  /** With the addresses of the running system, where one runs. */
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

  /** The configuration, with flags of the command line laid over the environment. */
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

  /** The configuration with the addresses of the running system. */
  attached(): Configuration {
    const own = this.configuration();
    return attached(own, this.system(own));
  }

  /** As `attached`; fails where no system runs and no brokers are configured. */
  connected(): { configuration: Configuration } {
    const configuration = this.attached();
    if (configuration.kafka.brokers.length === 0) throw notRunning(configuration.home);
    return { configuration };
  }

  /** The lineage that `--lineage` names, else the first; fails where there is no such lineage. */
  lineage(configuration: Configuration, name: string | undefined): string {
    const lineage = name ?? configuration.lineages[0]!;
    if (configuration.lineages.includes(lineage)) return lineage;
    throw misused(
      `there is no lineage "${lineage}"`,
      `ERRATA_LINEAGES names ${configuration.lineages.join(', ')}.`,
    );
  }

  /** The lineages of an option that means all of them where it is not given. */
  lineages(configuration: Configuration, name: string | undefined): string[] {
    return name === undefined ? configuration.lineages : [this.lineage(configuration, name)];
  }

  /** Opens the version log of the lineage that `--lineage` names. */
  open(name: string | undefined, configuration = this.attached()): Opened {
    const lineage = this.lineage(configuration, name);
    const versions = openVersions(configuration);
    return { configuration, lineage, versions, log: versions.log(lineage) };
  }

  /** Runs the work with Kafka and Temporal, and closes them. */
  async withClients<T>(
    configuration: Configuration,
    work: (clients: Clients) => Promise<T>,
  ): Promise<T> {
    // Loading the clients takes a while.
    const clients = (await import('./clients.ts')).clientsOf(configuration);
    try {
      return await work(clients);
    } finally {
      await clients.close();
    }
  }

  /** The absolute path of a file that the command line names. */
  path(file: string): string {
    return resolve(this.surroundings.workingDirectory, file);
  }
}
