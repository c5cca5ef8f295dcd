/** The activities, as proxies that the workflows call. */
import { proxyActivities, type RetryPolicy } from '@temporalio/workflow';
import type { AnnounceActivities } from '../../activities/announce.ts';
import type { EditActivities, LedgerActivities } from '../../activities/index.ts';
import { NOT_WORTH_A_RETRY } from '../../schemas/failures.ts';
import { editTaskQueue } from './contract.ts';

/** Retries without a limit: an outage passes, and must not cost a correction. */
const RETRY: RetryPolicy = {
  initialInterval: '1 second',
  backoffCoefficient: 2,
  maximumInterval: '1 minute',
  nonRetryableErrorTypes: [...NOT_WORTH_A_RETRY],
};

/** The activities that need only the version log and the topics. */
export const ledgerActivities = proxyActivities<LedgerActivities & AnnounceActivities>({
  startToCloseTimeout: '30 minutes',
  heartbeatTimeout: '10 seconds',
  retry: RETRY,
});

/** The activities that need the model of a lineage. */
export function editActivities(lineage: string): EditActivities {
  return proxyActivities<EditActivities>({
    taskQueue: editTaskQueue(lineage),
    startToCloseTimeout: '6 hours',
    heartbeatTimeout: '30 seconds',
    retry: RETRY,
  });
}
