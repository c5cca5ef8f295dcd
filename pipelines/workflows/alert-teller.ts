/** Sends a lineage's alerts beside its other work: one that fails holds nothing up. */
import { log, proxyActivities } from '@temporalio/workflow';
import type { AlertActivities } from '../../activities/alert.ts';
import type { Alert } from '../../schemas/alert.ts';
import type { LineageState } from './lineage-state.ts';
import { reasonOf } from './failure-reason.ts';

const ALERTS_AT_ONCE_MAX = 4;

const { alert: tell } = proxyActivities<AlertActivities>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout: '10 seconds',
  // The run cannot be continued as a new one before: it may not take longer than a night's outage
  // is worth.
  scheduleToCloseTimeout: '1 hour',
  retry: {
    initialInterval: '2 seconds',
    backoffCoefficient: 2,
    maximumInterval: '5 minutes',
    maximumAttempts: 20,
  },
});

export class AlertTeller {
  #telling = 0;

  constructor(private readonly state: LineageState) {}

  /** True once every alert was sent or given up. */
  get isDone(): boolean {
    return this.#telling === 0 && !this.state.alertsWait;
  }

  /** Begins to tell what waits. */
  tell(): void {
    while (this.state.alertsWait && this.#telling < ALERTS_AT_ONCE_MAX)
      void this.#tellOne(this.state.takeAlert()!);
  }

  async #tellOne(alert: Alert): Promise<void> {
    this.#telling++;
    try {
      await tell(alert);
    } catch (error) {
      log.error('An alert could not be sent', {
        lineage: alert.lineage,
        alert: alert.id,
        reason: reasonOf(error),
      });
    } finally {
      this.#telling--;
      this.tell();
    }
  }
}
