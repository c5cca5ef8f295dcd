/** Opens a process's prerequisites: the model, Temporal, the schemas. */
import type { DataConverter } from '@temporalio/common';
import { NativeConnection } from '@temporalio/worker';
import type { Engine } from '../../model/engine/engine.ts';
import { ThreadEngine } from '../../model/engine/thread-engine.ts';
import type { RecordFormat } from '../../pipelines/kafka/record-format.ts';
import type { Logger } from '../../pipelines/logger.ts';
import { refusalOf } from '../../pipelines/refused-channel.ts';
import { temporalChannel } from '../../pipelines/temporal/temporal-client.ts';
import { SchemaRegistryUnavailable } from '../../schemas/failures.ts';
import type { RecordName } from '../../schemas/records/released-schemas.ts';
import type { Configuration } from '../config/configuration.ts';
import { temporalConnection, temporalConverter } from '../config/connections.ts';
import { engineOptions } from '../config/engine-options.ts';
import type { ProcessContext } from './run-process.ts';

/** Loads the model in its own thread, and reports progress to the supervisor. */
export async function openEngine({ configuration, log, step }: ProcessContext): Promise<Engine> {
  const beganMs = performance.now();
  const engine = await ThreadEngine.open(engineOptions(configuration), step);
  void engine.ended.then((err) => {
    log.fatal({ err }, 'The model is lost; this process ends, so that its supervisor restarts it');
    process.exit(1);
  });
  const { model, software, keyStatistics } = await engine.describe();
  const seconds = (performance.now() - beganMs) / 1_000;
  const { name, sha256 } = model;
  log.info({ model: name, sha256, ...software, keyStatistics, seconds }, 'The model is loaded');
  return engine;
}

/**
 * Connects to Temporal with the options shared by all workers of a process. Throws `ChannelRefused`
 * if Temporal refuses the connection.
 */
export async function workerConnection(
  configuration: Configuration,
): Promise<{ connection: NativeConnection; namespace: string; dataConverter: DataConverter }> {
  const options = temporalConnection(configuration);
  const { namespace } = configuration.temporal;
  try {
    const connection = await NativeConnection.connect(options);
    return { connection, namespace, dataConverter: temporalConverter(configuration) };
  } catch (error) {
    throw refusalOf(error, temporalChannel(options)) ?? error;
  }
}

/**
 * Registers the schemas of a process's topics. Throws `SchemaRefused` if other programs could not
 * read its records. If the registry is unavailable, the first record registers them instead.
 */
export async function registerSchemas(
  format: RecordFormat,
  topics: Iterable<readonly [RecordName, string]>,
  log: Logger,
): Promise<void> {
  for (const [record, topic] of topics) {
    try {
      await format.encoder(record, topic);
    } catch (fault) {
      if (!(fault instanceof SchemaRegistryUnavailable)) throw fault;
      log.warn({ reason: fault.message }, 'Schemas are not registered yet');
      return;
    }
  }
}
