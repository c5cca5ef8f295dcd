/** Sends a lineage's alerts in parallel with its other work; a failed alert delays nothing. */
import { log, proxyActivities } from '@temporalio/workflow';
import type { AlertActivities } from '../../activities/alert.ts';
import type { Alert } from '../../schemas/alert.ts';
import type { LineageState } from './lineage-state.ts';
import { reasonOf } from './failure-reason.ts';

const ALERTS_AT_ONCE_MAX = 4;

const { alert: tell } = proxyActivities<AlertActivities>({
  startToCloseTimeout: '1 minute',
  heartbeatTimeout: '10 seconds',
  // The run cannot continue as new before the alert is sent, so the wait is limited.
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

  /** Starts sending the waiting alerts. */
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
