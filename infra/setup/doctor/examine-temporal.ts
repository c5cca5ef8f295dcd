/**
 * Checks how long Temporal's namespace keeps histories, and whether its workflows can be searched.
 */
import { tsToMs } from '@temporalio/common/lib/time.js';
import {
  registrationCure,
  searchAttributesOf,
} from '../../../pipelines/temporal/search-attributes.ts';
import { reasonAndHint } from '../../../schemas/failures.ts';
import type { Configuration } from '../../config/configuration.ts';
import { temporalLineages } from '../../config/connections.ts';

export interface TemporalFinding {
  name: 'Histories' | 'Search attributes';
  /**
   * `low`: something is eventually lost, or cannot be found. `unknown`: Temporal did not answer.
   */
  state: 'ok' | 'low' | 'unknown';
  found: string;
  /** The remedy; empty if none is needed. */
  mend: string;
}

/** Minimum number of days that unarchived histories should be kept. */
const RETENTION_DAYS_MIN = 30;
const DAY_MS = 24 * 3_600_000;
const ANSWER_WAIT_MS = 5_000;

/** Examines the namespace without changing it; `configuration` has the running addresses. */
export async function examineTemporal(configuration: Configuration): Promise<TemporalFinding[]> {
  const { address, namespace, searchAttributes, retentionDays } = configuration.temporal;
  const archive = configuration.archiveHistories;
  if (address === '')
    return [
      histories(retentionDays * DAY_MS, archive, 'the server that `errata up` starts'),
      attributes(searchAttributes ? '`errata up` registers them' : UNUSED),
    ];
  const temporal = temporalLineages(configuration);
  const { connection } = temporal.client;
  const answer = async (name: TemporalFinding['name'], ask: () => Promise<TemporalFinding>) => {
    try {
      return await connection.withDeadline(Date.now() + ANSWER_WAIT_MS, ask);
    } catch (error) {
      const found = `Temporal at ${address} does not answer`;
      return {
        name,
        state: 'unknown',
        found,
        mend: reasonAndHint(temporal.explained(error)),
      } as const;
    }
  };
  try {
    return await Promise.all([
      answer('Histories', async () => {
        const { config } = await connection.workflowService.describeNamespace({ namespace });
        const retention = config?.workflowExecutionRetentionTtl;
        return histories(retention ? tsToMs(retention) : 0, archive, `namespace ${namespace}`);
      }),
      answer('Search attributes', async () => {
        if (!searchAttributes) return attributes(UNUSED);
        const registration = await searchAttributesOf(connection, namespace, ANSWER_WAIT_MS);
        return registration.usable
          ? attributes(`registered in namespace ${namespace}`)
          : attributes(
              `missing or wrong in namespace ${namespace}: workflows cannot be searched`,
              registrationCure(registration, namespace),
            );
      }),
    ]);
  } finally {
    await temporal.close();
  }
}

const UNUSED = 'not used (ERRATA_TEMPORAL_SEARCH_ATTRIBUTES, or payload keys are set)';
const ARCHIVE =
  'Set ERRATA_ARCHIVE_HISTORIES=true, or extend the retention of the namespace ' +
  '(`temporal operator namespace update --retention 365d`).';

function attributes(found: string, mend = ''): TemporalFinding {
  return { name: 'Search attributes', state: mend === '' ? 'ok' : 'low', found, mend };
}

function histories(retentionMs: number, archive: boolean, keeper: string): TemporalFinding {
  const days = Math.round((10 * retentionMs) / DAY_MS) / 10;
  const later = archive ? 'and archived beside the versions' : 'and then lost';
  const short = !archive && retentionMs < RETENTION_DAYS_MIN * DAY_MS;
  return {
    name: 'Histories',
    state: short ? 'low' : 'ok',
    found: `kept ${days} day${days === 1 ? '' : 's'} by ${keeper}, ${later}`,
    mend: short ? ARCHIVE : '',
  };
}
