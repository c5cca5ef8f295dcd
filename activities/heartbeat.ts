/**
 * The heartbeat of a long step: Temporal learns soon that a worker died, and the worker that its
 * step was cancelled. The model works in a thread of its own, so the event loop is free meanwhile.
 */
import { asyncLocalStorage, type Context } from '@temporalio/activity';

/** Far below any heartbeat timeout that a workflow sets. */
const BEAT_EVERY_MS = 2_000;

export interface Heartbeat {
  /**
   * Waits for the work and beats meanwhile with the latest details. Throws `CancelledFailure` as
   * soon as the step is cancelled or its worker shuts down: the model may work on for a while, but
   * Temporal can already try elsewhere.
   */
  during<Result>(
    details: unknown,
    work: (report: (details: unknown) => void) => Promise<Result>,
  ): Promise<Result>;
}

/** The heartbeat of the running activity; outside Temporal nothing receives it. */
export function currentHeartbeat(): Heartbeat {
  // Taken here because a callback from the model's thread no longer runs in the activity's context.
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
        // Once cancelled, nobody waits for how it ends.
        working.catch(() => {});
        return await Promise.race([working, context.cancelled]);
      } finally {
        clearInterval(timer);
      }
    },
  };
}

/**
 * Gives each activity a heartbeat while it works. Without one Temporal would miss a worker that was
 * killed during a short step until the step's whole timeout is over.
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
