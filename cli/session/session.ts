/**
 * What every command is given: where to write, how it is configured, what runs. Made anew for each
 * invocation.
 */
import { readConfiguration, type Configuration } from '../../infra/config/configuration.ts';
import { attached, findSystem, type SystemState } from '../../infra/local/system-state.ts';
import { CommandFailure, notRunning } from './command-failure.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Output, type Streams } from '../terminal/output.ts';

export interface Surroundings extends Streams {
  in: NodeJS.ReadableStream & { isTTY?: boolean };
  environment: NodeJS.ProcessEnv;
  workingDirectory: string;
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

  /**
   * The configuration with the addresses of what runs; a failure when nothing runs and no brokers
   * are named.
   */
  connected(
    operation: string,
    overlay: Record<string, string> = {},
  ): { configuration: Configuration; system: SystemState | null } {
    const own = this.configuration(overlay);
    const system = this.system(own);
    const configuration = attached(own, system);
    if (configuration.kafka.brokers.length === 0) throw notRunning(operation, own.home);
    return { configuration, system };
  }

  /**
   * The lineage that `--lineage` names, else the first; a failure when there is no such lineage.
   */
  lineage(configuration: Configuration, named: string | undefined): string {
    const lineage = named ?? configuration.lineages[0]!;
    if (!configuration.lineages.includes(lineage)) {
      throw new CommandFailure(
        'find the lineage',
        `there is no lineage "${lineage}"`,
        `ERRATA_LINEAGES names ${configuration.lineages.join(', ')}.`,
        EXIT.usage,
      );
    }
    return lineage;
  }
}
