/**
 * The heartbeat of a long step, so that Temporal learns soon when the worker died, and the worker
 * when the step was cancelled. The model works in a thread of its own, so the process's event loop
 * is free to beat meanwhile.
 */
import { asyncLocalStorage, type Context } from '@temporalio/activity';

/** Far below any heartbeat timeout that a workflow would set. */
const BEAT_EVERY_MS = 2_000;

export interface Pulse {
  /**
   * Waits for the work, beating all the while with the latest details. Throws `CancelledFailure` as
   * soon as the step is cancelled, or its worker is to stop: the model may work on for a while, but
   * Temporal can already try elsewhere.
   */
  during<Result>(
    details: unknown,
    work: (tell: (details: unknown) => void) => Promise<Result>,
  ): Promise<Result>;
}

/** The pulse of the activity that is running; outside of Temporal nobody listens to it. */
export function pulseOfThisStep(): Pulse {
  // Taken here because a callback from the model's thread no longer runs in the activity's context.
  const context: Context | undefined = asyncLocalStorage.getStore();
  return {
    async during(details, work) {
      let latest = details;
      const beat = () => context?.heartbeat(latest);
      beat();
      const timer = setInterval(beat, BEAT_EVERY_MS);
      try {
        if (context === undefined) return await work(() => {});
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
