/**
 * Temporal for those who ask it something: the lineages, and what is needed to read their answers.
 */
import type { DataConverter } from '@temporalio/common';
import { payloadConverter } from '../../pipelines/temporal/payload-codec.ts';
import { TemporalLineages } from '../../pipelines/temporal/temporal-client.ts';
import type { Configuration } from '../config/configuration.ts';
import { temporalConnection } from '../config/connections.ts';
import { payloadKeysIn } from '../config/payload-keys.ts';

export function temporalLineages(configuration: Configuration): TemporalLineages {
  return TemporalLineages.connect(
    temporalConnection(configuration),
    configuration.temporal.namespace,
    temporalConverter(configuration),
  );
}

export function temporalConverter({ temporal }: Configuration): DataConverter {
  return payloadConverter(
    temporal.payloadKeys === null ? [] : (payloadKeysIn(temporal.payloadKeys.reveal()) ?? []),
  );
}
