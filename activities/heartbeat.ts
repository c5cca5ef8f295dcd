/**
 * The heartbeat of a long step. Temporal learns quickly that a worker died, and the worker learns
 * that its step was cancelled. The model has its own thread, so the event loop stays free.
 */
import { asyncLocalStorage, type Context } from '@temporalio/activity';

/** Far below any heartbeat timeout that a workflow sets. */
const BEAT_EVERY_MS = 2_000;

export interface Heartbeat {
  /**
   * Waits for the work while sending heartbeats with the latest details. Throws `CancelledFailure`
   * as soon as the step is cancelled or its worker shuts down. The model may work on for a while,
   * but Temporal can already retry elsewhere.
   */
  during<Result>(
    details: unknown,
    work: (report: (details: unknown) => void) => Promise<Result>,
  ): Promise<Result>;
}

/** Returns the heartbeat of the running activity. Outside Temporal it does nothing. */
export function currentHeartbeat(): Heartbeat {
  // Taken now, because a callback from the model's thread runs outside the activity's context.
  const context: Context | undefined = asyncLocalStorage.getStore();
  return {
    async during(details, work) {
      if (context === undefined) return await work(() => {});
      let latest = details;
      const beat = () => context.heartbeat(latest);
      beat();
      const timer = setInterval(beat, BEAT_EVERY_MS);
      try {
        if (context.cancellationSignal.aborted) return await context.cancelled;
        const working = work((next) => {
          latest = next;
          beat();
        });
        // After a cancellation nobody handles the result.
        working.catch(() => {});
        return await Promise.race([working, context.cancelled]);
      } finally {
        clearInterval(timer);
      }
    },
  };
}

/**
 * Wraps each activity in a heartbeat. Without one, Temporal would notice that a worker died in a
 * short step only after the step's whole timeout.
 */
export function withHeartbeat<Activities extends object>(activities: Activities): Activities {
  const beating = Object.entries(activities).map(([name, activity]) => {
    const step = activity as (argument: unknown) => Promise<unknown>;
    return [
      name,
      (argument: unknown) => currentHeartbeat().during({ stage: name }, () => step(argument)),
    ];
  });
  return Object.fromEntries(beating) as Activities;
}
