/** Temporal for those who work for it. */
import type { DataConverter } from '@temporalio/common';
import { NativeConnection } from '@temporalio/worker';
import { refusalOf } from '../../pipelines/refused-channel.ts';
import { temporalChannel } from '../../pipelines/temporal/temporal-client.ts';
import type { Configuration } from '../config/configuration.ts';
import { temporalConnection } from '../config/connections.ts';
import { temporalConverter } from '../config/connections.ts';

/**
 * What all workers of a process share, as their options name it. Throws `ChannelRefused` where
 * Temporal does not let them in.
 */
export async function workerConnection(
  configuration: Configuration,
): Promise<{ connection: NativeConnection; namespace: string; dataConverter: DataConverter }> {
  const options = temporalConnection(configuration);
  try {
    const connection = await NativeConnection.connect(options);
    return {
      connection,
      namespace: configuration.temporal.namespace,
      dataConverter: temporalConverter(configuration),
    };
  } catch (error) {
    throw refusalOf(error, temporalChannel(options)) ?? error;
  }
}
