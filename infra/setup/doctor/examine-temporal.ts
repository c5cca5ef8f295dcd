/**
 * What Temporal's namespace does with workflows that have ended, and whether workflows can be found
 * in it. Changes nothing.
 */
import { tsToMs } from '@temporalio/common/lib/time.js';
import {
  registrationCure,
  searchAttributesOf,
} from '../../../pipelines/temporal/search-attributes.ts';
import type { Configuration } from '../../config/configuration.ts';
import { reasonAndHint } from '../../../schemas/failures.ts';
import { temporalLineages } from '../../config/connections.ts';

export interface TemporalFinding {
  name: 'Histories' | 'Search attributes';
  /** `low`: something is lost in time, or cannot be found. `unknown`: it could not be asked. */
  state: 'ok' | 'low' | 'unknown';
  found: string;
  /** What to do; empty where there is nothing to do. */
  mend: string;
}

/** Histories that nobody keeps are gone after so many days at least. */
const RETENTION_DAYS_MIN = 30;
const DAY_MS = 24 * 3_600_000;
const ASK_WAIT_MS = 5_000;

/** The configuration with the addresses of what runs. */
export async function examineTemporal(configuration: Configuration): Promise<TemporalFinding[]> {
  const { address, namespace, searchAttributes, retentionDays } = configuration.temporal;
  const archive = configuration.archiveHistories;
  const off: TemporalFinding = {
    name: 'Search attributes',
    state: 'ok',
    found: 'not used (ERRATA_TEMPORAL_SEARCH_ATTRIBUTES, or payload keys are set)',
    mend: '',
  };
  if (address === '') {
    return [
      historiesOf(retentionDays * DAY_MS, archive, 'the server that `errata up` starts'),
      searchAttributes
        ? { name: 'Search attributes', state: 'ok', found: '`errata up` registers them', mend: '' }
        : off,
    ];
  }
  const temporal = temporalLineages(configuration);
  const { connection } = temporal.client;
  const asked = async (
    name: TemporalFinding['name'],
    ask: () => Promise<TemporalFinding>,
  ): Promise<TemporalFinding> => {
    try {
      return await connection.withDeadline(Date.now() + ASK_WAIT_MS, ask);
    } catch (error) {
      return {
        name,
        state: 'unknown',
        found: `Temporal at ${address} does not say`,
        mend: reasonAndHint(temporal.explained(error)),
      };
    }
  };
  try {
    return await Promise.all([
      asked('Histories', async () => {
        const { config } = await connection.workflowService.describeNamespace({ namespace });
        return historiesOf(
          config?.workflowExecutionRetentionTtl ? tsToMs(config.workflowExecutionRetentionTtl) : 0,
          archive,
          `namespace ${namespace}`,
        );
      }),
      asked('Search attributes', async () => {
        if (!searchAttributes) return off;
        const registration = await searchAttributesOf(connection, namespace, ASK_WAIT_MS);
        return registration.usable
          ? {
              name: 'Search attributes',
              state: 'ok',
              found: `registered in namespace ${namespace}`,
              mend: '',
            }
          : {
              name: 'Search attributes',
              state: 'low',
              found: `not as they must be in namespace ${namespace}: workflows cannot be found by them`,
              mend: registrationCure(registration, namespace),
            };
      }),
    ]);
  } finally {
    await temporal.close();
  }
}

function historiesOf(retentionMs: number, archive: boolean, where: string): TemporalFinding {
  const days = Math.round((10 * retentionMs) / DAY_MS) / 10;
  const kept = `kept ${days} day${days === 1 ? '' : 's'} by ${where}, ${archive ? 'and for good beside the versions' : 'and then lost'}`;
  const short = !archive && retentionMs < RETENTION_DAYS_MIN * DAY_MS;
  return {
    name: 'Histories',
    state: short ? 'low' : 'ok',
    found: kept,
    mend: short
      ? 'Set ERRATA_ARCHIVE_HISTORIES=true, or have the namespace keep them longer (`temporal operator namespace update --retention 365d`).'
      : '',
  };
}
